"""What the engine is asked to do, decided on the ledger's lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from horae_application import messages
from horae_application.commanding import Commanding
from horae_application.creating import Creation
from horae_application.depths import carried_by
from horae_application.draft import Draft
from horae_application.limiting import Limiting
from horae_application.lines import fold_execution
from horae_application.log import get_logger
from horae_application.messages import OK, Command, Request
from horae_application.ports import StoredEvent
from horae_application.pulse import Pulse
from horae_application.receiving import Receiving
from horae_application.runs import Runs
from horae_application.sweeping import Sweeping
from horae_application.task import Answer, Task, refusal
from horae_domain import backfilling, conditions, decider, planning, timers
from horae_domain import schedule as schedules
from horae_domain.codec import decode
from horae_domain.edits import Edit, PatchSchedule, RetagSchedule
from horae_domain.errors import (
    HoraeError,
    IdempotencyConflict,
    IllegalState,
    Internal,
    Unavailable,
)
from horae_domain.events import (
    NAMES,
    RequestAnswered,
    ScheduleCreated,
)
from horae_domain.execution import Execution
from horae_domain.identity import (
    partition_of,
    partition_of_stream,
    request_hash,
    request_stream,
    schedule_stream,
)
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.retention import Retention
from horae_domain.schedule import Cause

_log = get_logger("horae.tasks")

SHOWN = 10
"""Instants of a backfill that its answer names."""

KEYED = {
    "schedule.create",
    "schedule.update",
    "schedule.patch",
    "schedule.retag",
    "schedule.bulk",
    "schedule.pause",
    "schedule.resume",
    "schedule.cancel",
    "schedule.trigger",
    "schedule.backfill",
    "occurrence.skip",
    "occurrence.move",
    "occurrence.hold",
    "occurrence.approve",
    "occurrence.set_payload",
    "timer.move",
    "timer.cancel",
    "execution.cancel",
    "execution.reprioritize",
    "execution.retry",
    "command.cancel",
    "dead_letter.requeue",
    "queue.limit",
    "queue.pause",
    "queue.resume",
    "tenant.limit",
}
"""Commands whose idempotency key is recorded; the others have a lease, which says the same.

A process that was stopped may act on a request long after its caller has sent it again elsewhere:
without the record, an old `cancel` would end a schedule that was made anew since.
"""


def partition_of_command(tenant: str, command: Command) -> int:
    """The partition that decides a command."""
    if command.execution is not None:
        return partition_of_stream(command.execution)
    if isinstance(command, messages.PublishEvent):
        return partition_of(tenant, command.id or command.type)
    if (stream := command.limited(tenant)) is not None:
        return partition_of_stream(stream)
    schedule_id = command.schedule(tenant)
    if schedule_id is None:
        raise TypeError(f"{command.name} has no single partition")
    return partition_of(tenant, schedule_id)


def decided_by(epochs: Collection[int], tenant: str, command: Command) -> int | None:
    """The partition whose owner decides a command; None if that is none of these.

    An external event is recorded by any owner, and so is what many of them have answered.
    """
    if isinstance(command, messages.PublishEvent | messages.RememberAnswer):
        return next(iter(epochs), None)
    partition = partition_of_command(tenant, command)
    return partition if partition in epochs else None


def key_stream(request: Request) -> str | None:
    """The stream of a request's idempotency key."""
    if request.key is None or request.name not in KEYED:
        return None
    return request_stream(request.tenant, request.name, request.key)


def repeated(task: Task, rows: list[StoredEvent]) -> Answer:
    """The first answer to a key, or a conflict if the request is another one."""
    first = decode(rows[0].name, rows[0].state)
    assert isinstance(first, RequestAnswered)  # noqa: S101 - what such a stream holds
    same_request(task, first.request)
    return Answer(task, OK, first.reply, position=rows[0].position)


def same_request(task: Task, first: str) -> None:
    """Refuse a key that was used with another request."""
    if first != request_hash(task.request.body):
        raise IdempotencyConflict(
            "this key was used with another request", field="Horae-Idempotency-Key",
            value=task.request.key,
        )  # fmt: skip


