"""What the engine is asked to do, decided on the ledger's lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from horae_application import messages
from horae_application.draft import Draft
from horae_application.lines import fold_execution
from horae_application.messages import Command, Reply, Request, refused
from horae_application.ports import StoredEvent
from horae_domain import decider
from horae_domain import schedule as schedules
from horae_domain.codec import decode
from horae_domain.definition import Definition, Retry
from horae_domain.errors import (
    ExecutionNotFound,
    HoraeError,
    IdempotencyConflict,
    IllegalState,
    StaleLease,
    Unavailable,
)
from horae_domain.events import ReportRefused, RequestAnswered
from horae_domain.execution import Execution, Outcome, Report
from horae_domain.execution import report as judge_report
from horae_domain.identity import partition_of, request_hash, request_stream, schedule_stream
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.schedule import Cause

KEYED = {"schedule.create", "schedule.create_many", "schedule.update", "schedule.trigger"}
"""Commands whose idempotency key is recorded; the others do nothing when they are repeated."""


class Task(NamedTuple):
    """A command on its way through the engine; `done` is called once, after the commit."""

    request: Request
    command: Command
    done: Callable[[Reply], None]
    tries: int = 0


class Answer(NamedTuple):
    """A reply that waits for its commit; `index` is the event whose position it rests on."""

    task: Task
    status: int
    body: dict[str, Any]
    index: int | None = None
    position: int | None = None


def partition_of_command(tenant: str, command: Command) -> int:
    """The partition that decides a command."""
    match command:
        case messages.CreateSchedule() | messages.UpdateSchedule():
            return partition_of(tenant, command.definition.id)
        case (
            messages.PauseSchedule()
            | messages.ResumeSchedule()
            | messages.CancelSchedule()
            | messages.TriggerSchedule()
        ):
            return partition_of(tenant, command.id)
        case messages.StartExecution() | messages.ReportExecution():
            return UUID(command.execution_id).bytes[0] % 64
        case messages.CancelExecution():
            return UUID(command.id).bytes[0] % 64
        case _:
            raise TypeError(f"{command.name} has no single partition")


def schedule_of(tenant: str, command: Command) -> str | None:
    """The id of the schedule that a command is about, unless it names an execution."""
    match command:
        case messages.CreateSchedule() | messages.UpdateSchedule():
            return command.definition.id
        case (
            messages.PauseSchedule()
            | messages.ResumeSchedule()
            | messages.CancelSchedule()
            | messages.TriggerSchedule()
        ):
            return command.id
        case _:
            return None


def execution_of(command: Command) -> str | None:
    """The id of the execution that a command is about."""
    match command:
        case messages.StartExecution() | messages.ReportExecution():
            return command.execution_id
        case messages.CancelExecution():
            return command.id
        case _:
            return None


def key_stream(task: Task) -> UUID | None:
    """The stream of the task's idempotency key."""
    request = task.request
    if request.key is None or request.name not in KEYED:
        return None
    return request_stream(request.tenant, request.name, request.key)


def repeated(task: Task, rows: list[StoredEvent]) -> Answer:
    """The first answer to a key, or a conflict if the request is another one."""
    first = decode(rows[0].name, rows[0].state)
    assert isinstance(first, RequestAnswered)  # noqa: S101 - what such a stream holds
    if first.request != request_hash(task.request.body):
        raise IdempotencyConflict(
            "this key was used with another request", field="Horae-Idempotency-Key",
            value=task.request.key,
        )  # fmt: skip
    return Answer(task, 200, first.reply, position=rows[0].position)


