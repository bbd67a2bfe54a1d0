"""The checker of the worked examples against a history that somebody has tampered with."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from horae import testing
from tests.faults.history import Row
from tests.faults.oracle import micros
from tests.faults.sagas.check import Checked, Left

ROOT = Path(__file__).parents[2]
POSITION = "yield-position"


@pytest.fixture
async def run(monkeypatch, tmp_path):
    """What is left of three positions: confirmed, unwound, cancelled; with a kill in the midst of them."""
    monkeypatch.setenv("SAGAS_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT)
    app = import_module("examples.sagas.trading").app
    app.schedules = {POSITION: app.schedules[POSITION]}
    intents = []
    async with testing.engine(app) as engine:
        for id_, type_, told in (
            ("a", "position.wanted", {"pool": "a"}),
            ("b", "position.wanted", {"pool": "b"}),
            ("c", "position.wanted", {"pool": "c"}),
            ("d", "position.confirmed", {"ticket": "t-a", "rate": 0.04}),
        ):
            reply = await engine.publish_event(type_, told, id=id_)
            intent = {"op": "event.publish", "event": id_, "type": type_, "outcome": "ok"}
            intents.append(intent | {"reply": reply})
            await engine.advance("1 second")
        for each in (await engine.list_executions(schedule_id=POSITION))["executions"]:
            shown = await engine.get_execution(each["id"])
            if shown["trigger"]["id"] == "c":
                await engine.command("execution.cancel", {"id": each["id"]})
        await engine.advance("1 hour")
        rows = []
        for position, each in enumerate(engine.log(), 1):
            data = json.loads(each.state)
            at = micros(data["at"])
            stream = each.stream.replace("-", "")
            rows.append(Row(position, at, stream, each.version, each.name, data))
    base = import_module("examples.sagas.base")
    done = base._database().execute("SELECT id, kind, text FROM done").fetchall()
    notes = [{"what": "start", "execution": id_, "text": text} for id_, _, text in done]
    end = rows[-1].at / 1e6
    faults = [
        {"what": "kill", "target": "engine", "at": rows[0].at / 1e6 + 30},
        {"what": "frontier", "wall": end},
        {"what": "stopped", "wall": end, "codes": {}},
    ]
    yield Left(rows, notes, intents, faults, done)
    for name in [name for name in sys.modules if name.split(".")[0] == "examples"]:
        del sys.modules[name]


def violations(run):
    """The kinds of what is wrong, but for examples that were not run."""
    checked = Checked(run)
    checked.all()
    return checked.report()["violations"].keys() - {"unmet"}


def without(run, name):
    """The run as if an event of that name had never been stored."""
    first = next(row for row in run.rows if row.name == name)
    return run._replace(rows=[row for row in run.rows if row is not first])


def test_sound_run_is_sound_and_its_waits_are_counted(run):
    assert violations(run) == set()
    table = {each["wait"]: each for each in Checked(run).report()["waits"]}
    assert table["confirmation"]["ends"] == {"confirmed": 1, "timed out": 1, "cancelled": 1}
    assert table["confirmation"]["hit"] == 1
    assert table["confirmation"]["first"] == "engine at 29.0 of 600.0 s: timed out"


def test_wait_without_a_kill_is_seen(run):
    checked = Checked(run._replace(faults=run.faults[1:]))
    checked.all()
    assert "no kill fell into a confirmation of yield-position" in checked.findings.found["unmet"]


def test_confirmation_that_was_lost_is_seen(run):
    rows = [
        row._replace(name="execution.confirmation_timed_out.v1")
        if row.name == "execution.confirmed.v1"
        else row
        for row in run.rows
    ]
    assert "wrong" in violations(run._replace(rows=rows))


def test_wait_that_ends_twice_is_seen(run):
    (one,) = [row for row in run.rows if row.name == "execution.confirmed.v1"]
    rows = [*run.rows[: one.position], one, *run.rows[one.position :]]
    assert "twice" in violations(run._replace(rows=rows))


def test_wait_that_never_ends_is_seen(run):
    id_ = next(row.stream for row in run.rows if row.name == "execution.cancelled.v1")
    rows = [row for row in run.rows if row.stream != id_ or row.name != "execution.cancelled.v1"]
    assert "lost" in violations(run._replace(rows=rows))


def test_event_without_its_execution_is_seen(run):
    id_ = next(row.stream for row in run.rows if row.name == "execution.requested.v1")
    rows = [row for row in run.rows if row.stream != id_]
    assert "lost" in violations(run._replace(rows=rows))


def test_answered_event_that_is_not_stored_is_seen(run):
    assert "acked_lost" in violations(without(run, "external_event.received.v1"))


def test_effect_that_is_missing_doubled_or_another_is_seen(run):
    (id_, kind, text), *others = run.done
    for done in (others, [*run.done, (id_, kind, text)], [(id_, kind, "else"), *others]):
        assert "effect" in violations(run._replace(done=done))


def test_effect_of_nobody_is_seen(run):
    assert "ghost" in violations(run._replace(notes=[]))
