"""Every command against an engine that runs, with its table and its document."""

from __future__ import annotations

import io
import json
import uuid
from datetime import datetime
from pathlib import Path

import pytest


def definition(**fields):
    return {
        "id": f"s-{uuid.uuid4().hex[:8]}",
        "trigger": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"},
        "action": {"type": "function", "name": "echo"},
        "payload": {"n": 1},
    } | fields


@pytest.fixture
def created(horae, write, until):
    """The id of a schedule made for this test, which the views know."""
    content = definition()
    assert horae("schedule", "create", "-f", write(content)).code == 0
    until(lambda: horae("schedule", "show", content["id"]).code == 0)
    return content["id"]


def ended(horae, until, execution_id):
    """The execution, once it has ended."""

    def look():
        said = horae("execution", "show", execution_id, "--json")
        if said.code:
            return None
        return said.document if said.document["status"] in {"succeeded", "failed"} else None

    return until(look)


# --- schedules ------------------------------------------------------------------------------------


def test_schedule_is_created_from_a_file_and_again_without_effect(horae, write):
    file = write(definition(id="nightly"))
    first = horae("schedule", "create", "-f", file, "--json")
    again = horae("schedule", "create", "-f", file, "--json")
    assert first.code == again.code == 0
    assert first.document["id"] == "nightly"
    assert first.document["revision"] == again.document["revision"] == 1
    assert "nightly: active, revision 1, next 20" in horae("schedule", "create", "-f", file).out


def test_schedule_is_created_from_standard_input(horae, monkeypatch):
    content = definition()

    class Standard:
        buffer = io.BytesIO(json.dumps(content).encode())

    monkeypatch.setattr("sys.stdin", Standard)
    assert horae("schedule", "create", "-f", "-", "--json").document["id"] == content["id"]


def test_list_shows_schedules_and_their_pages(horae, created):
    assert created in horae("schedule", "list").out
    page = horae("schedule", "list", "--limit", "1", "--json").document
    assert len(page["schedules"]) == 1
    assert page["total"] > 1
    text = horae("schedule", "list", "--limit", "1").out
    assert text.endswith(
        f"1 of {page['total']} schedules; for the next page:\n--cursor {page['cursor']}\n"
    )
    following = horae("schedule", "list", "--limit", "1", "--cursor", page["cursor"], "--json")
    assert following.document["schedules"][0]["id"] != page["schedules"][0]["id"]


def test_list_is_filtered(horae):
    document = horae("schedule", "list", "--type", "manual", "--name", "breaks", "--json").document
    assert [each["id"] for each in document["schedules"]] == ["broken"]
    document = horae("schedule", "list", "--tag", "often", "--tag", "nobody", "--json").document
    assert [each["id"] for each in document["schedules"]] == ["tick"]
    document = horae(
        "schedule", "list", "--handler", "tick", "--all-tags", "often", "--json"
    ).document
    assert [each["id"] for each in document["schedules"]] == ["tick"]
    document = horae("schedule", "list", "--next-to", "2020-01-01T00:00:00Z", "--json").document
    assert document["total"] == 0
    assert horae("schedule", "list", "--created-by", "nobody", "--json").document["total"] == 0
    assert horae("schedule", "list", "--status", "cancelled", "--tag", "none").out.endswith(
        "no schedules\n"
    )


def test_show_tells_state_next_instants_and_last_runs(horae, until):
    until(lambda: "succeeded" in horae("schedule", "show", "tick").out)
    text = horae("schedule", "show", "tick").out
    assert "trigger   every 500ms\n" in text
    assert "action    function tick\n" in text
    document = horae("schedule", "show", "tick", "--json").document
    assert len(document["next"]) == 5
    assert document["executions"]


def test_preview_of_a_schedule_and_of_a_file_have_the_offsets_of_the_zone(horae, created, write):
    by_id = horae("schedule", "preview", created, "-n", "3", "--from", "2026-12-01T00:00:00Z")
    assert by_id.out.splitlines() == [
        "2026-12-01T02:00:00+01:00",
        "2026-12-02T02:00:00+01:00",
        "2026-12-03T02:00:00+01:00",
    ]
    for content in (definition(), definition()["trigger"]):
        by_file = horae(
            "schedule", "preview", "-f", write(content), "-n", "3", "--json",
            "--from", "2026-12-01T00:00:00Z",
        )  # fmt: skip
        assert by_file.document["next"] == by_id.out.splitlines()


