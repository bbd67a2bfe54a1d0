"""What an external event, or the outcome of another schedule's execution, does to a schedule.

Who listens is found by `horae_domain.listeners`; here it is decided on the line of one that does. Nothing is
decided twice: the id of the execution is a function of the schedule and of the event's source and id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, assert_never

from horae_domain import execution as executions
from horae_domain import overlap, waits
from horae_domain.circles import MAX_DEPTH, TOO_DEEP
from horae_domain.decision import Decision
from horae_domain.definition import Definition
from horae_domain.errors import ExpressionFailed, InvalidExpression
from horae_domain.events import (
    Event,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    ExternalEventReceived,
)
from horae_domain.execution import Execution
from horae_domain.expressions import holds
from horae_domain.firing import go_on, settle
from horae_domain.identity import schedule_stream
from horae_domain.instants import format_instant
from horae_domain.lanes import lane_of
from horae_domain.ledger import Line, payload_for
from horae_domain.listeners import MISSING, OUTCOME, Interest, Listener, Match, Role, value_at
from horae_domain.occurrence_events import occurrence_id, skipped
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import FILTERED, Cause, Status
from horae_domain.triggers import EventTrigger, OutcomeTrigger

CANCELLED = "cancelled_by_event"
"""The reason of what an external event has ended."""
MAX_NOTE = 500
"""Characters of what is wrong with a filter."""

_TRIGGERS: dict[str, type[EventTrigger | OutcomeTrigger]] = {
    "event": EventTrigger,
    "chain": OutcomeTrigger,
}
"""By the kind of what happens, what listens for it."""


class Happening(NamedTuple):
    """What makes a schedule fire that has no calendar."""

    kind: str
    """Of the execution's identity: `event` or `chain`."""
    key: str
    at: datetime
    facts: Mapping[str, Any]
    """What the handler is told of it; `data` is its payload unless the schedule has one."""


def happening(event: ExternalEventReceived) -> Happening:
    """An external event as schedules see it."""
    at = event.occurred_at or event.at
    facts: dict[str, Any] = {"event": event.type, "id": event.id, "at": format_instant(at)}
    if event.source:
        facts["source"] = event.source
    return Happening("event", label_of(event.source, event.id), at, facts | {"data": event.data})


def cause_of(event: ExternalEventReceived, cause: Cause) -> Cause:
    """What an event has brought about belongs to its affair and trace, whoever decides it."""
    return cause._replace(
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        carried=event.carried,
    )


def label_of(source: str, id_: str) -> str:
    """One text for a source and an id, another one for any other two."""
    plain = [part.replace("%", "%25").replace("#", "%23") for part in (source, id_) if part]
    return "#".join(plain)


# --- who listens ---------------------------------------------------------------------------------


def wants(line: Line) -> list[Interest]:
    """What a schedule listens for by itself; nothing if it is disabled or has ended."""
    schedule, definition = line.schedule, line.definition
    if schedule.status.ended:
        return []
    wanted = [(event, Role.KEEP) for event in definition.keep_events]
    match definition.trigger:
        case EventTrigger(event=event) if _enabled(line):
            wanted.append((event, Role.TRIGGER))
        case OutcomeTrigger(schedule=upstream) if _enabled(line):
            wanted.append((OUTCOME + upstream, Role.TRIGGER))
        case _:
            pass
    if not wanted:
        return []
    stream = schedule_stream(schedule.tenant, schedule.id)
    return [Interest(schedule.tenant, event, Listener(role, stream)) for event, role in wanted]


def _enabled(line: Line) -> bool:
    return line.definition.enabled or line.schedule.status is Status.ACTIVE


def wants_of(definition: Definition, run: Execution) -> list[Interest]:
    """What an execution listens for while it is alive."""
    wanted: list[tuple[Role, str, Match]] = []
    if definition.cancel_on and run.status.alive:
        matches = ((each.event, resolved(each.match, definition, run)) for each in definition.ends)
        wanted += [(Role.CANCEL, event, match) for event, match in matches if match is not None]
    wanted += waits.wants(definition, run)
    if not wanted:
        return []
    stream = schedule_stream(run.tenant, run.schedule_id)
    return [
        Interest(run.tenant, event, Listener(role, stream, run.id), match)
        for role, event, match in wanted
    ]


def resolved(wanted: Mapping[str, str], definition: Definition, run: Execution) -> Match | None:
    """The values that have to stand in an event's data; None if the execution does not have them."""
    payload = run.payload if run.overridden else payload_for(definition, run.trigger)
    known = {"trigger": {"data": payload} | run.trigger, "payload": payload}
    found = tuple((path, value_at(known, place)) for path, place in sorted(wanted.items()))
    return None if any(value is MISSING for _, value in found) else found


# --- decide --------------------------------------------------------------------------------------


