"""Executions that wait for confirmations (W4, W5): how a wait begins, and the one way in which it ends.

It is confirmed, or its deadline passes, or it is cancelled; which of them, the order of the log says. An
event that was received before the deadline confirms, though the deadline has passed when it is
looked at; one that comes later is recorded and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from horae_domain import execution as executions
from horae_domain import stages
from horae_domain.actions import NoAction
from horae_domain.awaited import Awaited
from horae_domain.decision import Decision
from horae_domain.definition import Definition
from horae_domain.durations import format_duration
from horae_domain.events import (
    AwaitingConfirmation,
    Because,
    Confirmation,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    Event,
    ExecutionConfirmed,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSucceeded,
    ExternalEventReceived,
)
from horae_domain.execution import Execution, Status
from horae_domain.ledger import payload_for
from horae_domain.listeners import MISSING, Match, Role, value_at
from horae_domain.schedule import Cause
from horae_domain.timeouts import LATE_END

EARLY = -1
"""The index of an event that came before the wait."""
MAX_EARLY = 100
"""Events that an execution keeps, before it waits, of those that may confirm it."""


class Unresolved(Exception):
    """A value that a confirmation would have to have is not known."""


# --- beginning -----------------------------------------------------------------------------------


def fire(decision: Decision, event: ExecutionRequested | ExecutionReleased, cause: Cause) -> None:
    """Let an execution fire; if there is nothing to be done first, it begins to wait."""
    decision.add(event)
    begin(decision, event.execution_id, cause)


def begin_ready(decision: Decision, cause: Cause) -> None:
    """Let those begin to wait whose delay is over, and which have nothing to do first."""
    schedule = decision.require().schedule
    if any(isinstance(each.action, NoAction) for each in schedule.definitions.values()):
        for id_ in list(decision.require().live):
            begin(decision, id_, cause)


def begin(decision: Decision, id_: str, cause: Cause) -> None:
    """Let an execution wait if that is what comes next."""
    line = decision.require()
    run = line.live.get(id_)
    if run is None or not run.ready(cause.at):
        return
    definition = line.definition_of(run)
    wait = definition.wait_for
    if wait is None or stages.current(definition, run.stage) != stages.WAIT:
        return
    try:
        waits = [_resolved(each, definition, run) for each in wait.awaited]
    except Unresolved as error:
        told = {"type": "UnresolvedMatch", "message": str(error)}
        because = Because(end="failed", reason=stages.UNRESOLVED, error=told)
        decision.add(*executions.unwind(run, definition, because, cause))
        return
    deadline = None if wait.timeout is None else cause.at + wait.timeout
    about = executions.about(run, cause)
    decision.add(AwaitingConfirmation(waits=waits, need=wait.needed, deadline=deadline, **about))
    for early in run.confirmations:
        confirm(decision, id_, _event_of(early, run, cause), cause)


def _event_of(early: Confirmation, run: Execution, cause: Cause) -> ExternalEventReceived:
    """An event that came before the wait, as it is judged now."""
    return ExternalEventReceived(
        at=cause.at,
        tenant=run.tenant,
        id=early.event_id,
        type=early.type,
        source=early.source,
        data=early.data,
    )


def _resolved(awaited: Awaited, definition: Definition, run: Execution) -> dict[str, Any]:
    known = _known(definition, run)
    match = {path: _value(known, path, source) for path, source in awaited.match.items()}
    return {"event": awaited.event, "match": match}


def _known(definition: Definition, run: Execution) -> dict[str, Any]:
    """What the values that a confirmation has to have are taken from."""
    payload = run.payload if run.overridden else payload_for(definition, run.trigger)
    results = run.results
    return {
        "trigger": {"data": payload} | run.trigger,
        "payload": payload,
        "result": results.get("action", results),
    }


def _value(known: Mapping[str, Any], path: str, source: str | float | bool) -> Any:
    if not isinstance(source, str):
        return source
    value = value_at(known, source)
    if value is MISSING:
        raise Unresolved(f"wait_for.match.{path}: {source} leads nowhere")
    return value


# --- who listens ---------------------------------------------------------------------------------


def wants(definition: Definition, run: Execution) -> list[tuple[Role, str, Match]]:
    """What events it wants to hear of: those that confirm it, or before it waits those that may."""
    if run.status is Status.WAITING:
        return [(Role.CONFIRM, type_, match) for _, type_, match in missing(run)]
    wait, stage = definition.wait_for, stages.current(definition, run.stage)
    if wait is None or not run.status.alive or not stages.before_wait(stage):
        return []
    known = _known(definition, run)
    return [(Role.KEEP, each.event, _known_by_now(each, known)) for each in wait.awaited]


def _known_by_now(awaited: Awaited, known: Mapping[str, Any]) -> Match:
    """The values that are known already, for those that come of a result may change."""
    values = {
        path: value_at(known, source) if isinstance(source, str) else source
        for path, source in awaited.match.items()
        if not str(source).startswith("result")
    }
    return tuple(sorted((path, value) for path, value in values.items() if value is not MISSING))


def keep(decision: Decision, id_: str, event: ExternalEventReceived, cause: Cause) -> None:
    """Let an execution know, when it begins to wait, that this came before (W5)."""
    run = decision.require().find(id_) or decision.waiting.get(id_)
    if run is None or len(run.confirmations) >= MAX_EARLY or _had(run, event):
        return
    early = Confirmation(
        index=EARLY, event_id=event.id, type=event.type, source=event.source, data=event.data
    )
    decision.add(ConfirmationReceived(confirmation=early, **executions.about(run, cause)))


# --- confirmations -------------------------------------------------------------------------------


def missing(run: Execution) -> list[tuple[int, str, Match]]:
    """What it still waits for: the index, the type of events, and the values in their data."""
    had = {each.index for each in run.confirmations}
    return [
        (index, wait["event"], tuple(sorted(wait["match"].items())))
        for index, wait in enumerate(run.waits)
        if index not in had
    ]


def found(run: Execution, event: ExternalEventReceived) -> int | None:
    """Which of the events that an execution still waits for this is; None if it is none of them."""
    if _had(run, event):
        return None
    for index, type_, match in missing(run):
        same = all(_equal(value_at(event.data, path), wanted) for path, wanted in match)
        if same and _fits(type_, event.type):
            return index
    return None


def _had(run: Execution, event: ExternalEventReceived) -> bool:
    known = [(each.event_id, each.source) for each in run.confirmations]
    return (event.id, event.source) in known


def _fits(pattern: str, type_: str) -> bool:
    """`*` in a pattern is any one token, `>` at its end all that follow."""
    wanted, tokens = pattern.split("."), type_.split(".")
    if wanted[-1] == ">":
        wanted, tokens = (
            wanted[:-1],
            tokens[: len(wanted) - 1] if len(tokens) >= len(wanted) else [],
        )
    same = [each in {"*", token} for each, token in zip(wanted, tokens, strict=False)]
    return len(wanted) == len(tokens) and all(same)


def _equal(value: Any, wanted: Any) -> bool:
    """1 and 1.0 are one number, and true is none."""
    return value is not MISSING and isinstance(value, bool) == isinstance(wanted, bool) and bool(
        value == wanted
    )  # fmt: skip


def confirm(decision: Decision, id_: str, event: ExternalEventReceived, cause: Cause) -> bool:
    """Let an event confirm an execution that waits for it; False if it does not.

    One that was received when the deadline had passed comes too late: the deadline is decided.
    """
    run = decision.waiting.get(id_)
    index = None if run is None else found(run, event)
    if run is None or index is None:
        return False
    if run.wait_until is not None and run.wait_until <= event.at:
        expire(decision, id_, cause)
        late(decision, decision.fate(run), event, cause)
        return False
    confirmation = Confirmation(
        index=index, event_id=event.id, type=event.type, source=event.source, data=event.data
    )
    about = executions.about(run, cause)
    if len(run.confirmations) + 1 < run.need:
        decision.add(ConfirmationReceived(confirmation=confirmation, **about))
        return True
    carried = executions.carried(run)
    decision.add(ExecutionConfirmed(confirmation=confirmation, run=carried, **about))
    definition = decision.require().definition_of(run)
    if definition.wait_for is None or definition.wait_for.then is None:
        decision.add(_succeeded(run, event, about))
    return True


def _succeeded(run: Execution, event: ExternalEventReceived, about: dict[str, Any]) -> Event:
    return ExecutionSucceeded(
        attempt=run.attempt, delivery=run.delivery, started_at=run.started_at, result=event.data,
        **about,
    )  # fmt: skip


def late(decision: Decision, run: Execution, event: ExternalEventReceived, cause: Cause) -> None:
    """Record that a confirmation came when the wait was over."""
    decision.add(
        ConfirmationLate(
            event_id=event.id,
            type=event.type,
            source=event.source,
            status=str(run.status),
            **executions.about(run, cause),
        )
    )


# --- deadlines -----------------------------------------------------------------------------------


def expire(decision: Decision, id_: str, cause: Cause) -> None:
    """Decide what follows if an execution waits no longer: the fallback, else it has timed out."""
    run = decision.waiting.get(id_)
    if run is None or run.waits_until is None or run.waits_until > cause.at:
        return
    definition = decision.require().definition_of(run)
    if run.end_by is not None and run.waits_until == run.end_by:
        because = Because(end="timed_out", reason="timed_out", error=LATE_END)
    else:
        received = len(run.confirmations)
        about = executions.about(run, cause)
        decision.add(ConfirmationTimedOut(received=received, **about))
        run = decision.waiting[id_]
        because = Because(
            end="timed_out", reason=stages.NOT_RECEIVED, error=_not_received(definition)
        )
    decision.add(*executions.unwind(run, definition, because, cause))


def limit(definition: Definition, run: Execution) -> float | None:
    """Seconds that an execution may wait, or might have; None without bound, or if it did not wait."""
    wait = definition.wait_for
    timeout = None if wait is None or run.waited is None else wait.timeout
    return None if timeout is None else timeout.total_seconds()


def _not_received(definition: Definition) -> dict[str, Any]:
    wait = definition.wait_for
    limit = "" if wait is None or wait.timeout is None else format_duration(wait.timeout)
    return {
        "type": "ConfirmationTimeout",
        "message": f"{stages.NOT_RECEIVED}: nothing came within {limit}",
        "reason": stages.NOT_RECEIVED,
    }
