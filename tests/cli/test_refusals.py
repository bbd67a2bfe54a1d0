"""What is refused: the reason on standard error with code and field, exit 1, nothing left behind."""

from __future__ import annotations

import json

import pytest

CRON = {"type": "cron", "expression": "0 2 * * *"}
ECHO = {"type": "function", "name": "echo"}


def definition(**fields):
    return {"id": "refused", "trigger": CRON, "action": ECHO} | fields


REFUSED = {
    "bad cron line": (definition(trigger=CRON | {"expression": "61 * * * *"}), "invalid_trigger", "trigger.expression"),
    "unknown zone": (definition(trigger=CRON | {"timezone": "Mars/Base"}), "invalid_trigger", "trigger.timezone"),
    "naive instant": (definition(trigger={"type": "once", "at": "2030-01-01T00:00:00"}), "invalid_trigger", "trigger.at"),
    "past instant": (definition(trigger={"type": "once", "at": "2020-01-01T00:00:00Z"}), "invalid_trigger", "trigger.at"),
    "unknown handler": (definition(action=ECHO | {"name": "nobody"}), "unknown_handler", "action.name"),
    "large payload": (definition(payload="x" * 1_100_000), "payload_too_large", "payload"),
    "unknown field": (definition(colour="red"), "invalid_field", "colour"),
    "bad id": (definition(id="no spaces"), "invalid_field", "id"),
    "no trigger": ({"id": "refused", "action": ECHO}, "invalid_trigger", "trigger"),
    "id of another schedule": (definition(id="tick"), "schedule_exists", "id"),
    "broken JSON": ('{"id": "refused", ', "invalid_field", None),
    "no object": ("[]", "invalid_field", None),
    "empty file": ("", "invalid_field", "--file"),
}  # fmt: skip


@pytest.fixture
def schedules(horae, until):
    """The ids of all schedules, once the views have seen what was sent before."""

    def level():
        said = horae("health", "--json")
        return said.code == 0 and said.document["components"]["views"]["lag"] == 0

    def ids():
        until(level)
        said = horae("schedule", "list", "--limit", "1000", "--json").document
        return {each["id"] for each in said["schedules"]}

    return ids


@pytest.mark.parametrize("case", REFUSED)
def test_definition_is_refused_with_code_and_field(case, horae, write, schedules):
    content, code, field = REFUSED[case]
    before = schedules()
    said = horae("schedule", "create", "-f", write(content), "--json")
    assert said.code == 1
    assert said.document["ok"] is False
    assert said.document["error"]["code"] == code
    assert said.document["error"].get("field") == field
    assert said.err.startswith(f"horae: {code}{f' ({field})' if field else ''}: ")
    assert said.err.count("\n") == 1
    assert schedules() == before


def test_reason_alone_is_printed_without_json(horae, write):
    said = horae("schedule", "create", "-f", write(definition(colour="red")))
    assert said.out == ""
    assert said.err == "horae: invalid_field (colour): unknown field [red]\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("schedule", "show", "nobody"), "schedule_not_found"),
        (("schedule", "pause", "nobody"), "schedule_not_found"),
        (("schedule", "trigger", "nobody"), "schedule_not_found"),
        (("schedule", "history", "nobody"), "schedule_not_found"),
        (("execution", "show", "00000000-0000-0000-0000-000000000000"), "execution_not_found"),
        (("execution", "cancel", "00000000-0000-0000-0000-000000000000"), "execution_not_found"),
        (("execution", "show", "no-id"), "invalid_field"),
        (("schedule", "list", "--limit", "0"), "invalid_field"),
        (("schedule", "list", "--cursor", "nonsense"), "invalid_field"),
        (("schedule", "list", "--status", "asleep"), "invalid_field"),
        (("schedule", "trigger", "tick", "--payload", "{"), "invalid_field"),
        (("schedule", "list", "--tenant", "a.b"), "invalid_field"),
        (("schedule", "create", "-f", "/nowhere"), "file_unreadable"),
        (("import", "crontab", "/nowhere"), "file_unreadable"),
    ],
)
def test_request_is_refused(arguments, code, horae):
    said = horae(*arguments, "--json")
    assert said.code == 1
    assert said.document["error"]["code"] == code
    assert said.err.startswith(f"horae: {code}")
    assert horae(*arguments).out == ""