def fire(decision: Decision, happened: Happening, cause: Cause) -> str | None:
    """Decide what becomes of a schedule that is triggered; the execution's id, if it has one."""
    settle(decision, cause)
    line = decision.require()
    if not _hears(line, happened):
        return None
    try:
        if not _passes(line, happened):
            return None
        fault = None
    except (InvalidExpression, ExpressionFailed) as error:
        fault = error.message
    occurrence = _occurrence(line, happened)
    told: dict[str, Any] = {"trigger": dict(happened.facts)}
    reason = _refusal(line, happened, cause.at, fault)
    if reason is None:
        overlap.admit(decision, happened.kind, occurrence, cause, **told)
        go_on(decision, cause)
    else:
        lane = lane_of(line.definition, payload_for(line.definition, told["trigger"]))
        if fault is not None:
            told["note"] = fault[:MAX_NOTE]
        decision.add(skipped(line, happened.kind, occurrence, reason, lane, cause, **told))
    return occurrence_id(line, happened.kind, occurrence)


def _hears(line: Line, happened: Happening) -> bool:
    """True if it listens still, and it happened within its bounds."""
    definition = line.definition
    if line.schedule.status.ended or not _enabled(line):
        return False
    if not isinstance(definition.trigger, _TRIGGERS[happened.kind]):
        return False
    begun = definition.start_at is None or definition.start_at <= happened.at
    over = definition.end_at is not None and definition.end_at < happened.at
    return begun and not over and not line.spent


def _passes(line: Line, happened: Happening) -> bool:
    """True unless its filter says otherwise.

    Raises:
        InvalidExpression, ExpressionFailed: it cannot be evaluated.
    """
    trigger = line.definition.trigger
    if not isinstance(trigger, EventTrigger) or trigger.filter is None:
        return True
    facts = happened.facts
    event = {"type": facts["event"], "source": facts.get("source", ""), "id": facts["id"]}
    return holds(trigger.filter, {"data": facts["data"], "event": event}, FILTERED)


def _occurrence(line: Line, happened: Happening) -> Occurrence:
    trigger, due = line.definition.trigger, happened.at
    if isinstance(trigger, EventTrigger | OutcomeTrigger):
        due += trigger.delay
    return Occurrence(due, happened.key, instant=happened.at)


def identity_of(line: Line, happened: Happening) -> str:
    """The id of the execution that would follow."""
    return occurrence_id(line, happened.kind, _occurrence(line, happened))


def _refusal(line: Line, happened: Happening, at: datetime, fault: str | None) -> str | None:
    """Why it does not fire, whatever the overlap policy says."""
    if line.schedule.status is Status.PAUSED:
        return "paused"
    if fault is not None:
        return "filter_error"
    if happened.facts.get("depth", 0) > MAX_DEPTH:
        return TOO_DEEP
    if line.cooldown_until is not None and at < line.cooldown_until:
        return "cooldown"
    return None


def end(decision: Decision, id_: str, event: ExternalEventReceived, cause: Cause) -> None:
    """Let an event end an execution before its outcome; nothing if it has ended."""
    settle(decision, cause)
    run = decision.require().find(id_) or decision.waiting.get(id_)
    if run is None:
        return
    named = {"event_source": event.source, "event_id": event.id}
    definition = decision.require().definition_of(run)
    decision.add(*executions.cancel(run, definition, CANCELLED, cause, **named))
    go_on(decision, cause)


# --- outcomes ------------------------------------------------------------------------------------

_ENDS: dict[type[Event], str] = {
    ExecutionSucceeded: "succeeded",
    ExecutionFailed: "failed",
    ExecutionDeadLettered: "failed",
    ExecutionTimedOut: "timed_out",
    ExecutionCancelled: "cancelled",
    ExecutionSkipped: "skipped",
    ExecutionDropped: "skipped",
}
Ending = (
    ExecutionSucceeded
    | ExecutionFailed
    | ExecutionDeadLettered
    | ExecutionTimedOut
    | ExecutionCancelled
    | ExecutionSkipped
    | ExecutionDropped
)
"""Events after which an execution has its outcome."""


def outcome_of(event: Event) -> str | None:
    """How an execution has ended by an event; None if it goes on."""
    return _ENDS.get(type(event))


def chained(event: Ending, depth: int) -> Happening:
    """The end of an execution that is so deep, as schedules see it."""
    outcome = _ENDS[type(event)]
    facts: dict[str, Any] = {
        "schedule": event.schedule_id,
        "execution_id": event.execution_id,
        "outcome": outcome,
        "depth": depth + 1,
        "at": format_instant(event.at),
        "data": _said(event),
    }
    return Happening("chain", f"{event.execution_id}:{outcome}", event.at, facts)


def _said(event: Ending) -> Any:
    match event:
        case ExecutionSucceeded():
            return event.result
        case ExecutionFailed() | ExecutionTimedOut() | ExecutionDeadLettered():
            return dict(event.error)
        case ExecutionSkipped() | ExecutionDropped() | ExecutionCancelled():
            return {"reason": event.reason}
        case _:
            assert_never(event)


def listens_for(line: Line, outcome: str) -> bool:
    """True if a schedule that is triggered by outcomes is triggered by this one."""
    trigger = line.definition.trigger
    return isinstance(trigger, OutcomeTrigger) and outcome in trigger.of


def outcomes(events: Iterable[Event]) -> list[Ending]:
    """Those of some events after which an execution has its outcome."""
    return [event for event in events if isinstance(event, Ending)]