def test_update_replaces_the_definition(horae, created, write, until):
    file = write(definition(id=created, trigger={"type": "manual"}))
    said = horae("schedule", "update", created, "-f", file, "--expected-revision", "1", "--json")
    assert said.document["revision"] == 2
    until(lambda: "trigger   manual" in horae("schedule", "show", created).out)


def test_patch_changes_what_is_set_or_in_a_file(horae, created, write, until):
    said = horae(
        "schedule", "patch", created, "--set", "retry.max_attempts=2", "--set", "description=two words",
        "--set", 'tags=["a"]', "--expected-revision", "1", "--json",
    )  # fmt: skip
    assert said.document["revision"] == 2
    said = horae("schedule", "patch", created, "-f", write({"tags": None, "payload": {"m": 2}}))
    assert said.out.startswith(f"{created}: active, revision 3, next ")
    shown = until(
        lambda: (
            (shown := horae("schedule", "show", created, "--json").document)["revision"] == 3
            and shown
        )
    )
    assert shown["retry"]["max_attempts"] == 2
    assert (shown["description"], shown["tags"]) == ("two words", [])
    assert shown["payload"] == {"n": 1, "m": 2}


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ({"type": "queue", "queue": "mail"}, "queue mail"),
        ({"type": "command", "service": "a.b", "command": "Run"}, "command a.b.Run"),
        ({"type": "process", "command": ["/bin/ls", "-l"]}, "process /bin/ls -l"),
    ],
)
def test_show_tells_what_is_done(horae, write, until, action, text):
    content = definition(action=action)
    said = horae("schedule", "create", "-f", write(content), "--allow-unknown", "--json")
    assert said.code == 0, said.err
    assert f"action    {text}" in until(lambda: horae("schedule", "show", content["id"]).out)


def test_pause_resume_and_cancel_change_the_status(horae, created, until):
    assert horae("schedule", "pause", created, "--note", "audit", "--json").document["ok"]
    until(lambda: "note      audit" in horae("schedule", "show", created).out)
    assert horae("schedule", "resume", created).out.startswith(f"{created}: active")
    assert horae("schedule", "cancel", created).out.startswith(f"{created}: cancelled")
    text = until(
        lambda: (text := horae("schedule", "history", created).out).count("\n") > 3 and text
    )
    assert "paused" in text
    assert "reason=audit" in text


def test_trigger_runs_with_another_payload_once_for_a_key(horae, created, until):
    arguments = ("schedule", "trigger", created, "--payload", '{"n": 2}', "--key", "k-1")
    first = horae(*arguments, "--json").document
    again = horae(*arguments).out
    assert again.startswith(f"execution {first['execution_id']}: ")
    assert ended(horae, until, first["execution_id"])["result"] == {"n": 2}


def test_trigger_can_override_the_payload_with_null(horae, created, until):
    said = horae("schedule", "trigger", created, "--payload", "null", "--json").document
    assert ended(horae, until, said["execution_id"])["result"] is None


def test_history_shows_runs(horae, created, until):
    said = horae("schedule", "trigger", created, "--json").document
    ended(horae, until, said["execution_id"])
    text = horae("schedule", "history", created, "--status", "succeeded").out
    assert said["execution_id"] in text
    document = horae("schedule", "history", created, "--json").document
    assert said["execution_id"] in {each.get("id") for each in document["history"]}


# --- executions -----------------------------------------------------------------------------------


def test_execution_is_listed_shown_and_has_logs(horae, until):
    id_ = horae("schedule", "trigger", "broken", "--json").document["execution_id"]
    ended(horae, until, id_)
    assert id_ in horae("execution", "list", "--schedule", "broken", "--status", "failed").out
    document = horae("execution", "list", "--schedule", "broken", "--json").document
    assert id_ in {each["id"] for each in document["executions"]}
    text = horae("execution", "show", id_).out
    assert "status       failed" in text
    assert "ValueError: it is broken" in text
    logs = horae("execution", "logs", id_).out
    assert "warning: about to break  attempt=1" in logs
    assert 'raise ValueError("it is broken")' in logs
    document = horae("execution", "logs", id_, "--json").document
    assert document["logs"][0]["message"] == "about to break"