def test_update_of_another_revision_or_another_id_is_refused(horae, write):
    file = write(definition(id="tick"))
    said = horae("schedule", "update", "tick", "-f", file, "--expected-revision", "7", "--json")
    assert said.document["error"]["code"] == "revision_conflict"
    said = horae("schedule", "update", "other", "-f", file, "--json")
    assert said.document["error"] == {
        "code": "invalid_field", "message": "the file is of another schedule",
        "field": "id", "value": "tick",
    }  # fmt: skip


def test_patch_of_another_revision_or_to_another_id_is_refused(horae, write):
    said = horae(
        "schedule", "patch", "tick", "--set", "tags=[]", "--expected-revision", "7", "--json"
    )
    assert said.document["error"]["code"] == "revision_conflict"
    said = horae("schedule", "patch", "tick", "-f", write({"id": "tock"}), "--json")
    assert (said.document["error"]["code"], said.document["error"]["field"]) == (
        "invalid_field",
        "id",
    )


@pytest.mark.parametrize(
    "settings", [["tags"], ["=1"], ["retry.=1"], ["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]]
)
def test_settings_that_are_none_are_refused(settings, horae):
    told = [part for setting in settings for part in ("--set", setting)]
    said = horae("schedule", "patch", "tick", *told, "--json")
    assert (said.document["error"]["code"], said.document["error"]["field"]) == (
        "invalid_field",
        "--set",
    )
    assert said.document["error"]["value"] == settings[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("schedule", "show"),
        ("schedule", "patch", "tick"),
        ("schedule", "patch", "tick", "-f", "-", "--set", "tags=[]"),
        ("schedule", "frobnicate"),
        ("schedule", "preview"),
        ("schedule", "list", "--limit", "many"),
        ("serve", "--roles", "engine,cook"),
        ("dev", "--colour"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, command):
    said = command(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert "Error" in said.err


def test_without_an_engine_the_way_to_one_is_told(command):
    said = command("schedule", "list", "--json")
    assert said.code == 1
    assert said.document["error"]["code"] == "no_engine"
    assert "horae dev" in said.err


def test_engine_that_does_not_answer_is_unavailable(command):
    said = command("schedule", "list", "--nats", "nats://127.0.0.1:1", "--json")
    assert said.code == 1
    assert said.document["error"]["code"] == "unavailable"


def test_file_left_by_a_process_that_died_is_ignored(command, tmp_path):
    (tmp_path / ".horae").mkdir()
    facts = {"nats_url": "nats://127.0.0.1:1", "pid": 1}
    (tmp_path / ".horae" / "dev.json").write_text(json.dumps(facts))
    assert command("schedule", "list", "--json").document["error"]["code"] == "no_engine"


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("nowhere", "ModuleNotFoundError"),
        ("nowhere.py", "there is no file"),
        ("wrong.py", "has no Horae object 'app'"),
        ("wrong.py:number", "has no Horae object 'number'"),
        ("broken.py", "ZeroDivisionError"),
    ],
)
def test_application_that_cannot_be_loaded_is_refused(app, reason, command, tmp_path):
    (tmp_path / "wrong.py").write_text("number = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    said = command("dev", app, "--json")
    assert said.code == 1
    assert said.document["error"]["code"] == "app_not_found"
    assert reason in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / ".horae").exists()


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("HORAE_CONCURRENCY", "0", "concurrency"),
        ("HORAE_CONCURRENCY", "many", "concurrency"),
        ("HORAE_LOG", "loud", "log"),
        ("HORAE_TENANT", "a b", "tenant"),
        ("HORAE_STOP_LIMIT", "-1", "stop_limit"),
    ],
)
def test_setting_out_of_bounds_is_refused_when_the_process_starts(
    variable, value, field, command, monkeypatch
):
    monkeypatch.setenv(variable, value)
    said = command("config", "--json")
    assert said.code == 1
    assert said.document["error"]["field"] == field


def test_serve_needs_a_nats_server(command):
    assert command("serve", "--json").document["error"]["field"] == "nats_url"


@pytest.mark.parametrize("url", ["mysql://db", "nonsense", "sqlite:x.db"])
def test_store_of_an_unknown_kind_is_refused(url, command):
    said = command("dev", "--store", url, "--json")
    assert said.code == 1
    assert said.document["error"]["field"] == "store_url"


def test_views_of_an_unknown_kind_are_refused(command, monkeypatch):
    monkeypatch.setenv("HORAE_REDIS_URL", "memcached://db")
    assert command("dev", "--json").document["error"]["field"] == "redis_url"