class Desk:
    """Decides tasks into a draft. Pure but for the events that it is given to look back at."""

    def __init__(
        self,
        draft: Draft,
        loaded: Mapping[str, list[StoredEvent]],
        owner_of: Callable[[str], str | None],
        pulse: Pulse,
        receiving: Receiving,
        retention: Retention,
    ) -> None:
        self._draft = draft
        self._loaded = loaded
        self._sweeping = Sweeping(draft, loaded, retention)
        self._runs = Runs(draft, loaded, owner_of, pulse)
        self._commanding = Commanding(draft, loaded)
        self._receiving = receiving
        self._limiting = Limiting(draft, loaded)
        self._keyed: dict[str, Answer] = {}

    def decide(self, task: Task) -> Answer:
        """Decide one task; a refusal is an answer too, and leaves nothing behind."""
        try:
            stream = key_stream(task.request)
            if stream is None:
                return self._decide(task)
            if stream in self._loaded:
                return repeated(task, self._loaded[stream])
            if stream in self._keyed:
                first = self._keyed[stream]
                same_request(task, request_hash(first.task.request.body))
                return first._replace(task=task)
            answer = self._decide(task)
            return self._remember(task, stream, answer) if answer.status == OK else answer
        except HoraeError as error:
            return refusal(task, error)
        except Exception:  # noqa: BLE001 - recorded, and answered
            # What is stored or asked must not keep the others of this commit from their answers.
            _log.exception("a command failed", command=task.request.name)
            return refusal(task, Internal("the engine could not decide this command"))

    def _remember(self, task: Task, stream: str, answer: Answer) -> Answer:
        event = RequestAnswered(
            at=self._draft.at,
            tenant=task.request.tenant,
            schedule_id=task.command.schedule(task.request.tenant) or "",
            request=request_hash(task.request.body),
            reply=answer.body,
        )
        answer = answer._replace(event=self._draft.add(event, stream, 0))
        self._keyed[stream] = answer
        return answer

    def _decide(self, task: Task) -> Answer:
        command = task.command
        match command:
            case messages.TriggerSchedule():
                return self._trigger(task, command)
            case messages.SweepSchedule():
                return self._sweeping.decide(task, command, self.cause(task))
            case messages.OccurrenceCommand():
                return self._plan(task, command)
            case messages.BackfillSchedule():
                return self._backfill(task, command)
            case messages.TickAnswered():
                return self._tick(task, command)
            case messages.RememberAnswer():
                return Answer(task, OK, command.reply)
            case messages.TimerCommand() if command.timer.kind in timers.OF_SCHEDULES:
                return self._timer(task, command)
            case _:
                cause = self.cause(task)
                answer = (
                    self._runs.decide(task, cause)
                    or self._commanding.decide(task, cause)
                    or self._limiting.decide(task, cause)
                    or self._receiving.decide(task, cause)
                )
                return answer or self._schedule(task, to_domain(task, cause))

    def cause(self, task: Task) -> Cause:
        """When a task is decided, and on whose word."""
        request = task.request
        return Cause(
            self._draft.at,
            request.command_id,
            request.correlation_id,
            request.actor,
            request.traceparent,
            carried_by(task, self._loaded),
        )

    # --- schedules --------------------------------------------------------------------------------

    def create(self, task: Task, one: Creation, cause: Cause) -> Answer:
        """Decide one of the creations of a task; as for `decide`, a refusal is an answer.

        Args:
            task: what all of them were asked by.
            one: the creation.
            cause: the task's.
        """
        asked = schedules.CreateSchedule(task.request.tenant, one.definition, cause)
        try:
            return self._change(task, one.stream, asked)
        except HoraeError as error:
            return refusal(task, error)
        except Exception:  # noqa: BLE001 - as in `decide`
            _log.exception("a creation failed", schedule_id=one.definition.id)
            return refusal(task, Internal("the engine could not decide this command"))

    def _schedule(self, task: Task, command: schedules.ScheduleCommand | Edit) -> Answer:
        id_ = task.command.schedule(task.request.tenant) or ""
        return self._change(task, schedule_stream(task.request.tenant, id_), command)

    def _change(self, task: Task, stream: str, command: schedules.ScheduleCommand | Edit) -> Answer:
        decision = self._draft.begin(stream)
        decider.command(decision, command)
        index = self._draft.accept(stream, decision)
        line = decision.require()
        position: int | None = None
        if index is None and isinstance(command, schedules.CreateSchedule):
            index, position = self._created(stream)
        return Answer(task, OK, facts_of(line, self._draft.at), index, position)

    def _tick(self, task: Task, command: messages.TickAnswered) -> Answer:
        stream = schedule_stream(task.request.tenant, command.id)
        decision = self._draft.begin(stream)
        said = (command.tick, command.revision, command.holds, command.data, command.error)
        conditions.judge(decision, conditions.Looked(*said), self.cause(task))
        return Answer(task, OK, {"id": command.id}, self._draft.accept(stream, decision))

    def _plan(self, task: Task, command: messages.OccurrenceCommand) -> Answer:
        """One occurrence, and the execution that it is if it was held."""
        stream = schedule_stream(task.request.tenant, command.id)
        decision = self._draft.begin(stream)
        run_id = planning.plan(decision, to_plan(command, self.cause(task)))
        index = self._draft.accept(stream, decision)
        facts = facts_of(decision.require(), self._draft.at) | {"at": format_instant(command.at)}
        if run_id is not None:
            facts["execution_id"] = run_id
        return Answer(task, OK, facts, index)

    def _timer(self, task: Task, command: messages.TimerCommand) -> Answer:
        """A timer of a schedule: one occurrence, a backfill, or what cannot be changed."""
        if command.timer.kind in {timers.LOOK, timers.COOLDOWN}:
            stream = schedule_stream(task.request.tenant, command.timer.subject)
            timers.refuse_fixed(self._draft.begin(stream), command.timer, self.cause(task))
        if command.timer.kind == timers.BACKFILL:
            return self._end_backfill(task, command)
        answer = self._plan(task, as_plan(command))
        due = command.to if isinstance(command, messages.MoveTimer) else None
        return answer._replace(body=timer_facts(answer.body, command, due))

    def _backfill(self, task: Task, command: messages.BackfillSchedule) -> Answer:
        request = task.request
        stream = schedule_stream(request.tenant, command.id)
        decision = self._draft.begin(stream)
        key = request.key or request.command_id or uuid4().hex
        id_ = request_stream(request.tenant, f"{request.name}:{command.id}", key).replace("-", "")[
            :16
        ]
        asked = backfilling.BackfillSchedule(
            id_, command.from_, command.to, command.overlap, command.note, self.cause(task)
        )
        if command.dry_run:
            found = backfilling.find(decision.require(), asked)
            facts: dict[str, Any] = {"id": command.id, "dry_run": True}
            index = None
        else:
            found = backfilling.backfill(decision, asked)
            index = self._draft.accept(stream, decision)
            facts = {"id": command.id, "backfill_id": id_}
        first = [format_instant(each.due) for each in found[:SHOWN]]
        return Answer(task, OK, facts | {"count": len(found), "first": first}, index)

    def _end_backfill(self, task: Task, command: messages.TimerCommand) -> Answer:
        if isinstance(command, messages.MoveTimer):
            raise IllegalState(
                "a backfill waits for room, not for an instant", field="id", value=command.id,
                state="waiting",
            )  # fmt: skip
        stream = schedule_stream(task.request.tenant, command.timer.subject)
        decision = self._draft.begin(stream)
        timers.end_backfill(decision, command.timer, self.cause(task))
        index = self._draft.accept(stream, decision)
        facts = facts_of(decision.require(), self._draft.at)
        return Answer(task, OK, timer_facts(facts, command, None), index)

    def _created(self, stream: str) -> tuple[int | None, int | None]:
        """What a creation that finds its schedule rests on: the first one's event."""
        if self._draft.adds_to(stream):
            return self._draft.streams.index(stream), None
        created = NAMES[ScheduleCreated]
        rows = [row for row in self._loaded.get(stream, ()) if row.name == created]
        return None, rows[-1].position if rows else None

    def _trigger(self, task: Task, command: messages.TriggerSchedule) -> Answer:
        tenant = task.request.tenant
        stream = schedule_stream(tenant, command.id)
        decision = self._draft.begin(stream)
        schedule = decision.require().schedule
        key = command.key or task.request.key or task.request.command_id or uuid4().hex
        id_ = decider.trigger_id(tenant, command.id, schedule.incarnation, key)
        overridden = "payload" in command.model_fields_set
        asked = decider.Trigger(key, command.payload, overridden, self.cause(task))
        rows = self._loaded.get(id_)
        if rows:
            known = self._draft.run(stream, id_) or fold_execution(rows)
            return Answer(task, OK, triggered(id_, known, asked), None, rows[0].position)
        if self._draft.adds_to(id_):
            first = self._draft.streams.index(id_)
            return Answer(task, OK, triggered(id_, self._draft.run(stream, id_), asked), first)
        decider.trigger(decision, asked)
        index = self._draft.accept(stream, decision)
        run = decision.require().find(id_)
        if run is None:
            run = self._draft.run(stream, id_)
        return Answer(task, OK, triggered(id_, run, asked), index)


