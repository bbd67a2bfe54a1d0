"""`horae occurrence …` and `horae schedule skip` against an engine that runs."""

from __future__ import annotations

import uuid

import pytest


@pytest.fixture
def daily(horae, write, until):
    """The id of a schedule that fires each night, and its next instants."""
    content = {
        "id": f"o-{uuid.uuid4().hex[:8]}",
        "trigger": {"type": "cron", "expression": "0 2 * * *"},
        "action": {"type": "function", "name": "echo"},
    }
    assert horae("schedule", "create", "-f", write(content)).code == 0
    until(lambda: horae("schedule", "show", content["id"]).code == 0)
    shown = horae("schedule", "preview", content["id"], "-n", "5", "--json").document
    return content["id"], shown["next"]


def test_occurrences_are_planned_and_shown(horae, daily, until):
    id_, (first, second, third, fourth, fifth) = daily
    skipped = horae("schedule", "skip", id_, "--at", first, "--note", "holiday", "--json")
    assert skipped.document["at"] == first.replace("+00:00", "Z")
    to = second.replace("T02:00", "T05:00")
    moved = horae("occurrence", "move", id_, "--at", second, "--to", to)
    assert f"{id_}: active" in moved.out
    assert horae("occurrence", "hold", id_, "--at", third).code == 0
    assert horae("occurrence", "approve", id_, "--at", third).code == 0
    assert horae("occurrence", "hold", id_, "--at", fourth).code == 0
    assert horae("occurrence", "approve", id_, "--at", fourth, "--reject").code == 0
    told = ("--at", fifth, "--payload", '{"n": 2}')
    assert horae("occurrence", "set-payload", id_, *told).code == 0
    assert horae("occurrence", "skip", id_, "--at", second, "--json").code == 0
    assert horae("occurrence", "approve", id_, "--at", second, "--json").code == 0

    def shown():
        out = horae("schedule", "show", id_).out
        return out if "payload of its own" in out and out.count("approved") > 1 else None

    out = until(shown)
    assert "skipped by" in out
    assert ": holiday" in out
    assert "moved to" in out
    preview = horae("schedule", "preview", id_, "--json").document
    assert preview["next"][0] == to
    history = horae("schedule", "history", id_, "--status", "planned").out
    assert history.count("planned") == 9
    assert "note=holiday" in history


def test_what_is_no_occurrence_is_refused_with_the_nearest(horae, daily):
    id_, (first, *_) = daily
    wrong = first.replace("T02:00", "T02:01")
    said = horae("occurrence", "skip", id_, "--at", wrong, "--json")
    assert said.code == 1
    assert said.document["error"]["nearest"][0] == first.replace("+00:00", "Z")
    assert horae("occurrence", "set-payload", id_, "--at", first, "--payload", "{").code == 1


def test_a_past_window_is_run_again(horae, write, until):
    content = {
        "id": f"b-{uuid.uuid4().hex[:8]}",
        "trigger": {"type": "cron", "expression": "0 * * * *"},
        "action": {"type": "function", "name": "echo"},
    }
    assert horae("schedule", "create", "-f", write(content)).code == 0
    id_ = content["id"]
    window = ("--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T02:30:00Z")
    said = horae("schedule", "backfill", id_, *window, "--dry-run")
    assert "3 occurrences would run again, the first of 2026-01-05T00:00:00Z" in said.out
    answer = horae("schedule", "backfill", id_, *window, "--overlap", "allow", "--json").document
    assert answer["count"] == 3
    assert "run again by backfill" in horae("schedule", "backfill", id_, *window).out

    def ran():
        out = horae("schedule", "history", id_, "--status", "succeeded", "--json").document
        return out if out["total"] == 6 else None

    done = until(ran)["history"]
    assert {run["due"] for run in done} == {f"2026-01-05T0{hour}:00:00Z" for hour in range(3)}
    assert answer["backfill_id"] in {run["backfill_id"] for run in done}
