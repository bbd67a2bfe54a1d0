"""What follows from external events and from the outcomes of executions, decided into a draft.

The record of an event and the decisions of all its listeners in this owner's partitions are one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from horae_application import messages
from horae_application.draft import Draft
from horae_application.lines import Lines, fold_execution
from horae_application.log import get_logger
from horae_application.messages import OK
from horae_application.ports import StoredEvent
from horae_application.quarantine import quarantine
from horae_application.task import Answer, Task
from horae_domain import decider, external, waits
from horae_domain.circles import MAX_DEPTH, depth_of
from horae_domain.codec import decode
from horae_domain.errors import IdempotencyConflict, InvalidField
from horae_domain.events import (
    Event,
    ExecutionEvent,
    ExecutionSkipped,
    ExternalEventReceived,
    ScheduleCreated,
    ScheduleUpdated,
)
from horae_domain.execution import Execution, evolve
from horae_domain.external import Happening
from horae_domain.identity import external_event_stream, partition_of_stream, schedule_stream
from horae_domain.instants import format_instant
from horae_domain.listeners import OUTCOME, Listener, Role
from horae_domain.schedule import Cause

MAX_AGE = timedelta(days=30)
"""How old an event may be, unless told; so long the same one is recognised."""

_log = get_logger("horae.receiving")


def event_stream(task: Task) -> str | None:
    """The stream of the external event that a command brings."""
    command = task.command
    if not isinstance(command, messages.PublishEvent):
        return None
    return external_event_stream(task.request.tenant, command.source, identity(task, command))


def identity(task: Task, command: messages.PublishEvent) -> str:
    """The event's id: its own, else the request's key, else the request's id."""
    return command.id or task.request.key or task.request.command_id or ""


def _same_type(first: Event, command: messages.PublishEvent) -> None:
    """Refuse an event that has the source and id of another one.

    Raises:
        IdempotencyConflict: two events of a source have two ids (CloudEvents 1.0), also those of two types.
    """
    if isinstance(first, ExternalEventReceived) and first.type != command.type:
        raise IdempotencyConflict(
            f"an event of this source and id was recorded as {first.type}",
            field="id",
            value=command.id,
        )


def _listens_since(rows: Sequence[StoredEvent]) -> int:
    """The position at which a schedule got the trigger that it has."""
    since, trigger = 0, None
    for row in rows:
        event = decode(row.name, row.state)
        if isinstance(event, ScheduleCreated | ScheduleUpdated):
            told = event.definition["trigger"]
            begins = isinstance(event, ScheduleCreated) or told != trigger
            since, trigger = row.position if begins else since, told
    return since


