"""Golden files: every event that was ever stored stays readable, and is written as it was.

A file holds the name, the bytes as they are stored and what they mean. `python
tests/domain/test_codec.py` makes files for names that have none, and adds to a file what an event says
since it has new fields; what is in a file is never changed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from horae_domain.codec import UPCASTERS, Undecodable, decode, encode, name_of
from horae_domain.events import (
    NAMES,
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    Because,
    CancellationRequested,
    CommandScheduled,
    CompensationStarted,
    Confirmation,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    DelayEnded,
    Event,
    ExecutionApproved,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionConfirmed,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    ExternalEventReceived,
    FallbackStarted,
    HistoryErased,
    OccurrenceApproved,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrencesDecided,
    OccurrenceSkipped,
    QueueLimited,
    QueuePaused,
    QueueResumed,
    ReportRefused,
    RequestAnswered,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleErased,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
    StageCompleted,
    TenantLimited,
    TimerCancelled,
    TimerMoved,
)

GOLDEN = Path(__file__).parents[1] / "golden"
AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
DUE = datetime(2026, 1, 5, 1, 59, 59, 999999, tzinfo=UTC)
ALL: dict[str, Any] = {
    "at": AT,
    "tenant": "acme",
    "schedule_id": "nightly",
    "command_id": "0193e4a6-0000-7000-8000-000000000001",
    "correlation_id": "corr-1",
    "actor": "ann",
}
RUN = ALL | {"execution_id": "2a019b8b-7502-6057-266e-626ad33819ed"}
DEFINITION = {
    "id": "nightly",
    "trigger": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"},
    "action": {"type": "function", "name": "build_report"},
}
ERROR = {"type": "Boom", "message": "nö", "stack": "…"}
OCCURRENCE: dict[str, Any] = {
    "kind": "calendar",
    "due": DUE,
    "nominal": "2026-01-05T03:00:00[Europe/Berlin]",
    "revision": 2,
    "next_due": AT,
}
PLANNED: dict[str, Any] = {
    "kind": "calendar",
    "due": DUE,
    "nominal": "2026-01-05T03:00:00[Europe/Berlin]",
    "note": "holiday",
    "next_due": AT,
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CARRIED = {"tracestate": "a=1", "baggage": "desk=a", "causation_id": "c-1"}
BY_HAND: dict[str, Any] = {
    "moved_to": AT, "note": "holiday", "planned_by": "ann", "traceparent": TRACE,
    "carried": CARRIED,
}  # fmt: skip
FACTS: dict[str, Any] = {"event": "trade.submitted", "id": "e-1", "data": {"amount": 5}}
TOLD: dict[str, Any] = {"started_at": DUE, "logs": ["a", {"b": 1}], "metadata": {"k": [1, 2.5]}}
CONFIRMATION = Confirmation(index=1, event_id="e-1", type="Paid", source="shop", data={"a": 1})
BECAUSE = Because(
    end="timed_out",
    reason="confirmation_not_received",
    error={"type": "ConfirmationTimeout", "message": "nothing came"},
    event_source="shop",
    event_id="e-1",
)
BEGUN: dict[str, Any] = {"definition": DEFINITION, "anchor": AT, "next_due": AT, "tzdata": "2026.1"}

EXAMPLES: list[Event] = [
    ScheduleCreated(
        incarnation=2, revision=3, causation_id=RUN["execution_id"], depth=2, **BEGUN, **ALL
    ),
    CommandScheduled(
        command="SendReminder",
        data={"order_id": "o-1"},
        due=DUE,
        after="5m",
        metadata={"team": "mail"},
        policies={"priority": "high"},
        traceparent=TRACE,
        carried=CARRIED,
        **ALL,
    ),
    ScheduleUpdated(revision=4, through=DUE, **BEGUN, **ALL),
    SchedulePaused(note="holiday", **ALL),
    ScheduleTripped(failures=3, execution_id=RUN["execution_id"], reason="three", **ALL),
    ScheduleResumed(note="back", next_due=AT, through=DUE, **ALL),
    ScheduleCompleted(reason="end_at", **ALL),
    ScheduleCancelled(note="no more", **ALL),
    ScheduleQuarantined(reason="no such zone", **ALL),
    OccurrencesDecided(
        decision="skipped",
        reason="overlap",
        first=DUE,
        last=AT,
        count=2,
        revision=1,
        blocked_by=RUN["execution_id"],
        next_due=AT,
        nominal="2026-01-05T03:00:00[Europe/Berlin]",
        moved_to=AT,
        backfill_id="b1",
        **ALL,
    ),
    ScheduleChecked(tick=DUE, outcome="failed", error=ERROR, **ALL),
    ScheduleBackfillStarted(
        backfill_id="b1",
        start=DUE,
        first=AT,
        last=AT,
        overlap="allow",
        count=3,
        revision=2,
        anchor=AT,
        note="again",
        **ALL,
    ),
    ScheduleBackfillCompleted(backfill_id="b1", reason="cancelled", left=2, **ALL),
    OccurrenceSkipped(execution_id=RUN["execution_id"], **PLANNED, **ALL),
    OccurrenceMoved(to=AT, **PLANNED, **ALL),
    OccurrenceHeld(**PLANNED, **ALL),
    OccurrenceApproved(execution_id=RUN["execution_id"], **PLANNED, **ALL),
    OccurrencePayloadSet(payload={"day": "yesterday"}, **PLANNED, **ALL),
    ExecutionRequested(
        run_number=7,
        payload={"a": [None, True, 1, 2.5, "é"]},
        overridden=True,
        priority="high",
        queue="slow",
        worker="engine-1",
        deadline=AT,
        backfill_id="b1",
        unbounded=True,
        heartbeat=2.5,
        start_by=AT,
        end_by=AT,
        **BY_HAND,
        **OCCURRENCE,
        trigger=FACTS,
        aside=True,
        **RUN,
    ),
    ExecutionSkipped(
        reason="overlap",
        blocked_by=RUN["execution_id"],
        payload={"day": 2},
        overridden=True,
        **BY_HAND,
        **OCCURRENCE,
        trigger=FACTS,
        **RUN,
    ),
    ExecutionBuffered(
        payload={"a": 1},
        overridden=True,
        priority="low",
        queue="slow",
        blocked_by=RUN["execution_id"],
        **BY_HAND,
        **OCCURRENCE,
        trigger=FACTS,
        **RUN,
    ),
    ExecutionHeld(
        payload={"a": 1},
        overridden=True,
        priority="low",
        queue="slow",
        **BY_HAND,
        **OCCURRENCE,
        **RUN,
    ),
    ExecutionChecking(
        conditions=["market-open"],
        payload={"a": 1},
        overridden=True,
        trigger={"data": {"a": 1}},
        priority="low",
        queue="slow",
        **BY_HAND,
        **OCCURRENCE,
        **RUN,
    ),
    ExecutionConditionsMet(conditions=["market-open"], **RUN),
    ExecutionCheckFailed(condition="market-open", error=ERROR, retry_at=AT, **RUN),
    ExecutionApproved(**RUN),
    ExecutionReleased(run_number=8, next_due=AT, start_by=AT, end_by=AT, **RUN),
    ExecutionDropped(reason="superseded", blocked_by=RUN["execution_id"], **RUN),
    ExecutionReprioritised(priority="critical", **RUN),
    AttemptStarted(
        attempt=2,
        delivery=3,
        worker="w",
        local=True,
        deadline=AT,
        heartbeat=2.5,
        stage="then",
        **RUN,
    ),
    AttemptFailed(attempt=2, outcome="timed_out", error=ERROR, retry_at=AT, **TOLD, **RUN),
    ExecutionDelayed(attempt=2, until=AT, limit=9, result={"seen": 0}, **TOLD, **RUN),
    ExecutionSucceeded(attempt=2, delivery=3, result=["done"], cooldown_until=AT, **TOLD, **RUN),
    ExecutionFailed(attempt=4, error=ERROR, **RUN),
    ExecutionTimedOut(attempt=4, error=ERROR, **RUN),
    ExecutionDeadLettered(attempt=4, error=ERROR, **RUN),
    ExecutionRequeued(
        attempt=4,
        requested_at=DUE,
        version=9,
        run_number=7,
        payload={"a": 1},
        overridden=True,
        priority="high",
        queue="slow",
        failures=1,
        polls=2,
        stage="undo:charge",
        done=["reserve", "charge"],
        unsure=True,
        results={"reserve": 1},
        confirmations=[CONFIRMATION],
        because=BECAUSE,
        waited=600.0,
        closed={"3.1": "delayed", "4.1": "dead"},
        backfill_id="b",
        unbounded=True,
        moved_to=AT,
        note="late",
        planned_by="ann",
        conditions=["market-open"],
        traceparent=TRACE,
        carried=CARRIED,
        start_by=AT,
        end_by=AT,
        **{name: value for name, value in OCCURRENCE.items() if name != "next_due"},
        trigger=FACTS,
        **RUN,
    ),
    ExecutionCancelled(reason="cancelled_by_event", event_source="desk", event_id="e-1", **RUN),
    CancellationRequested(attempt=2, reason="cancelled_by_overlap", deadline=AT, **RUN),
    TimerMoved(timer="retry", to=AT, was=DUE, note="later", **RUN),
    TimerCancelled(timer="overall", was=AT, note="let it", **RUN),
    ReportRefused(lease="1.1", outcome="succeeded", worker="w", **RUN),
    QueueLimited(queue="mail", concurrency=3, rate=100, per=60.0, **ALL),
    QueuePaused(queue="mail", note="audit", **ALL),
    QueueResumed(queue="mail", note="done", **ALL),
    TenantLimited(concurrency=3, rate=100, per=60.0, weight=2, **ALL),
    StageCompleted(
        attempt=2, delivery=3, stage="step:charge", next="step:ship", result=[1], **TOLD, **RUN
    ),
    AwaitingConfirmation(
        waits=[{"event": "Paid", "match": {"order.id": "o-1"}}], need=2, deadline=AT, **RUN
    ),
    ConfirmationReceived(confirmation=CONFIRMATION, **RUN),
    ExecutionConfirmed(confirmation=CONFIRMATION, run={"attempt": 1}, **RUN),
    ConfirmationTimedOut(received=1, **RUN),
    ConfirmationLate(event_id="e-1", type="Paid", source="shop", status="timed_out", **RUN),
    DelayEnded(run={"attempt": 1}, **RUN),
    FallbackStarted(stage="fallback", because=BECAUSE, run={"attempt": 1}, **RUN),
    CompensationStarted(
        next="undo:charge", done=["charge"], because=BECAUSE, run={"attempt": 1}, **RUN
    ),
    HistoryErased(
        executions=[RUN["execution_id"]],
        older=["old"],
        incarnation=2,
        line=[AT, None, 5, 1, 0, None, []],
        gone={"fired": 1, "succeeded": 1},
        last_due=DUE,
        last_execution_id=RUN["execution_id"],
        **ALL,
    ),
    ScheduleErased(executions=[RUN["execution_id"]], decisions=[3, 4], **ALL),
    RequestAnswered(request="f00d", reply={"ok": True}, **ALL),
    ExternalEventReceived(
        type="trade.submitted",
        source="desk",
        id="e-1",
        data={"amount": 5},
        occurred_at=DUE,
        traceparent=TRACE,
        carried=CARRIED,
        **ALL,
    ),
]


def golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return content


def meaning(event: Event) -> dict[str, Any]:
    """All that an event says, defaults too, as JSON values."""
    fields = {field: getattr(event, field) for field in event.__struct_fields__}
    found: dict[str, Any] = msgspec.to_builtins(fields)
    return found


def test_every_name_has_a_golden_file():
    assert {file.stem for file in GOLDEN.glob("*.json")} >= set(NAMES.values())


def test_names_are_unique_and_carry_a_version():
    assert len(set(NAMES.values())) == len(NAMES)
    for name in NAMES.values():
        aggregate, _, version = name.split(".")
        kinds = {"schedule", "command", "execution", "request", "external_event", "queue", "tenant"}
        assert aggregate in kinds
        assert version[0] == "v"
        assert version[1:].isdecimal()


def test_every_kind_of_event_has_a_name():
    def leaves(kind: type[Event]) -> list[type[Event]]:
        below = kind.__subclasses__()
        return [leaf for each in below for leaf in leaves(each)] if below else [kind]

    assert set(leaves(Event)) == set(NAMES)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_stored_event_keeps_its_meaning(file):
    """Fields that were added since then have their default."""
    content = golden(file.stem)
    for stored, said in zip(content["stored"], content["meaning"], strict=True):
        event = decode(content["name"], stored.encode())
        assert meaning(event) == meaning(least_of(event)) | said


@pytest.mark.parametrize("event", EXAMPLES, ids=name_of)
def test_event_is_stored_as_it_was(event):
    stored = golden(name_of(event))["stored"]
    assert encode(event).decode() in stored
    for each in stored:
        assert encode(decode(name_of(event), each.encode())).decode() == each


def test_examples_cover_every_name_and_every_field():
    assert {type(event) for event in EXAMPLES} == set(NAMES)
    for event in EXAMPLES:
        for field in msgspec.structs.fields(event):
            assert getattr(event, field.name) != field.default, field.name


# --- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("schedule.vanished.v1", b"{}"),
        ("schedule.paused.v1", b""),
        ("schedule.paused.v1", b"{"),
        ("schedule.paused.v1", b"[]"),
        ("schedule.paused.v1", b"{}"),
        ("schedule.paused.v1", b'{"at":"yesterday","schedule_id":"a"}'),
        ("schedule.paused.v1", b'{"at":"2026-01-01T00:00:00Z","schedule_id":5}'),
        ("schedule.paused.v1", b"\xff\xfe"),
    ],
)
def test_what_cannot_be_read_is_undecodable(name, state):
    with pytest.raises(Undecodable) as caught:
        decode(name, state)
    assert caught.value.name == name
    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith("unknown name") is (name not in NAMES.values())


def test_unknown_name_is_said():
    with pytest.raises(Undecodable, match="unknown name"):
        decode("schedule.vanished.v1", b"{}")


def test_fields_of_a_later_release_are_passed_over():
    state = b'{"at":"2026-01-05T02:00:00Z","schedule_id":"a","later":1}'
    assert decode("schedule.paused.v1", state) == SchedulePaused(at=AT, schedule_id="a")


# --- old versions --------------------------------------------------------------------------------


def test_old_version_is_lifted_step_by_step():
    def lift0(old: dict[str, Any]) -> dict[str, Any]:
        return {"when": old["t"], "id": old["id"]}

    def lift1(old: dict[str, Any]) -> dict[str, Any]:
        return {"at": old["when"], "schedule_id": old["id"], "note": "from v0"}

    upcasters = {
        "schedule.paused.v0-1": ("schedule.paused.v0", lift0),
        "schedule.paused.v0": ("schedule.paused.v1", lift1),
    }
    state = b'{"t":"2026-01-05T02:00:00Z","id":"a"}'
    found = decode("schedule.paused.v0-1", state, upcasters=upcasters)
    assert found == SchedulePaused(at=AT, schedule_id="a", note="from v0")
    with pytest.raises(Undecodable) as caught:
        decode("schedule.paused.v0", b"{}", upcasters=upcasters)
    assert caught.value.name == "schedule.paused.v0"
    with pytest.raises(Undecodable):
        decode("schedule.paused.v0", b"{", upcasters=upcasters)


def test_upcasters_lead_to_a_name_that_is_known():
    assert all(newer in {*NAMES.values(), *UPCASTERS} for newer, _ in UPCASTERS.values())
    assert not set(UPCASTERS) & set(NAMES.values())


def least_of(event: Event) -> Event:
    """The same event with nothing but what it has to say."""
    required = {
        field.name: getattr(event, field.name)
        for field in msgspec.structs.fields(event)
        if field.required
    }
    return type(event)(**required)


if __name__ == "__main__":
    for example in EXAMPLES:
        path = GOLDEN / f"{name_of(example)}.json"
        both = [example, least_of(example)]
        made = {
            "name": name_of(example),
            "stored": [encode(each).decode() for each in both],
            "meaning": [meaning(each) for each in both],
        }
        known = json.loads(path.read_text("utf-8")) if path.exists() else None
        if known is not None and made["stored"][0] not in known["stored"]:
            made["stored"] = [*known["stored"], made["stored"][0]]
            made["meaning"] = [*known["meaning"], made["meaning"][0]]
        if known is None or len(made["stored"]) > len(known["stored"]):
            path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