class Desk:
    """Decides tasks into a draft. Pure but for the events that it is given to look back at."""

    def __init__(
        self,
        draft: Draft,
        loaded: Mapping[UUID, list[StoredEvent]],
        owner_of: Callable[[str], UUID | None],
    ) -> None:
        self._draft = draft
        self._loaded = loaded
        self._owner_of = owner_of

    def decide(self, task: Task) -> Answer:
        """Decide one task; a refusal is an answer too, and leaves nothing behind."""
        try:
            stream = key_stream(task)
            if stream is not None and stream in self._loaded:
                return repeated(task, self._loaded[stream])
            answer = self._decide(task)
            if stream is not None and answer.status == 200:  # noqa: PLR2004
                return self._remember(task, stream, answer)
        except HoraeError as error:
            reply = refused(error)
            return Answer(task, reply.status, reply.body)
        return answer

    def _remember(self, task: Task, stream: UUID, answer: Answer) -> Answer:
        event = RequestAnswered(
            at=self._draft.at,
            tenant=task.request.tenant,
            schedule_id=schedule_of(task.request.tenant, task.command) or "",
            request=request_hash(task.request.body),
            reply=answer.body,
        )
        return answer._replace(index=self._draft.add(event, stream, 0))

    def _decide(self, task: Task) -> Answer:
        command = task.command
        match command:
            case messages.TriggerSchedule():
                return self._trigger(task, command)
            case messages.StartExecution():
                return self._start(task, command)
            case messages.ReportExecution():
                return self._report(task, command)
            case messages.CancelExecution():
                return self._cancel(task, command)
            case _:
                return self._schedule(task, to_domain(task, self._cause(task)))

    def _cause(self, task: Task) -> Cause:
        request = task.request
        return Cause(self._draft.at, request.command_id, request.correlation_id, request.actor)

    # --- schedules --------------------------------------------------------------------------------

    def _schedule(self, task: Task, command: schedules.ScheduleCommand) -> Answer:
        tenant = task.request.tenant
        id_ = schedule_of(tenant, task.command) or ""
        stream = schedule_stream(tenant, id_)
        decision = self._draft.begin(stream)
        decider.command(decision, command)
        index = self._draft.accept(stream, decision)
        line = decision.require()
        return Answer(task, 200, facts_of(line), index, self._first(stream, index))

    def _first(self, stream: UUID, index: int | None) -> int | None:
        """The position that a command without effect rests on."""
        rows = self._loaded.get(stream)
        return rows[-1].position if index is None and rows else None

    def _trigger(self, task: Task, command: messages.TriggerSchedule) -> Answer:
        tenant = task.request.tenant
        stream = schedule_stream(tenant, command.id)
        decision = self._draft.begin(stream)
        schedule = decision.require().schedule
        key = command.key or task.request.key or task.request.command_id or uuid4().hex
        id_ = decider.trigger_id(tenant, command.id, schedule.incarnation, key)
        rows = self._loaded.get(UUID(id_))
        if rows:
            run = fold_execution(rows)
            status = str(run.status) if run else "unknown"
            return Answer(
                task, 200, {"execution_id": id_, "status": status}, None, rows[0].position
            )
        overridden = "payload" in command.model_fields_set
        asked = decider.Trigger(key, command.payload, overridden, self._cause(task))
        decider.trigger(decision, asked)
        index = self._draft.accept(stream, decision)
        line = decision.require()
        status = str(line.live[id_].status) if id_ in line.live else "skipped"
        return Answer(task, 200, {"execution_id": id_, "status": status}, index)

    # --- executions -------------------------------------------------------------------------------

    def _find(self, tenant: str, id_: str) -> tuple[UUID, Execution, bool]:
        """The schedule's stream, the execution, and whether it is alive."""
        rows = self._loaded.get(UUID(id_))
        known = fold_execution(rows) if rows else None
        stream = self._owner_of(id_)
        if stream is None and known is not None:
            stream = schedule_stream(known.tenant, known.schedule_id)
        line = self._draft.line(stream) if stream is not None else None
        if stream is not None and line is not None and line.schedule.tenant == tenant:
            if id_ in line.live:
                return stream, line.live[id_], True
            if known is not None:
                return stream, known, False
        raise ExecutionNotFound("no such execution", field="execution_id", value=id_)

    def _start(self, task: Task, command: messages.StartExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        if not alive:
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="execution_id", state=str(run.status)
            )
        decision = self._draft.begin(stream)
        decider.take(decision, run.id, command.worker, command.lease, self._cause(task))
        index = self._draft.accept(stream, decision)
        taken = decision.require().live[run.id]
        facts = {
            "execution_id": run.id,
            "attempt": taken.attempt,
            "lease": taken.lease,
            "deadline": format_instant(taken.deadline) if taken.deadline else None,
        }
        return Answer(task, 200, facts, index)

    def _report(self, task: Task, command: messages.ReportExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        said = to_report(command)
        cause = self._cause(task)
        if alive:
            decision = self._draft.begin(stream)
            decider.report(decision, run.id, said, cause)
            index = self._draft.accept(stream, decision)
            events = decision.events
            line = decision.require()
            status = line.live[run.id].status if run.id in line.live else None
        else:
            # What has ended stays as it is: the report repeats the accepted one, or is stale.
            events = judge_report(run, _ANY, said, cause)
            index = None
            for event in events:
                index = self._draft.add(event, UUID(run.id), run.version)
            status = run.status
        if any(isinstance(event, ReportRefused) for event in events):
            error = StaleLease("the lease is not the current one", field="lease", value=said.lease)
            reply = refused(error)
            return Answer(task, reply.status, reply.body, index)
        facts: dict[str, Any] = {"execution_id": run.id}
        if status is not None:
            facts["status"] = str(status)
        rows = self._loaded.get(UUID(run.id))
        position = rows[-1].position if rows and index is None else None
        return Answer(task, 200, facts, index, position)

    def _cancel(self, task: Task, command: messages.CancelExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.id)
        if not alive:
            if str(run.status) == "cancelled":
                return Answer(task, 200, {"execution_id": run.id, "status": "cancelled"})
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="id", state=str(run.status)
            )
        decision = self._draft.begin(stream)
        decider.cancel(decision, run.id, command.reason or "cancelled", self._cause(task))
        index = self._draft.accept(stream, decision)
        return Answer(task, 200, {"execution_id": run.id, "status": "cancelled"}, index)


