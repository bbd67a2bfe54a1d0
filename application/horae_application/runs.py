"""What the engine is asked to do with one execution, decided on the ledger's lines."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from horae_application import messages
from horae_application.draft import Draft
from horae_application.lines import fold_execution
from horae_application.messages import OK
from horae_application.ports import StoredEvent
from horae_application.pulse import Pulse
from horae_application.task import Answer, Task, refusal
from horae_domain import checking, decider, timers
from horae_domain.definition import Definition
from horae_domain.errors import ExecutionNotFound, IllegalState, StaleLease, TimerNotFound
from horae_domain.events import ReportRefused
from horae_domain.execution import STOP_GRACE, Execution, Outcome, Report, Status
from horae_domain.execution import report as judge_report
from horae_domain.identity import partition_of_stream, schedule_stream
from horae_domain.instants import format_instant
from horae_domain.policies import Retry
from horae_domain.schedule import Cause


class Runs:
    """Decides commands on executions into a draft, given the events of those that have ended."""

    def __init__(
        self,
        draft: Draft,
        loaded: Mapping[str, list[StoredEvent]],
        owner_of: Callable[[str], str | None],
        pulse: Pulse,
    ) -> None:
        self._draft = draft
        self._loaded = loaded
        self._owner_of = owner_of
        self._pulse = pulse

    def decide(self, task: Task, cause: Cause) -> Answer | None:
        """Decide a command on an execution; None if it is none.

        Raises:
            HoraeError: it is refused.
        """
        command = task.command
        match command:
            case messages.StartExecution():
                return self._start(task, command, cause)
            case messages.ReportExecution():
                return self._report(task, command, cause)
            case messages.CheckAnswered():
                return self._checked(task, command, cause)
            case messages.HeartbeatExecution():
                return self._heartbeat(task, command)
            case messages.CancelExecution():
                return self._cancel(task, command, cause)
            case messages.RetryExecution():
                return self._retry(task, command.id, cause)
            case messages.RequeueDeadLetter() if command.id is not None:
                return self._retry(task, command.id, cause, only={Status.DEAD, Status.PENDING})
            case messages.ReprioritizeExecution():
                return self._reprioritize(task, command, cause)
            case messages.TimerCommand() if command.timer.kind not in timers.OF_SCHEDULES:
                return self._timer(task, command, cause)
            case _:
                return None

    def _find(self, tenant: str, id_: str) -> tuple[str, Execution, bool]:
        """The schedule's stream, the execution, and whether its line holds it."""
        rows = self._loaded.get(id_)
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

    def _start(self, task: Task, command: messages.StartExecution, cause: Cause) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        if not alive:
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="execution_id", state=str(run.status)
            )
        decision = self._draft.begin(stream)
        decider.take(decision, run.id, command.worker, command.lease, cause)
        if run.status is not Status.RUNNING:
            self._draft.require_room(run)
        index = self._draft.accept(stream, decision)
        taken = decision.require().live[run.id]
        facts = {
            "execution_id": run.id,
            "attempt": taken.attempt,
            "lease": taken.lease,
            "deadline": format_instant(taken.deadline) if taken.deadline else None,
            "heartbeat": taken.heartbeat,
        }
        return Answer(task, OK, facts, index)

    def _report(self, task: Task, command: messages.ReportExecution, cause: Cause) -> Answer:
        """The status told is the first answer's: where the report has left the execution."""
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        said = to_report(command)
        if alive:
            decision = self._draft.begin(stream)
            in_time = decider.report(decision, run.id, said, cause)
            index = self._draft.accept(stream, decision)
            if not in_time:
                return self._report(task, command, cause)
            events, run = decision.events, decision.fate(run)
        else:
            # What has ended stays as it is: the report repeats the accepted one, or is stale.
            events = judge_report(run, _ANY, said, cause)
            index = None
            for event in events:
                index = self._draft.add(event, run.id, run.version)
        if any(isinstance(event, ReportRefused) for event in events):
            error = StaleLease("the lease is not the current one", field="lease", value=said.lease)
            return refusal(task, error)._replace(event=index)
        facts = {"execution_id": run.id, "status": run.closed.get(said.lease, str(run.status))}
        rows = self._loaded.get(run.id)
        position = rows[-1].position if rows and index is None else None
        return Answer(task, OK, facts, index, position)

    def _checked(self, task: Task, command: messages.CheckAnswered, cause: Cause) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.execution_id)
        facts = {"execution_id": run.id}
        if not alive:
            return Answer(task, OK, facts)
        decision = self._draft.begin(stream)
        verdict = checking.Verdict(command.met, command.condition, command.error)
        checking.judge(decision, run.id, verdict, cause)
        return Answer(task, OK, facts, self._draft.accept(stream, decision))

    def _heartbeat(self, task: Task, command: messages.HeartbeatExecution) -> Answer:
        _, run, _ = self._find(task.request.tenant, command.execution_id)
        if run.status is not Status.RUNNING or run.lease != command.lease:
            raise StaleLease("the lease is not the current one", field="lease", value=command.lease)
        run = self._pulse.note(run, self._draft.at, command.progress, ask=command.ask)
        first = run.bound
        facts = {
            "execution_id": run.id,
            "cancel": run.stopping,
            "deadline": None if first is None else format_instant(first),
        }
        return Answer(task, OK, facts)

    def _cancel(self, task: Task, command: messages.CancelExecution, cause: Cause) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.id)
        if not alive and not run.outside:
            if run.status is Status.CANCELLED:
                return Answer(task, OK, {"execution_id": run.id, "status": "cancelled"})
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="id", state=str(run.status)
            )
        decision = self._draft.begin(stream, *waiting(run))
        reason = command.reason or "cancelled"
        if command.mode == "graceful":
            grace = STOP_GRACE if command.grace is None else command.grace
            decider.ask_to_stop(decision, run.id, reason, grace, cause)
        else:
            decider.cancel(decision, run.id, reason, cause)
        index = self._draft.accept(stream, decision)
        run = decision.fate(run)
        facts: dict[str, Any] = {"execution_id": run.id, "status": str(run.status)}
        if run.stop_by is not None:
            facts |= {"stopping": True, "until": format_instant(run.stop_by)}
        return Answer(task, OK, facts, index)

    def _retry(
        self, task: Task, id_: str, cause: Cause, *, only: Container[Status] | None = None
    ) -> Answer:
        stream, run, _ = self._find(task.request.tenant, id_)
        if only is not None and run.status not in only:
            raise IllegalState(f"execution {id_} is {run.status}", field="id", state=run.status)
        decision = self._draft.begin(stream, *waiting(run))
        decider.requeue(decision, run, cause)
        index = self._draft.accept(stream, decision)
        run = decision.fate(run)
        facts = {"execution_id": run.id, "status": str(run.status), "attempt": run.attempt + 1}
        return Answer(task, OK, facts, index)

    def _reprioritize(
        self, task: Task, command: messages.ReprioritizeExecution, cause: Cause
    ) -> Answer:
        stream, run, alive = self._find(task.request.tenant, command.id)
        if not (alive or run.aside):
            raise IllegalState(
                f"execution {run.id} is {run.status}", field="id", state=str(run.status)
            )
        decision = self._draft.begin(stream, *waiting(run))
        decider.reprioritize(decision, run.id, command.priority, cause)
        index = self._draft.accept(stream, decision)
        run = decision.run(run.id)
        facts = {"execution_id": run.id, "status": str(run.status), "priority": run.priority}
        return Answer(task, OK, facts, index)

    def _timer(self, task: Task, command: messages.TimerCommand, cause: Cause) -> Answer:
        """A timer that is moved or cancelled, and where that leaves its execution."""
        stream, run, alive = self._find(task.request.tenant, command.timer.subject)
        if not alive and not run.outside:
            raise TimerNotFound("nothing waits under this id", field="id", value=command.id)
        decision = self._draft.begin(stream, *waiting(run))
        if isinstance(command, messages.MoveTimer):
            run = timers.move(decision, command.timer, command.to, command.note, cause)
        else:
            run = timers.cancel(decision, command.timer, command.note, cause)
        index = self._draft.accept(stream, decision)
        due = timers.timers_of(run).get(command.timer.kind) if run.status.alive else None
        facts = {
            "id": command.id,
            "kind": command.timer.kind,
            "due": None if due is None else format_instant(due),
            "execution_id": run.id,
            "status": str(run.status),
        }
        return Answer(task, OK, facts, index)


def waiting(run: Execution) -> list[Execution]:
    """The execution, if its line does not hold it."""
    return [run] if run.outside else []


_ANY = Definition.model_construct(retry=Retry())  # type: ignore[call-arg]


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
