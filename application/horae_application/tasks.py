"""What the engine is asked to do, decided on the ledger's lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog

from horae_application import messages
from horae_application.draft import Draft
from horae_application.lines import fold_execution
from horae_application.messages import OK, Command, Reply, Request, refused
from horae_application.ports import StoredEvent
from horae_domain import decider
from horae_domain import schedule as schedules
from horae_domain.codec import decode
from horae_domain.definition import Definition, Retry
from horae_domain.edits import Edit, PatchSchedule
from horae_domain.errors import (
    ExecutionNotFound,
    HoraeError,
    IdempotencyConflict,
    IllegalState,
    Internal,
    StaleLease,
    Unavailable,
)
from horae_domain.events import (
    NAMES,
    ReportRefused,
    RequestAnswered,
    ScheduleCreated,
)
from horae_domain.execution import Execution, Outcome, Report, Status
from horae_domain.execution import report as judge_report
from horae_domain.identity import (
    partition_of,
    partition_of_stream,
    request_hash,
    request_stream,
    schedule_stream,
)
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.schedule import Cause

_log = structlog.get_logger(__name__)

KEYED = {
    "schedule.create",
    "schedule.update",
    "schedule.patch",
    "schedule.pause",
    "schedule.resume",
    "schedule.cancel",
    "schedule.trigger",
    "execution.cancel",
    "execution.reprioritize",
}
"""Commands whose idempotency key is recorded; the others have a lease, which says the same.