class Receiving:
    """Decides what external events bring about, given the streams of those that are known."""

    def __init__(
        self,
        draft: Draft,
        lines: Lines,
        loaded: Mapping[str, list[StoredEvent]],
        max_age: timedelta,
        recover: Callable[[Draft, str], None],
    ) -> None:
        self._draft = draft
        self._lines = lines
        self._loaded = loaded
        self._max_age = max_age
        self._recover = recover

    def decide(self, task: Task, cause: Cause) -> Answer | None:
        """Record an event and decide on all that listen for it here; None if the task brings none.

        Raises:
            HoraeError: it is refused.
        """
        command, stream = task.command, event_stream(task)
        if not isinstance(command, messages.PublishEvent) or stream is None:
            return None
        facts: dict[str, Any] = {
            "id": identity(task, command),
            "source": command.source,
            "type": command.type,
        }
        if rows := self._loaded.get(stream):
            _same_type(decode(rows[0].name, rows[0].state), command)
            told = facts | {"recorded": True, "duplicate": True}
            return Answer(task, OK, told, None, rows[0].position)
        if self._draft.adds_to(stream):
            first = self._draft.streams.index(stream)
            _same_type(self._draft.events[first], command)
            return Answer(task, OK, facts | {"recorded": True, "duplicate": True}, first)
        event = self._event(task, command, cause)
        listeners = self._draft.hearing.match(event.tenant, event.type, event.data)
        facts["duplicate"] = False
        late = self._draft.hearing.late(event.tenant, event.type, event.data)
        heard = listeners or late
        if not heard and not self._lines.listening.elsewhere(event.tenant, event.type):
            return Answer(task, OK, facts | {"recorded": False})
        index = self._draft.add(event, stream, 0)
        self.tell(event, listeners, cause)
        for each in late:
            self._tell_late(each, event, cause)
        return Answer(task, OK, facts | {"recorded": True}, index)

    def _event(
        self, task: Task, command: messages.PublishEvent, cause: Cause
    ) -> ExternalEventReceived:
        happened = min(command.time or cause.at, cause.at)
        if happened < cause.at - self._max_age:
            raise InvalidField(
                f"the event is older than {self._max_age.days} days",
                field="time",
                value=format_instant(happened),
            )
        return ExternalEventReceived(
            at=cause.at,
            tenant=task.request.tenant,
            command_id=cause.command_id,
            correlation_id=cause.correlation_id,
            actor=cause.actor,
            type=command.type,
            source=command.source,
            id=identity(task, command),
            data=command.data,
            occurred_at=happened if happened < cause.at else None,
            traceparent=cause.traceparent,
            carried=dict(cause.carried),
        )

    def tell(
        self, event: ExternalEventReceived, listeners: Sequence[Listener], cause: Cause
    ) -> None:
        """Decide on those who listen: what ends first, then triggers, the most urgent first."""
        happened, cause = external.happening(event), external.cause_of(event, cause)
        for each in self._by_urgency(listeners):
            match each:
                case Listener(Role.TRIGGER, stream):
                    self._let(stream, cause, external.fire, happened)
                case Listener(Role.CANCEL, stream, str(id_)):
                    self._let(stream, cause, external.end, id_, event, waiting=id_)
                case Listener(Role.CONFIRM, stream, str(id_)):
                    self._let(stream, cause, decider.confirm, id_, event, waiting=id_)
                case Listener(Role.KEEP, stream, str(id_)):
                    self._let(stream, cause, waits.keep, id_, event, waiting=id_)
                case _:
                    pass

    def _tell_late(self, listener: Listener, event: ExternalEventReceived, cause: Cause) -> None:
        """Record that a confirmation came when the wait was over."""
        id_ = listener.execution_id or ""
        self._lines.load([listener.stream])
        line = self._draft.line(listener.stream)
        run = None if line is None else line.find(id_)
        given = [] if run is not None else self._outside(id_) or self._ended(id_)
        run = run or (given[0] if given else None)
        if line is None or run is None or run.outside:
            return
        decision = self._draft.begin(listener.stream, *given)
        waits.late(decision, run, event, cause)
        self._draft.accept(listener.stream, decision)

    def _outside(self, id_: str) -> list[Execution]:
        """An execution that no line holds, as its stream tells it."""
        if id_ in self._draft.waiting:
            run = self._draft.waiting[id_]
        else:
            rows = self._loaded.get(id_) or self._lines.load((), [id_]).get(id_, [])
            run = fold_execution(rows)
        return [] if run is None else [run]

    def _ended(self, id_: str) -> list[Execution]:
        """An execution that this draft has ended."""
        run = fold_execution(self._loaded.get(id_) or self._lines.load((), [id_]).get(id_, []))
        for event in self._draft.events:
            if isinstance(event, ExecutionEvent) and event.execution_id == id_:
                run = evolve(run, event)
        return [] if run is None else [run]

    def _waiting(self, stream: str, id_: str | None) -> list[Execution]:
        """The execution, if its line does not hold it."""
        line = self._draft.line(stream)
        if id_ is None or (line is not None and line.find(id_) is not None):
            return []
        return [run for run in self._outside(id_) if run.outside]

    def _let(
        self,
        stream: str,
        cause: Cause,
        act: Callable[..., object],
        *told: object,
        waiting: str | None = None,
    ) -> None:
        """Decide on one listener; one whose evaluation fails is quarantined, and the others go on."""
        self._recover(self._draft, stream)
        decision = self._draft.begin(stream, *self._waiting(stream, waiting))
        try:
            act(decision, *told, cause)
        except Exception as error:  # noqa: BLE001 - one schedule's trouble is its own
            _log.exception("quarantined", stream=stream)
            decision = self._draft.begin(stream)
            quarantine(decision, error, cause)
        self._draft.accept(stream, decision)

    def _by_urgency(self, listeners: Sequence[Listener]) -> list[Listener]:
        known = [each for each in listeners if each.stream not in self._lines.quarantined]
        return sorted(
            [each for each in known if self._draft.line(each.stream) is not None], key=self._rank
        )

    def _rank(self, listener: Listener) -> tuple[bool, int]:
        line = self._draft.line(listener.stream)
        triggers = listener.role is Role.TRIGGER
        return triggers, line.definition.priority.rank if line is not None and triggers else 0

    # --- recorded by others -----------------------------------------------------------------------

    def overhear(self, row: StoredEvent, since: Mapping[int, int], cause: Cause) -> None:
        """Decide on what another owner has recorded, for partitions that know the log up to there."""
        event = decode(row.name, row.state)
        if isinstance(event, ExternalEventReceived):
            found = self._draft.hearing.match(event.tenant, event.type, event.data)
            happened = external.happening(event)
        elif isinstance(event, external.Ending):
            found = self._draft.hearing.match(event.tenant, OUTCOME + event.schedule_id, None)
            if not found:
                return
            upstream = fold_execution(
                self._lines.load((), [event.execution_id])[event.execution_id]
            )
            happened = external.chained(event, depth_of(upstream))
        else:
            return
        concerned = [each for each in found if self._unknown(each, row.position, since)]
        self._lines.load([each.stream for each in concerned])
        news = [each for each in self._by_urgency(concerned) if self._new(each, row, happened)]
        if isinstance(event, ExternalEventReceived):
            self.tell(event, news, cause)
        elif happened.facts["depth"] <= MAX_DEPTH + 1:
            for each in news:
                line = self._draft.line(each.stream)
                if line is not None and external.listens_for(line, happened.facts["outcome"]):
                    self._let(each.stream, cause, external.fire, happened)

    def _unknown(self, listener: Listener, position: int, since: Mapping[int, int]) -> bool:
        return since.get(partition_of_stream(listener.stream), position) < position

    def _new(self, listener: Listener, row: StoredEvent, happened: Happening) -> bool:
        """True unless it began to listen later, or has decided already."""
        line = self._draft.line(listener.stream)
        if line is None:
            return False
        if listener.execution_id is not None:
            stored = self._lines.load((), [listener.execution_id])
            begun = stored.get(listener.execution_id)
            return begun is not None and begun[0].position < row.position
        id_ = external.identity_of(line, happened)
        stored = self._lines.load((), [listener.stream, id_])
        since = _listens_since(stored.get(listener.stream, ()))
        return id_ not in stored and not self._draft.adds_to(id_) and since < row.position

    # --- outcomes ---------------------------------------------------------------------------------

    def follow(self, cause: Cause) -> None:
        """Decide on schedules that are triggered by what has ended in this draft, and on."""
        done = 0
        while done < len(self._draft.events):
            ended = external.outcomes(self._draft.events[done:])
            done = len(self._draft.events)
            for event in ended:
                if self._draft.hearing.hears(event.tenant, OUTCOME + event.schedule_id):
                    self._follow(event, cause)

    def _follow(self, ended: external.Ending, cause: Cause) -> None:
        listeners = self._draft.hearing.match(ended.tenant, OUTCOME + ended.schedule_id, None)
        depth = self._depth_of(ended)
        if depth > MAX_DEPTH:
            return  # that it was cut off here is an outcome, too
        happened = external.chained(ended, depth)
        self._lines.load([each.stream for each in listeners])
        asked = [
            (each, external.identity_of(line, happened))
            for each in self._by_urgency(listeners)
            if (line := self._draft.line(each.stream)) is not None
            and external.listens_for(line, happened.facts["outcome"])
        ]
        known = self._lines.load((), [id_ for _, id_ in asked]) if asked else {}
        for each, id_ in asked:
            if id_ not in known and not self._draft.adds_to(id_):
                self._let(each.stream, cause, external.fire, happened)

    def _depth_of(self, ended: external.Ending) -> int:
        if isinstance(ended, ExecutionSkipped):
            return depth_of(ended)
        stream = schedule_stream(ended.tenant, ended.schedule_id)
        return depth_of(self._draft.run(stream, ended.execution_id))