def test_execution_that_waits_for_a_retry_is_cancelled(horae, until):
    id_ = horae("schedule", "trigger", "patient", "--json").document["execution_id"]

    def delayed():
        rows = horae("timers", "list", "--kind", "retry", "--schedule", "patient", "--json")
        return [each for each in rows.document["timers"] if each["execution_id"] == id_]

    until(delayed)
    assert id_ in horae("timers", "list", "--schedule", "patient").out
    said = horae("execution", "cancel", id_, "--reason", "tired of it")
    assert said.out == f"execution {id_}: cancelled\n"
    text = until(lambda: (t := horae("execution", "show", id_).out).count("tired of it") and t)
    assert "cancelled" in text


def test_execution_that_waits_gets_another_priority(horae, write, until):
    content = definition(id="queued", trigger={"type": "manual"}, overlap="buffer_all")
    content |= {"action": {"type": "queue", "queue": "nobody-pulls"}}
    assert horae("schedule", "create", "-f", write(content)).code == 0
    horae("schedule", "trigger", "queued")
    said = horae("schedule", "trigger", "queued", "--json").document
    assert said["status"] == "buffered"
    id_ = said["execution_id"]
    text = horae("execution", "reprioritize", id_, "high").out
    assert text == f"execution {id_}: buffered, priority high\n"
    listed = ("execution", "list", "--schedule", "queued", "--status", "buffered", "--json")
    until(lambda: [r["priority"] for r in horae(*listed).document["executions"]] == ["high"])
    assert "priority     high" in horae("execution", "show", id_).out
    assert horae("execution", "reprioritize", id_, "low", "--json").document["priority"] == "low"
    assert horae("execution", "reprioritize", id_, "urgent").err.startswith("horae: invalid_field")
    horae("schedule", "cancel", "queued")


def test_definition_is_validated_without_being_created(horae, write):
    fine = definition(id="fine", trigger={"type": "cron", "expression": "*/7 * * * *"})
    said = horae("schedule", "validate", "-f", write(fine))
    assert said.code == 0
    first, warning, *_, coming = said.out.splitlines()
    assert (first, coming[:8]) == ("fine: valid", "  next: ")
    assert warning.startswith("  warning: uneven_step (trigger.expression): ")
    wrong = write({"schedules": [fine, fine | {"id": "wrong", "priority": "urgent"}]})
    said = horae("schedule", "validate", "-f", wrong, "--json")
    assert (said.code, said.document["valid"]) == (1, False)
    assert [each["valid"] for each in said.document["results"]] == [True, False]
    assert horae("schedule", "show", "fine").code == 1


def test_lists_are_narrowed_by_time_queue_and_trigger(horae, write, until):
    content = definition(id="narrow", trigger={"type": "manual"}, queue="narrow")
    before = "2020-01-01T00:00:00Z"
    assert horae("schedule", "create", "-f", write(content)).code == 0
    id_ = horae("schedule", "trigger", "narrow", "--json").document["execution_id"]
    ours = ("execution", "list", "--queue", "narrow", "--kind", "manual,backfill", "--json")
    found = until(lambda: horae(*ours).document["executions"])
    assert [each["id"] for each in found] == [id_]
    assert horae(*ours, "--from", before).document["total"] == 1
    assert horae(*ours, "--to", before).document["total"] == 0
    assert horae("execution", "list", "--kind", "yearly").err.startswith("horae: invalid_field")
    listed = ("schedule", "list", "--name", "narrow", "--json")
    assert horae(*listed, "--created-from", before).document["total"] == 1
    assert horae(*listed, "--created-to", before).document["total"] == 0
    assert horae(*listed, "--next-from", before).document["total"] == 0
    history = ("schedule", "history", "narrow", "--json")
    assert horae(*history, "--from", before).document["total"] == 1
    assert horae(*history, "--to", before).document["total"] == 0
    assert "trace_id" in horae("execution", "show", id_).out
    horae("schedule", "cancel", "narrow")


# --- the rest -------------------------------------------------------------------------------------


def test_timers_are_listed_soonest_first(horae):
    rows = horae("timers", "list", "--json").document["timers"]
    assert [row["due"] for row in rows] == sorted(row["due"] for row in rows)
    assert "DUE" in horae("timers", "list", "--limit", "1").out