_ANY = Definition.model_construct(retry=Retry())


def facts_of(line: Line) -> dict[str, Any]:
    """What a reply says of a schedule."""
    schedule = line.schedule
    return {
        "id": schedule.id,
        "revision": schedule.revision,
        "status": str(schedule.status),
        "next_due": format_instant(line.next_due) if line.next_due else None,
    }


def to_domain(task: Task, cause: Cause) -> schedules.ScheduleCommand:
    """The domain's command of a message."""
    command = task.command
    match command:
        case messages.CreateSchedule():
            return schedules.CreateSchedule(task.request.tenant, command.definition, cause)
        case messages.UpdateSchedule():
            return schedules.UpdateSchedule(command.definition, command.expected_revision, cause)
        case messages.PauseSchedule():
            return schedules.PauseSchedule(command.note, cause)
        case messages.ResumeSchedule():
            return schedules.ResumeSchedule(command.note, cause)
        case messages.CancelSchedule():
            return schedules.CancelSchedule(command.note, cause)
        case _:
            raise Unavailable(f"{command.name} is not for the engine")


def to_report(command: messages.ReportExecution) -> Report:
    """The domain's report of a message."""
    error = command.error
    return Report(
        lease=command.lease,
        outcome=Outcome(command.outcome),
        result=command.result,
        error=error.model_dump(exclude_none=True, exclude={"retry_after"}) if error else None,
        retry_after=error.retry_after if error else None,
        after=command.after,
        limit=command.limit,
        cooldown=command.cooldown,
        started_at=command.started_at,
        worker=command.worker,
        logs=tuple(command.logs),
        metadata=command.metadata,
    )