def facts_of(line: Line, at: datetime) -> dict[str, Any]:
    """What a reply at an instant says of a schedule."""
    schedule = line.schedule
    active = schedule.status is schedules.Status.ACTIVE
    return {
        "id": schedule.id,
        "revision": schedule.revision,
        "status": str(schedules.shown_status(schedule, at)),
        "next_due": format_instant(line.fires_at) if active and line.fires_at else None,
    }


def timer_facts(
    facts: dict[str, Any], command: messages.TimerCommand, due: datetime | None
) -> dict[str, Any]:
    """What a reply says of a timer of a schedule."""
    return facts | {
        "id": command.id,
        "kind": command.timer.kind,
        "due": None if due is None else format_instant(due),
        "schedule_id": command.timer.subject,
    }


def triggered(id_: str, run: Execution | None, asked: decider.Trigger) -> dict[str, Any]:
    """What a reply says of the execution that a trigger stands for.

    Raises:
        IdempotencyConflict: it was asked for with another payload.
    """
    if run is None:
        return {"execution_id": id_, "status": "unknown"}
    if (run.overridden, run.payload) != (asked.overridden, asked.payload):
        raise IdempotencyConflict(
            "this key was used with another payload", field="key", value=asked.key
        )
    reason = {"reason": run.reason} if run.reason is not None else {}
    return {"execution_id": id_, "status": str(run.status), **reason}