A process that was stopped may act on a request long after its caller has sent it again elsewhere:
without the record, an old `cancel` would end a schedule that was made anew since.
"""


class Task(NamedTuple):
    """A command on its way through the engine; `done` is called once, after the commit."""

    request: Request
    command: Command
    done: Callable[[Reply], None]
    tries: int = 0


class Answer(NamedTuple):
    """A reply that waits for its commit; `event` is the one of its draft that it rests on."""

    task: Task
    status: int
    body: dict[str, Any]
    event: int | None = None
    position: int | None = None


def partition_of_command(tenant: str, command: Command) -> int:
    """The partition that decides a command."""
    match command:
        case messages.CreateSchedule() | messages.UpdateSchedule():
            return partition_of(tenant, command.definition.id)
        case (
            messages.PatchSchedule()
            | messages.PauseSchedule()
            | messages.ResumeSchedule()
            | messages.CancelSchedule()
            | messages.TriggerSchedule()
        ):
            return partition_of(tenant, command.id)
        case messages.StartExecution() | messages.ReportExecution():
            return UUID(command.execution_id).bytes[0] % 64
        case messages.CancelExecution() | messages.ReprioritizeExecution():
            return UUID(command.id).bytes[0] % 64
        case _:
            raise TypeError(f"{command.name} has no single partition")


def schedule_of(command: Command) -> str | None:
    """The id of the schedule that a command is about, unless it names an execution."""
    match command:
        case messages.CreateSchedule() | messages.UpdateSchedule():
            return command.definition.id
        case (
            messages.PatchSchedule()
            | messages.PauseSchedule()
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
        case messages.CancelExecution() | messages.ReprioritizeExecution():
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
    same_request(task, first.request)
    return Answer(task, OK, first.reply, position=rows[0].position)


def same_request(task: Task, first: str) -> None:
    """Refuse a key that was used with another request."""
    if first != request_hash(task.request.body):
        raise IdempotencyConflict(
            "this key was used with another request", field="Horae-Idempotency-Key",
            value=task.request.key,
        )  # fmt: skip


def refusal(task: Task, error: HoraeError) -> Answer:
    """The answer of a task that is refused."""
    reply = refused(error)
    return Answer(task, reply.status, reply.body)


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
        self._keyed: dict[UUID, Answer] = {}

    def decide(self, task: Task) -> Answer:
        """Decide one task; a refusal is an answer too, and leaves nothing behind."""
        try:
            stream = key_stream(task)
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

    def _remember(self, task: Task, stream: UUID, answer: Answer) -> Answer:
        event = RequestAnswered(
            at=self._draft.at,
            tenant=task.request.tenant,
            schedule_id=schedule_of(task.command) or "",
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
            case messages.StartExecution():
                return self._start(task, command)
            case messages.ReportExecution():
                return self._report(task, command)
            case messages.CancelExecution():
                return self._cancel(task, command)
            case messages.ReprioritizeExecution():
                return self._reprioritize(task, command)
            case _:
                return self._schedule(task, to_domain(task, self._cause(task)))

    def _cause(self, task: Task) -> Cause:
        request = task.request
        return Cause(self._draft.at, request.command_id, request.correlation_id, request.actor)

    # --- schedules --------------------------------------------------------------------------------

    def _schedule(self, task: Task, command: schedules.ScheduleCommand | Edit) -> Answer:
        tenant = task.request.tenant
        id_ = schedule_of(task.command) or ""
        stream = schedule_stream(tenant, id_)
        decision = self._draft.begin(stream)
        decider.command(decision, command)
        index = self._draft.accept(stream, decision)
        line = decision.require()
        position: int | None = None
        if index is None and isinstance(command, schedules.CreateSchedule):
            index, position = self._created(stream)
        return Answer(task, OK, facts_of(line, self._draft.at), index, position)

    def _created(self, stream: UUID) -> tuple[int | None, int | None]:
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
        asked = decider.Trigger(key, command.payload, overridden, self._cause(task))
        rows = self._loaded.get(UUID(id_))
        if rows:
            known = self._draft.run(stream, id_) or fold_execution(rows)
            return Answer(task, OK, triggered(id_, known, asked), None, rows[0].position)
        if self._draft.adds_to(UUID(id_)):
            first = self._draft.streams.index(UUID(id_))
            return Answer(task, OK, triggered(id_, self._draft.run(stream, id_), asked), first)
        decider.trigger(decision, asked)
        index = self._draft.accept(stream, decision)
        run = decision.require().find(id_)
        if run is None:
            run = self._draft.run(stream, id_)
        return Answer(task, OK, triggered(id_, run, asked), index)

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
            self._draft.partitions.add(partition_of_stream(stream))
            if (run := line.find(id_)) is not None:
                return stream, run, True
            known = self._draft.run(stream, id_) or known
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
        return Answer(task, OK, facts, index)

    def _report(self, task: Task, command: messages.ReportExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        said = to_report(command)
        cause = self._cause(task)
        if alive:
            decision = self._draft.begin(stream)
            in_time = decider.report(decision, run.id, said, cause)
            index = self._draft.accept(stream, decision)
            if not in_time:
                return self._report(task, command)
            events = decision.events
            line = decision.require()
            found = line.find(run.id)
            status = found.status if found else None
        else:
            # What has ended stays as it is: the report repeats the accepted one, or is stale.
            events = judge_report(run, _ANY, said, cause)
            index = None
            for event in events:
                index = self._draft.add(event, UUID(run.id), run.version)
            status = run.status
        if any(isinstance(event, ReportRefused) for event in events):
            error = StaleLease("the lease is not the current one", field="lease", value=said.lease)
            return refusal(task, error)._replace(event=index)
        facts: dict[str, Any] = {"execution_id": run.id}
        if status is not None:
            facts["status"] = str(status)
        rows = self._loaded.get(UUID(run.id))
        position = rows[-1].position if rows and index is None else None
        return Answer(task, OK, facts, index, position)

    def _cancel(self, task: Task, command: messages.CancelExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.id)
        if not alive:
            if run.status is Status.CANCELLED:
                return Answer(task, OK, {"execution_id": run.id, "status": "cancelled"})
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="id", state=str(run.status)
            )
        decision = self._draft.begin(stream)
        decider.cancel(decision, run.id, command.reason or "cancelled", self._cause(task))
        index = self._draft.accept(stream, decision)
        return Answer(task, OK, {"execution_id": run.id, "status": "cancelled"}, index)

    def _reprioritize(self, task: Task, command: messages.ReprioritizeExecution) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.id)
        if not alive:
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="id", state=str(run.status)
            )
        decision = self._draft.begin(stream)
        decider.reprioritize(decision, run.id, command.priority, self._cause(task))
        index = self._draft.accept(stream, decision)
        run = decision.run(run.id)
        facts = {"execution_id": run.id, "status": str(run.status), "priority": run.priority}
        return Answer(task, OK, facts, index)


_ANY = Definition.model_construct(retry=Retry())  # type: ignore[call-arg]


def facts_of(line: Line, at: datetime) -> dict[str, Any]:
    """What a reply at an instant says of a schedule."""
    schedule = line.schedule
    active = schedule.status is schedules.Status.ACTIVE
    return {
        "id": schedule.id,
        "revision": schedule.revision,
        "status": str(schedules.shown_status(schedule, at)),
        "next_due": format_instant(line.next_due) if active and line.next_due else None,
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


def to_domain(task: Task, cause: Cause) -> schedules.ScheduleCommand | Edit:
    """The domain's command of a message."""
    command = task.command
    match command:
        case messages.CreateSchedule():
            return schedules.CreateSchedule(task.request.tenant, command.definition, cause)
        case messages.UpdateSchedule():
            return schedules.UpdateSchedule(command.definition, command.expected_revision, cause)
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


def to_report(command: messages.ReportExecution) -> Report:
    """The domain's report of a message."""
    error = command.error
    return Report(
        lease=command.lease,
        outcome=Outcome(command.outcome),
        result=command.result,
        error=error.model_dump(exclude_none=True, exclude={"retry_after", "final"})
        if error
        else None,
        retry_after=error.retry_after if error else None,
        final=error.final if error else False,
        after=command.after,
        limit=command.limit,
        cooldown=command.cooldown,
        started_at=command.started_at,
        worker=command.worker,
        logs=tuple(command.logs),
        metadata=command.metadata,
    )