def test_timers_are_moved_and_cancelled_by_name(horae, write, until):
    trigger = {"type": "cron", "expression": "0 0 1 1 *"}
    assert (
        horae("schedule", "create", "-f", write(definition(id="yearly", trigger=trigger))).code == 0
    )
    listed = ("timers", "list", "--schedule", "yearly", "--kind", "schedule", "--json")
    (timer,) = until(lambda: horae(*listed).document["timers"])
    to = timer["due"].replace("-01T", "-02T")
    said = horae("timers", "move", timer["id"], "--to", to, "--note", "holiday")
    assert said.out == f"timer {timer['id']}: occurrence, due {to}, active\n"
    moved = (*listed, "--from", to, "--to", to)
    assert until(lambda: horae(*moved).document["timers"])[0]["id"] == timer["id"]
    assert horae("timers", "cancel", timer["id"], "--json").document["due"] is None
    assert horae("timers", "cancel", "yearly").err.startswith("horae: invalid_field")
    horae("schedule", "cancel", "yearly")


def test_health_shows_components(horae, until):
    until(lambda: horae("health", "--json").document["status"] == "healthy")  # slow is not healthy
    text = until(lambda: (text := horae("health").out).startswith("status  healthy\n") and text)
    assert "partitions=64" in text


def test_config_shows_every_setting_and_hides_secrets(command, monkeypatch):
    monkeypatch.setenv("HORAE_STORE_URL", "postgresql://me:s3cr3t@db/horae")
    said = command("config", "--json")
    assert "s3cr3t" not in said.out
    shown = said.document["settings"]["store_url"]
    assert shown["variable"] == "HORAE_STORE_URL"
    assert shown["value"] == "postgresql://me:***@db/horae"
    text = command("config").out
    assert "HORAE_STORE_URL" in text
    assert "s3cr3t" not in text


def test_version_is_that_of_the_package(command):
    from horae import __version__

    assert command("version").out.startswith(f"horae {__version__} ")
    assert command("version", "--json").document["version"] == __version__


def test_tenants_do_not_see_one_another(horae, created):
    assert horae("schedule", "show", created, "--tenant", "others").code == 1


def test_wide_table_is_whole_in_a_pipe_and_fits_a_narrow_terminal(horae, write, monkeypatch, until):
    content = definition(id="long-" + "x" * 100)
    horae("schedule", "create", "-f", write(content))
    until(lambda: content["id"] in horae("schedule", "list").out)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = horae("schedule", "list").out
    assert max(map(len, narrow.splitlines())) <= 80
    whole = "".join(line.split()[0] for line in narrow.splitlines() if line.strip())
    assert content["id"] in whole
    assert "\x1b" not in narrow


def test_instants_in_documents_have_an_offset(horae):
    document = horae("schedule", "show", "tick", "--json").document
    assert datetime.fromisoformat(document["created_at"]).utcoffset() is not None


def test_reference_describes_the_commands_as_they_are():
    import runpy

    root = Path(__file__).parents[2]
    written = (root / "docs" / "reference" / "cli.md").read_text()
    assert runpy.run_path(str(root / "scripts" / "cli_reference.py"))["reference"]() == written


def test_bulk_changes_all_that_match_after_a_dry_run(horae, write):
    for name in ("bulk-1", "bulk-2"):
        assert (
            horae("schedule", "create", "-f", write(definition(id=name, tags=["bulk"]))).code == 0
        )
    told = horae("schedule", "bulk", "pause", "--tag", "bulk", "--dry-run").out
    assert told == "2 match, 2 would change, 0 failed\n"
    done = horae("schedule", "bulk", "pause", "--filter", '{"tags": ["bulk"]}', "--json").document
    assert (done["changed"], done["ids"]) == (2, ["bulk-1", "bulk-2"])
    retagged = horae(
        "schedule", "bulk", "retag", "--tag", "bulk", "--add", "done", "--remove", "bulk"
    )
    assert retagged.out == "2 match, 2 changed, 0 failed\n"
    assert (
        horae("schedule", "bulk", "cancel", "--tag", "bulk").out == "0 match, 0 changed, 0 failed\n"
    )
    assert horae("schedule", "bulk", "cancel").code == 2
    told = horae("schedule", "bulk", "pause", "--all", "--dry-run", "--json").document
    assert (told["dry_run"], told["matched"] >= 2) == (True, True)
    assert horae("schedule", "bulk", "cancel", "--filter", "[]").code == 1
