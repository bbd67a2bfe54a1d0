"""Definitions: what is accepted, what is refused with which field, and the canonical form."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from histories import MINUTELY, at

from horae_domain.complaints import field_path
from horae_domain.definition import parse_definition, restore_definition, size_of
from horae_domain.errors import InvalidField, InvalidTrigger, PayloadTooLarge
from horae_domain.fields import MAX_PAYLOAD
from horae_domain.policies import Overlap, Priority

MINIMAL: dict[str, Any] = {
    "id": "job",
    "trigger": {"type": "manual"},
    "action": {"type": "function", "name": "work"},
}
FULL: dict[str, Any] = {
    "id": "nightly-report",
    "name": "Nightly report",
    "tags": ["reports"],
    "metadata": {},
    "trigger": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"},
    "action": {"type": "function", "name": "build_report"},
    "payload": {"day": "yesterday"},
    "description": "",
    "enabled": True,
    "requires": [],
    "calendars": [],
    "overlap": "skip",
    "catch_up": {"mode": "latest", "window": "5 minutes"},
    "dst": {"gap": "edge", "overlap": "first"},
    "retry": {
        "max_attempts": 4,
        "delay": "1 minute",
        "backoff": 2.0,
        "max_delay": "30 minutes",
        "jitter": 0.1,
        "non_retryable": [],
    },
    "timeout": {
        "start_to_close": "5 minutes",
        "schedule_to_start": None,
        "overall": None,
        "heartbeat": None,
    },
    "cooldown": None,
    "pause_on_failures": None,
    "priority": "medium",
    "queue": "default",
    "concurrency": 1,
    "concurrency_key": None,
    "start_at": None,
    "end_at": None,
    "max_executions": None,
    "jitter": "0s",
    "spread": None,
}


def cron(**told: Any) -> dict[str, Any]:
    return {"trigger": {"type": "cron", "expression": "0 2 * * *"} | told}


def once(**told: Any) -> dict[str, Any]:
    return {"trigger": {"type": "once"} | told}


def interval(**told: Any) -> dict[str, Any]:
    return {"trigger": MINUTELY | told}


def function(**told: Any) -> dict[str, Any]:
    return {"action": {"type": "function", "name": "work"} | told}


def process(**told: Any) -> dict[str, Any]:
    return {"action": {"type": "process", "command": ["true"]} | told}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def refusal(content: object, prefix: str = "") -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        parse_definition(content, prefix)
    return caught.value


FIELD = "invalid_field"
TRIGGER = "invalid_trigger"
LARGE = "payload_too_large"

LATER = "2026-02-01T00:00:00Z"


def calendar(type_, **told):
    return {"calendars": [{"type": type_, **told}]}


REFUSED = {
    "cron that cannot be": (cron(expression="0 0 30 2 *"), TRIGGER, "trigger.expression"),
    "cron out of range": (cron(expression="61 * * * *"), TRIGGER, "trigger.expression"),
    "cron of no fields": (cron(expression=""), TRIGGER, "trigger.expression"),
    "cron that is a number": (cron(expression=5), TRIGGER, "trigger.expression"),
    "cron at reboot": (cron(expression="@reboot"), TRIGGER, "trigger.expression"),
    "no expression": ({"trigger": {"type": "cron"}}, TRIGGER, "trigger.expression"),
    "no such zone": (cron(timezone="Mars/Olympus"), TRIGGER, "trigger.timezone"),
    "zone of a path": (cron(timezone="../etc/passwd"), TRIGGER, "trigger.timezone"),
    "cron with a field of another": (cron(every="1s"), TRIGGER, "trigger.every"),
    "naive instant": (once(at="2027-01-01T00:00:00"), TRIGGER, "trigger.at"),
    "naive datetime": (once(at=datetime(2027, 1, 1)), TRIGGER, "trigger.at"),  # noqa: DTZ001
    "instant that is none": (once(at="tomorrow"), TRIGGER, "trigger.at"),
    "instant that is a number": (once(at=5), TRIGGER, "trigger.at"),
    "neither at nor after": (once(), TRIGGER, "trigger"),
    "both at and after": (once(at=at(0), after="1s"), TRIGGER, "trigger"),
    "negative delay": (once(after=-1), TRIGGER, "trigger.after"),
    "endless delay": (once(after=math.inf), TRIGGER, "trigger.after"),
    "delay that is none": (once(after="soon"), TRIGGER, "trigger.after"),
    "interval too short": (interval(every="99.999ms"), TRIGGER, "trigger.every"),
    "interval of nothing": (interval(every=0), TRIGGER, "trigger.every"),
    "interval without length": ({"trigger": {"type": "interval"}}, TRIGGER, "trigger.every"),
    "naive anchor": (interval(anchor="2026-01-01T00:00"), TRIGGER, "trigger.anchor"),
    "unknown trigger": ({"trigger": {"type": "moon"}}, TRIGGER, "trigger.type"),
    "trigger without type": ({"trigger": {}}, TRIGGER, "trigger.type"),
    "trigger that is text": ({"trigger": "0 2 * * *"}, TRIGGER, "trigger"),
    "no trigger": ({"trigger": ...}, TRIGGER, "trigger"),
    "a trigger that does not exist": ({"trigger": {"type": "tide"}}, TRIGGER, "trigger.type"),
    "manual with more": ({"trigger": {"type": "manual", "at": 1}}, TRIGGER, "trigger.at"),
    "unknown action": ({"action": {"type": "pigeon"}}, FIELD, "action.type"),
    "no action": ({"action": ...}, FIELD, "action"),
    "function without name": ({"action": {"type": "function"}}, FIELD, "action.name"),
    "function of a bad name": (function(name="a b"), FIELD, "action.name"),
    "function of a long name": (function(name="a" * 256), FIELD, "action.name"),
    "function isolated elsewhere": (function(isolation="moon"), FIELD, "action.isolation"),
    "queue without name": ({"action": {"type": "queue"}}, FIELD, "action.queue"),
    "command without service": (
        {"action": {"type": "command", "command": "Run"}},
        FIELD,
        "action.service",
    ),
    "service of an empty token": (
        {"action": {"type": "command", "service": "a..b", "command": "Run"}},
        FIELD,
        "action.service",
    ),
    "service that is a filter": (
        {"action": {"type": "command", "service": "a.>", "command": "Run"}},
        FIELD,
        "action.service",
    ),
    "command of two tokens": (
        {"action": {"type": "command", "service": "a", "command": "b.c"}},
        FIELD,
        "action.command",
    ),
    "command that waits for nothing": (
        {"action": {"type": "command", "service": "a", "command": "b", "timeout": 0}},
        FIELD,
        "action.timeout",
    ),
    "queue of a bad name": ({"action": {"type": "queue", "queue": "a/b"}}, FIELD, "action.queue"),
    "process without command": (process(command=[]), FIELD, "action.command"),
    "process of a shell line": (process(command="rm -r"), FIELD, "action.command"),
    "process of a number": (process(command=["a", 1]), FIELD, "action.command[1]"),
    "process of a long word": (process(command=["a" * 131073]), FIELD, "action.command[0]"),
    "process without CPU": (process(limits={"cpu": 0}), FIELD, "action.limits.cpu"),
    "process without memory": (process(limits={"memory": 0}), FIELD, "action.limits.memory"),
    "process without files": (process(limits={"files": 2}), FIELD, "action.limits.files"),
    "unknown field": ({"colour": 1}, FIELD, "colour"),
    "unknown field at depth": ({"retry": {"colour": 1}}, FIELD, "retry.colour"),
    "unknown field deeper": (process(limits={"x": 1}), FIELD, "action.limits.x"),
    "no id": ({"id": ...}, FIELD, "id"),
    "empty id": ({"id": ""}, FIELD, "id"),
    "id with a newline": ({"id": "job\n"}, FIELD, "id"),
    "id with a space": ({"id": "a b"}, FIELD, "id"),
    "id of another alphabet": ({"id": "jöb"}, FIELD, "id"),
    "id too long": ({"id": "a" * 129}, FIELD, "id"),
    "id that is a number": ({"id": 5}, FIELD, "id"),
    "empty name": ({"name": ""}, FIELD, "name"),
    "name too long": ({"name": "a" * 256}, FIELD, "name"),
    "name that is no Unicode": ({"name": "\ud800"}, FIELD, "name"),
    "description too long": ({"description": "a" * 4097}, FIELD, "description"),
    "empty tag": ({"tags": ["a", ""]}, FIELD, "tags[1]"),
    "tag too long": ({"tags": ["a" * 129]}, FIELD, "tags[0]"),
    "too many tags": ({"tags": ["a"] * 65}, FIELD, "tags"),
    "tags that are text": ({"tags": "abc"}, FIELD, "tags"),
    "metadata that is a list": ({"metadata": []}, FIELD, "metadata"),
    "metadata too large": ({"metadata": {"a": "a" * MAX_PAYLOAD}}, LARGE, "metadata"),
    "payload too large": ({"payload": "a" * (MAX_PAYLOAD - 1)}, LARGE, "payload"),
    "payload of no number": ({"payload": math.nan}, FIELD, "payload"),
    "payload without end": ({"payload": {"a": [math.inf]}}, FIELD, "payload"),
    "payload too deep": ({"payload": nested(255)}, FIELD, "payload"),
    "payload far too deep": ({"payload": nested(20_000)}, FIELD, "payload"),
    "payload of no JSON": ({"payload": {1, 2}}, FIELD, "payload"),
    "payload of bytes": ({"payload": b"x"}, FIELD, "payload"),
    "payload with other keys": ({"payload": {1: 2}}, FIELD, "payload"),
    "payload that is no Unicode": ({"payload": "\ud800"}, FIELD, "payload"),
    "end before start": ({"start_at": at(1), "end_at": at(0)}, TRIGGER, "end_at"),
    "naive start": ({"start_at": "2026-01-01T00:00"}, FIELD, "start_at"),
    "no attempts": ({"retry": {"max_attempts": 0}}, FIELD, "retry.max_attempts"),
    "endless attempts": ({"retry": {"max_attempts": 1001}}, FIELD, "retry.max_attempts"),
    "shrinking backoff": ({"retry": {"backoff": 0.9}}, FIELD, "retry.backoff"),
    "steep backoff": ({"retry": {"backoff": 100.1}}, FIELD, "retry.backoff"),
    "backoff of no number": ({"retry": {"backoff": math.nan}}, FIELD, "retry.backoff"),
    "jitter over one": ({"retry": {"jitter": 1.1}}, FIELD, "retry.jitter"),
    "jitter under zero": ({"retry": {"jitter": -0.1}}, FIELD, "retry.jitter"),
    "long error type": ({"retry": {"non_retryable": ["a" * 256]}}, FIELD, "retry.non_retryable[0]"),
    "no time": ({"timeout": {"start_to_close": 0}}, FIELD, "timeout.start_to_close"),
    "no cooldown": ({"cooldown": "0s"}, FIELD, "cooldown"),
    "unknown overlap": ({"overlap": "sometimes"}, FIELD, "overlap"),
    "unknown catch-up": ({"catch_up": {"mode": "some"}}, FIELD, "catch_up.mode"),
    "unknown gap": ({"dst": {"gap": "fill"}}, FIELD, "dst.gap"),
    "unknown priority": ({"priority": "urgent"}, FIELD, "priority"),
    "bad queue": ({"queue": "a b"}, FIELD, "queue"),
    "no concurrency": ({"concurrency": 0}, FIELD, "concurrency"),
    "too much concurrency": ({"concurrency": 100_001}, FIELD, "concurrency"),
    "no executions": ({"max_executions": 0}, FIELD, "max_executions"),
    "guards": ({"requires": ["a b"]}, FIELD, "requires[0]"),
    "no such calendar": ({"calendars": ["work"]}, FIELD, "calendars[0].type"),
    "calendars by hand": (
        {"calendars": ["weekdays"], "trigger": {"type": "manual"}},
        FIELD,
        "calendars",
    ),
    "17 calendars": ({"calendars": ["weekdays"] * 17}, FIELD, "calendars"),
    "calendar's field": (calendar("weekdays", color="red"), FIELD, "calendars[0].color"),
    "calendar's policy": (calendar("weekdays", policy="drop"), FIELD, "calendars[0].policy"),
    "calendar's name": (calendar("weekdays", name="a b"), FIELD, "calendars[0].name"),
    "calendar's zone": (calendar("weekdays", timezone="Mars"), FIELD, "calendars[0].timezone"),
    "calendar's days": (calendar("weekdays", days=["MO"]), FIELD, "calendars[0].days[0]"),
    "no days": (calendar("business_hours", days=[]), FIELD, "calendars[0].days"),
    "no such time": (
        calendar("business_hours", from_time="24:01"),
        FIELD,
        "calendars[0].from_time",
    ),
    "hours of nothing": (calendar("business_hours", from_time="17:00"), FIELD, "calendars[0]"),
    "hours after all": (calendar("business_hours", from_time="24:00"), FIELD, "calendars[0]"),
    "no dates": (calendar("holidays", dates=[]), FIELD, "calendars[0].dates"),
    "no such date": (calendar("holidays", dates=["2026-02-29"]), FIELD, "calendars[0].dates[0]"),
    "no such day": (calendar("holidays", dates=["02-30"]), FIELD, "calendars[0].dates[0]"),
    "other date": (calendar("holidays", dates=["1 May"]), FIELD, "calendars[0].dates[0]"),
    "naive blackout": (
        calendar("blackout", start_at="2026-01-01T00:00:00", end_at=LATER),
        FIELD,
        "calendars[0].start_at",
    ),
    "blackout backwards": (
        calendar("blackout", start_at=LATER, end_at=LATER),
        FIELD,
        "calendars[0]",
    ),
    "no spread": ({"spread": "0s"}, FIELD, "spread"),
    "spread by hand": ({"spread": "5m", "trigger": {"type": "manual"}}, FIELD, "spread"),
    "jitter of events": (
        {"jitter": 1, "trigger": {"type": "event", "event": "e"}},
        FIELD,
        "jitter",
    ),
    "jitter backwards": ({"jitter": -1}, FIELD, "jitter"),
    "key without a name": ({"concurrency_key": ""}, FIELD, "concurrency_key"),
    "key with an empty part": ({"concurrency_key": "a..b"}, FIELD, "concurrency_key"),
    "key that ends in a dot": ({"concurrency_key": "a."}, FIELD, "concurrency_key"),
    "long key": ({"concurrency_key": "k" * 256}, FIELD, "concurrency_key"),
    "pause on no failures": ({"pause_on_failures": 0}, FIELD, "pause_on_failures"),
    "confirmation": ({"wait_for": {"event": "E"}}, FIELD, "wait_for"),
    "frequent heartbeat": ({"timeout": {"heartbeat": 0.999}}, FIELD, "timeout.heartbeat"),
    "no overall time": ({"timeout": {"overall": "0s"}}, FIELD, "timeout.overall"),
    "no waiting time": ({"timeout": {"schedule_to_start": 0}}, FIELD, "timeout.schedule_to_start"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_definition_is_refused_with_code_and_field(case):
    told, code, field = REFUSED[case]
    content = {key: value for key, value in (MINIMAL | told).items() if value is not ...}
    error = refusal(content)
    assert (error.code, error.field) == (code, field)
    assert error.status == 400
    assert error.message.startswith(f"{field}: ")
    body = error.to_json()
    assert {"code", "message", "field"} <= set(body)
    assert len(str(body)) < 2000


@pytest.mark.parametrize("content", [None, 5, "x", [], [MINIMAL]])
def test_what_is_no_object_is_refused(content):
    error = refusal(content)
    assert (error.code, error.field) == (FIELD, None)
    assert error.message.startswith("request: ")
    assert refusal(content, "definition").field == "definition"


def test_prefix_is_part_of_the_path_but_not_of_the_kind():
    error = refusal(MINIMAL | cron(expression="x"), "schedules[3]")
    assert error.field == "schedules[3].trigger.expression"
    assert isinstance(error, InvalidTrigger)
    assert not isinstance(refusal(MINIMAL | {"id": ""}, "trigger"), InvalidTrigger)


def test_refusal_says_value_and_rule():
    error = refusal(MINIMAL | {"id": "a b"})
    assert error.value == "a b"
    assert "such as `nightly-report`" in error.message
    assert refusal(MINIMAL | {"colour": "red"}).message == "colour: unknown field"
    assert refusal(MINIMAL | {"tags": ["a"] * 65}).value is None
    assert "100ms" in refusal(MINIMAL | interval(every="1ms")).message
    large = refusal(MINIMAL | {"payload": "a" * MAX_PAYLOAD})
    assert isinstance(large, PayloadTooLarge)
    assert large.details == {"limit": MAX_PAYLOAD}
    assert large.value is None


# --- accepted ------------------------------------------------------------------------------------


def test_minimal_definition_has_the_defaults_of_the_interface():
    found = parse_definition(MINIMAL)
    assert found.title == "job"
    assert found.priority is Priority.MEDIUM
    assert found.overlap is Overlap.SKIP
    assert found.queue == "default"
    assert found.enabled
    assert found.catch_up.mode == "latest"
    assert found.catch_up.window == timedelta(minutes=5)
    assert (found.dst.gap, found.dst.overlap) == (None, None)
    retry = found.retry
    assert (retry.max_attempts, retry.delay, retry.backoff) == (4, timedelta(seconds=60), 2.0)
    assert (retry.max_delay, retry.jitter) == (timedelta(minutes=30), 0.1)
    assert found.timeout.start_to_close == timedelta(minutes=5)
    assert found.cooldown is None
    assert (found.start_at, found.end_at, found.max_executions) == (None, None, None)
    assert found.limit == 1


def test_full_example_of_the_interface_is_accepted():
    found = parse_definition(FULL)
    assert found.title == "Nightly report"
    assert found.canonical() == {
        "id": "nightly-report",
        "name": "Nightly report",
        "tags": ["reports"],
        "trigger": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"},
        "action": {"type": "function", "name": "build_report"},
        "payload": {"day": "yesterday"},
        "dst": {"gap": "edge", "overlap": "first"},
        "concurrency": 1,
    }


ACCEPTED = {
    "longest id": {"id": "A" * 128},
    "id of all characters": {"id": "aZ09_.:-"},
    "longest name": {"name": "é" * 255},
    "longest function": function(name="a.b/c:d-e_" + "f" * 245),
    "most tags": {"tags": ["a" * 128] * 64},
    "largest payload": {"payload": "a" * (MAX_PAYLOAD - 2)},
    "deep payload": {"payload": nested(250)},
    "large number": {"payload": 10**30},
    "payload of text": {"payload": "ü\n"},
    "payload of false": {"payload": False},
    "shortest interval": interval(every="100ms"),
    "anchored interval": interval(anchor="2026-01-01T00:00:00+02:00"),
    "zone": cron(timezone="America/New_York"),
    "seconds": cron(expression="*/5 * * * * *"),
    "once at": once(at="2027-01-01T00:00:00Z", allow_past=True),
    "once after nothing": once(after=0),
    "start and end at one instant": {"start_at": at(0), "end_at": at(0)},
    "only an end": {"end_at": at(0)},
    "queue": {"action": {"type": "queue", "queue": "reports"}},
    "command": {
        "action": {
            "type": "command",
            "service": "agents.a",
            "command": "Run",
            "reply": False,
            "timeout": "9s",
        }
    },
    "process": process(
        command=["a" * 131072],
        env={"A": "b"},
        user="nobody",
        cwd="/",
        stdin="x",
        limits={"cpu": 1, "memory": 1, "files": 3},
    ),
    "isolated": function(isolation="process"),
    "bounds of retries": {
        "retry": {"max_attempts": 1000, "backoff": 100, "jitter": 1, "delay": 0, "max_delay": 0}
    },
    "other bounds of retries": {"retry": {"max_attempts": 1, "backoff": 1, "jitter": 0}},
    "unbounded": {"timeout": {"start_to_close": None}},
    "cooldown": {"cooldown": "15 minutes"},
    "window of nothing": {"catch_up": {"mode": "all", "window": 0}},
    "wide": {"overlap": "allow", "concurrency": 100_000},
    "by key": {"overlap": "buffer_all", "concurrency": 2, "concurrency_key": "customer.id"},
    "long key": {"concurrency_key": "k" * 255},
    "disabled": {"enabled": False},
    "limit": {"max_executions": 1},
    "longest error type": {"retry": {"non_retryable": ["a" * 255]}},
    "longest description": {"description": "a" * 4096},
    "dst": {"dst": {"gap": "shift", "overlap": "both"}},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_canonical_form_reads_as_the_same_definition(case):
    found = parse_definition(MINIMAL | ACCEPTED[case])
    canonical = found.canonical()
    again = parse_definition(canonical)
    assert again == found
    assert again.canonical() == canonical
    assert restore_definition(canonical) == found
    assert canonical != parse_definition(MINIMAL).canonical()


def test_values_are_read_in_their_unit():
    found = parse_definition(
        MINIMAL | interval(every="1h30m") | {"start_at": "2026-01-01T02:00+02:00"}
    )
    assert found.trigger.every == timedelta(minutes=90)
    assert found.start_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.canonical()["trigger"] == {"type": "interval", "every": "1h30m"}
    assert found.canonical()["start_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("overlap", "concurrency", "limit"),
    [("skip", None, 1), ("skip", 5, 5), ("allow", None, None), ("allow", 5, 5)],
)
def test_limit_follows_overlap_and_concurrency(overlap, concurrency, limit):
    told = {"overlap": overlap, "concurrency": concurrency}
    assert parse_definition(MINIMAL | told).limit == limit


def test_definition_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        parse_definition(MINIMAL).id = "other"  # type: ignore[misc]


def test_priorities_are_ranked_from_the_most_urgent():
    ranked = sorted(Priority, key=lambda each: each.rank)
    assert ranked == [Priority.CRITICAL, Priority.HIGH, Priority.MEDIUM, Priority.LOW]
    assert [each.rank for each in ranked] == [0, 1, 2, 3]


def test_size_is_that_of_the_json():
    assert size_of({"a": [1, True, None, "é"]}) == len('{"a":[1,true,null,"é"]}'.encode())
    assert size_of(None) == 4


def test_path_names_fields_and_places():
    assert field_path(()) == ""
    assert field_path(("trigger", "cron", "expression")) == "trigger.expression"
    assert field_path(("schedules", 3, "action", "process", "command", 0)) == (
        "schedules[3].action.command[0]"
    )
    assert field_path(("trigger", "once")) == "trigger"
    assert field_path(("a", "b")) == "a.b"