def as_plan(command: messages.TimerCommand) -> messages.OccurrenceCommand:
    """What moving or cancelling the timer of an occurrence is: moving or skipping it."""
    told = {"id": command.timer.subject, "at": command.timer.due, "note": command.note}
    if isinstance(command, messages.MoveTimer):
        return messages.MoveOccurrence(to=command.to, **told)
    return messages.SkipOccurrence(**told)


def to_plan(command: messages.OccurrenceCommand, cause: Cause) -> planning.OccurrenceCommand:
    """The domain's command of a message about one occurrence."""
    at, note = command.at, command.note
    match command:
        case messages.SkipOccurrence() | messages.ApproveOccurrence(reject=True):
            return planning.SkipOccurrence(at, note, cause)
        case messages.MoveOccurrence():
            return planning.MoveOccurrence(at, command.to, note, cause)
        case messages.HoldOccurrence():
            return planning.HoldOccurrence(at, note, cause)
        case messages.ApproveOccurrence():
            return planning.ApproveOccurrence(at, note, cause)
        case messages.SetOccurrencePayload():
            return planning.SetOccurrencePayload(at, command.payload, note, cause)
        case _:
            raise Unavailable(f"{command.name} is not for the engine")


def to_domain(task: Task, cause: Cause) -> schedules.ScheduleCommand | Edit:
    """The domain's command of a message."""
    command = task.command
    match command:
        case messages.CreateSchedule():
            return schedules.CreateSchedule(task.request.tenant, command.definition, cause)
        case messages.UpdateSchedule():
            return schedules.UpdateSchedule(command.definition, command.expected_revision, cause)
        case messages.RetagSchedule():
            return RetagSchedule(command.add, command.remove, cause)
        case messages.PatchSchedule():
            return PatchSchedule(command.patch, command.expected_revision, cause)
        case messages.PauseSchedule():
            return schedules.PauseSchedule(command.note, cause)
        case messages.ResumeSchedule():
            return schedules.ResumeSchedule(command.note, cause)
        case messages.CancelSchedule():
            return schedules.CancelSchedule(command.note, cause)
        case _:
            raise Unavailable(f"{command.name} is not for the engine")
