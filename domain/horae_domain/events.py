"""Every fact that Horae records, and the table of their stable names.

Events are immutable msgspec structs; defaults are left out of their stored form. A name carries
the version of its form (`schedule.paused.v1`); a changed form is a new version with an upcaster.
Times are aware, in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from horae_domain.durations import parse_duration
from horae_domain.instants import format_instant

COMMAND = "command:"
"""What the handler of an application's command is named by, before the name of its type."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all events say: when it was decided, about whom, and on whose word."""

    at: datetime
    tenant: str = "default"
    schedule_id: str
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An external event that confirmed an execution, by the index of what it waited for."""

    index: int
    event_id: str
    type: str
    source: str = ""
    data: Any = None


class Because(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an execution falls back: how it would have ended, the reason, and the error if any."""

    end: str
    reason: str
    error: dict[str, Any] = {}
    event_source: str | None = None
    """Of the external event that ends it, if one does."""
    event_id: str | None = None


# --- schedules -----------------------------------------------------------------------------------


class ScheduleCreated(Event, frozen=True, kw_only=True):
    """A schedule began, or began again under an id whose former one had ended."""

    definition: dict[str, Any]
    incarnation: int = 1
    revision: int = 1
    anchor: datetime
    next_due: datetime | None = None
    tzdata: str = ""


class CommandScheduled(Event, frozen=True, kw_only=True):
    """A command of the application waits for `due`, or for `after` since `at`.

    It begins a schedule that fires once (`created`); this form of it takes half the bytes.
    """

    command: str
    data: Any = None
    due: datetime | None = None
    after: str | None = None
    metadata: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    traceparent: str | None = None

    @property
    def first_due(self) -> datetime:
        """When it is due: at once, if that had passed already."""
        due = self.due
        if due is None:
            due = self.at + parse_duration(self.after or 0, field="after")
        return max(due, self.at)

    def created(self) -> ScheduleCreated:
        """The beginning of the schedule that it stands for."""
        definition = command_definition(
            self.command, self.data, self.due, self.after, self.metadata, self.policies
        )
        return ScheduleCreated(
            definition={"id": self.schedule_id, **definition},
            anchor=self.at,
            next_due=self.first_due,
            at=self.at,
            tenant=self.tenant,
            schedule_id=self.schedule_id,
            correlation_id=self.correlation_id,
            actor=self.actor,
        )


def command_definition(
    command: str,
    data: Any,
    due: datetime | None,
    after: str | None,
    metadata: dict[str, Any],
    policies: dict[str, Any],
) -> dict[str, Any]:
    """The definition of a scheduled command, in canonical form without its id.

    It fires however overdue it is: its catch-up window is as good as unbounded.
    """
    definition: dict[str, Any] = {
        "trigger": {
            "type": "once",
            **({"after": after} if due is None else {"at": format_instant(due)}),
            "allow_past": True,
        },
        "action": {"type": "function", "name": COMMAND + command},
        "catch_up": {"mode": "all", "window": "36500d"},
        **policies,
    }
    if data is not None:
        definition["payload"] = data
    if metadata:
        definition["metadata"] = metadata
    return definition


class ScheduleUpdated(Event, frozen=True, kw_only=True):
    """From here on, instants are decided by another definition."""

    definition: dict[str, Any]
    revision: int
    anchor: datetime
    next_due: datetime | None = None
    tzdata: str = ""


class SchedulePaused(Event, frozen=True, kw_only=True):
    """No occurrence fires until it is resumed."""

    note: str = ""


class ScheduleTripped(Event, frozen=True, kw_only=True):
    """Paused by itself: the execution was the last of so many in a row without success."""

    failures: int
    execution_id: str
    reason: str


class ScheduleResumed(Event, frozen=True, kw_only=True):
    """Occurrences fire again, beginning after `at`."""

    note: str = ""
    next_due: datetime | None = None


class ScheduleCompleted(Event, frozen=True, kw_only=True):
    """No occurrence will come: `exhausted`, `end_at` or `max_executions`."""

    reason: str


class ScheduleCancelled(Event, frozen=True, kw_only=True):
    """Ended by command; what had not started is cancelled with it."""

    note: str = ""


class ScheduleQuarantined(Event, frozen=True, kw_only=True):
    """Its definition can no longer be evaluated."""

    reason: str


class OccurrencesDecided(Event, frozen=True, kw_only=True):
    """One decision for all occurrences from `first` to `last`, both inclusive; null is not counted.

    With a `nominal` for that one alone, which came due at `moved_to`; with a `backfill_id` for what
    that backfill passed over.
    """

    decision: str
    reason: str
    first: datetime
    last: datetime
    count: int | None = None
    revision: int
    blocked_by: str | None = None
    next_due: datetime | None = None
    nominal: str | None = None
    moved_to: datetime | None = None
    backfill_id: str | None = None


class ScheduleChecked(Event, frozen=True, kw_only=True):
    """A check has answered otherwise than before: the condition `held`, `not_held`, or it `failed`."""

    tick: datetime
    outcome: str
    error: dict[str, Any] | None = None


class ScheduleBackfillStarted(Event, frozen=True, kw_only=True):
    """The occurrences after `start`, from `first` to `last`, are run again by a revision."""

    backfill_id: str
    start: datetime
    first: datetime
    last: datetime
    overlap: str
    count: int
    revision: int
    anchor: datetime
    note: str = ""


class ScheduleBackfillCompleted(Event, frozen=True, kw_only=True):
    """A backfill is `done`, or ended before: so many occurrences are `left` without a decision."""

    backfill_id: str
    reason: str
    left: int = 0


# --- single occurrences --------------------------------------------------------------------------


class OccurrenceEvent(Event, frozen=True, kw_only=True):
    """What all plans for one occurrence say: its nominal instant and label; the actor is the author.

    `next_due` is the calendar's next instant.
    """

    kind: str
    due: datetime
    nominal: str
    note: str = ""
    next_due: datetime | None = None


class OccurrenceSkipped(OccurrenceEvent, frozen=True, kw_only=True):
    """It is not to fire. With `execution_id` it was held, and is dropped."""

    execution_id: str | None = None


class OccurrenceMoved(OccurrenceEvent, frozen=True, kw_only=True):
    """It is to fire at `to` instead, under its nominal label."""

    to: datetime


class OccurrenceHeld(OccurrenceEvent, frozen=True, kw_only=True):
    """When it comes due, it is to wait for approval."""


class OccurrenceApproved(OccurrenceEvent, frozen=True, kw_only=True):
    """It is to fire after all. With `execution_id` it was held."""

    execution_id: str | None = None


class OccurrencePayloadSet(OccurrenceEvent, frozen=True, kw_only=True):
    """It is to run with this payload instead of the schedule's."""

    payload: Any = None


class HistoryErased(Event, frozen=True, kw_only=True):
    """Executions that had ended were erased; the schedule's line and counts stay as with them.

    It stands in a stream of its own, in which the latest one says all.
    """

    executions: list[str]
    older: list[str] = []
    """Those of former incarnations, which count for nothing any more."""
    incarnation: int = 1
    line: list[Any]
    """What the line knew beyond the schedule's events and what was alive, in its packed form."""
    gone: dict[str, int] = {}
    """How many of this incarnation are erased in all: fired, and by how they ended."""
    last_due: datetime | None = None
    last_execution_id: str | None = None
    """The latest of those erased that had fired."""


class ScheduleErased(Event, frozen=True, kw_only=True):
    """A one-time schedule that had ended was erased with its executions."""

    executions: list[str]
    decisions: list[int] = []
    """The numbers in the log of what its history told besides them."""


# --- executions ----------------------------------------------------------------------------------


class ExecutionEvent(Event, frozen=True, kw_only=True):
    """What all events of an execution say."""

    execution_id: str


class ExecutionRequested(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence fired. With a worker, attempt 1 was handed over in the same commit.

    With `trigger`, the facts of an event or of another execution's outcome, it is ready at `due`.

    It ends if it has not started by `start_by`, or not ended by `end_by`. `moved_to`, `note` and
    `planned_by` are of whoever planned this occurrence.
    """

    kind: str
    due: datetime
    nominal: str
    revision: int
    run_number: int | None = None
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    worker: str | None = None
    deadline: datetime | None = None
    next_due: datetime | None = None
    heartbeat: float | None = None
    start_by: datetime | None = None
    end_by: datetime | None = None
    backfill_id: str | None = None
    unbounded: bool = False
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    trigger: dict[str, Any] = {}


class ExecutionSkipped(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence did not fire, and why; `blocked_by` is the run that was in the way."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    reason: str
    blocked_by: str | None = None
    next_due: datetime | None = None
    payload: Any = None
    overridden: bool = False
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    trigger: dict[str, Any] = {}


class ExecutionBuffered(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence waits until `blocked_by`, or whatever is in the way then, is out of the way."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    blocked_by: str | None = None
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    trigger: dict[str, Any] = {}


class ExecutionHeld(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence came due and waits for approval."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None


class ExecutionChecking(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence came due, and the conditions that its schedule requires are being checked."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    conditions: list[str] = []
    payload: Any = None
    overridden: bool = False
    trigger: dict[str, Any] = {}
    priority: str = "medium"
    queue: str = "default"
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None


class ExecutionConditionsMet(ExecutionEvent, frozen=True, kw_only=True):
    """All conditions are met: from here on it is buffered, and fires unless others are in the way."""

    conditions: list[str] = []


class ExecutionCheckFailed(ExecutionEvent, frozen=True, kw_only=True):
    """A condition could not be checked; without `retry_at` it is not tried again."""

    condition: str
    error: dict[str, Any]
    retry_at: datetime | None = None


class ExecutionApproved(ExecutionEvent, frozen=True, kw_only=True):
    """What was held is approved: from here on it is buffered."""


class ExecutionReleased(ExecutionEvent, frozen=True, kw_only=True):
    """What was buffered fired after all; `next_due` is the schedule's, if it counts its runs."""

    run_number: int | None = None
    next_due: datetime | None = None
    start_by: datetime | None = None
    end_by: datetime | None = None


class ExecutionDropped(ExecutionEvent, frozen=True, kw_only=True):
    """What was buffered or held will not fire: it ends as skipped, and why."""

    reason: str
    blocked_by: str | None = None


class ExecutionReprioritised(ExecutionEvent, frozen=True, kw_only=True):
    """It waits under another priority from here on."""

    priority: str


class AttemptStarted(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody took the work, under the lease `attempt.delivery`.

    It ends by the deadline, or when no heartbeat comes for `heartbeat` seconds.
    """

    attempt: int
    delivery: int = 1
    worker: str
    local: bool = False
    deadline: datetime | None = None
    heartbeat: float | None = None
    stage: str = ""
    """What it does: a step, a fallback and so on; the action, if empty."""


class AttemptFailed(ExecutionEvent, frozen=True, kw_only=True):
    """An attempt ended without success: `failed`, `timed_out`, `lost` or `cancelled`.

    Null retry is the last.
    """

    attempt: int
    outcome: str
    error: dict[str, Any]
    retry_at: datetime | None = None
    started_at: datetime | None = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionDelayed(ExecutionEvent, frozen=True, kw_only=True):
    """The handler asked to be asked again at `until`; a poll is not a retry."""

    attempt: int
    until: datetime
    limit: int | None = None
    started_at: datetime | None = None
    result: Any = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionSucceeded(ExecutionEvent, frozen=True, kw_only=True):
    """The accepted outcome of an attempt."""

    attempt: int
    delivery: int = 1
    started_at: datetime | None = None
    result: Any = None
    cooldown_until: datetime | None = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionFailed(ExecutionEvent, frozen=True, kw_only=True):
    """Failed where no retry was wanted, or in a way that is not retried."""

    attempt: int
    error: dict[str, Any]


class ExecutionTimedOut(ExecutionEvent, frozen=True, kw_only=True):
    """Not started or not ended in time; or its attempt timed out where no retry was wanted."""

    attempt: int
    error: dict[str, Any]


class ExecutionDeadLettered(ExecutionEvent, frozen=True, kw_only=True):
    """Out of retries: it is among the dead letters until somebody requeues it."""

    attempt: int
    error: dict[str, Any]


class ExecutionRequeued(ExecutionEvent, frozen=True, kw_only=True):
    """It is tried again by hand: attempts are counted on, failures from `failures`.

    It says all that its owner has to know, since what had ended is in nobody's memory: `version`
    is how many events its stream had before, `closed` the leases with what their holders were told.
    """

    attempt: int
    kind: str
    due: datetime
    nominal: str
    revision: int
    requested_at: datetime
    version: int
    run_number: int | None = None
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    failures: int = 0
    polls: int = 0
    stage: str = ""
    done: list[str] = []
    unsure: bool = False
    results: dict[str, Any] = {}
    confirmations: list[Confirmation] = []
    because: Because | None = None
    closed: dict[str, Any] = {}
    start_by: datetime | None = None
    end_by: datetime | None = None
    backfill_id: str | None = None
    unbounded: bool = False
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    trigger: dict[str, Any] = {}
    conditions: list[str] = []


class ExecutionCancelled(ExecutionEvent, frozen=True, kw_only=True):
    """Ended before an outcome that counts: by command, or because it was asked to stop and did.

    Or by an external event, which is named.
    """

    reason: str
    event_source: str | None = None
    event_id: str | None = None


class CancellationRequested(ExecutionEvent, frozen=True, kw_only=True):
    """A running attempt was asked to stop; if it has not by `deadline`, it is cancelled then."""

    attempt: int
    reason: str
    deadline: datetime


class TimerMoved(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody put one of its timers to another instant: `timer` is the kind of `timer.list`."""

    timer: str
    to: datetime
    was: datetime
    note: str = ""


class TimerCancelled(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody lifted one of its timeouts; what ends it from now on is something else."""

    timer: str
    was: datetime
    note: str = ""


class ReportRefused(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody reported under a lease that is not the current one; nothing else changed."""

    lease: str
    outcome: str
    worker: str | None = None


# --- external events -----------------------------------------------------------------------------


class ExternalEventReceived(Event, frozen=True, kw_only=True):
    """Something happened elsewhere, and somebody here listens for it.

    The stream's id is a function of tenant, source and id: the same event is recorded once.
    """

    schedule_id: str = ""
    type: str
    source: str = ""
    id: str
    data: Any = None
    occurred_at: datetime | None = None


# --- queues --------------------------------------------------------------------------------------


class LimitEvent(Event, frozen=True, kw_only=True):
    """Of a queue or a tenant: it is about no schedule."""

    schedule_id: str = ""


class QueueLimited(LimitEvent, frozen=True, kw_only=True):
    """From here on so many executions of a queue run at once, and so many attempts begin in a while.

    All limits are said; none is no limit.
    """

    queue: str
    concurrency: int | None = None
    rate: int | None = None
    per: float | None = None
    """Seconds in which at most `rate` attempts begin."""


class QueuePaused(LimitEvent, frozen=True, kw_only=True):
    """Nothing of a queue begins until it is resumed; what runs goes on."""

    queue: str
    note: str = ""


class QueueResumed(LimitEvent, frozen=True, kw_only=True):
    """What waits in a queue begins again."""

    queue: str
    note: str = ""


class TenantLimited(LimitEvent, frozen=True, kw_only=True):
    """The same limits for all executions of a tenant, and its weight beside other tenants."""

    concurrency: int | None = None
    rate: int | None = None
    per: float | None = None
    weight: int = 1


# --- waits, steps and fallbacks ------------------------------------------------------------------


class StageCompleted(ExecutionEvent, frozen=True, kw_only=True):
    """The accepted outcome of an attempt at a stage that another one follows, `next`."""

    attempt: int
    delivery: int = 1
    stage: str = ""
    next: str
    started_at: datetime | None = None
    result: Any = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class AwaitingConfirmation(ExecutionEvent, frozen=True, kw_only=True):
    """It waits, until `deadline`, for `need` of these: events of a type with values in their data."""

    waits: list[dict[str, Any]]
    need: int = 1
    deadline: datetime | None = None


class ConfirmationReceived(ExecutionEvent, frozen=True, kw_only=True):
    """One of several confirmations came; it needs more."""

    confirmation: Confirmation


class ExecutionConfirmed(ExecutionEvent, frozen=True, kw_only=True):
    """The last confirmation came that it needed. `run` is all that its owner has to know."""

    confirmation: Confirmation
    run: dict[str, Any] = {}


class ConfirmationTimedOut(ExecutionEvent, frozen=True, kw_only=True):
    """Its deadline passed without as many confirmations as it needed."""

    received: int = 0


class ConfirmationLate(ExecutionEvent, frozen=True, kw_only=True):
    """A confirmation came after the wait was over, and changed nothing."""

    event_id: str
    type: str
    source: str = ""
    status: str = ""


class FallbackStarted(ExecutionEvent, frozen=True, kw_only=True):
    """What was to be done has failed, or was not confirmed: the fallback is next.

    `run` is all that its owner has to know, if it waited.
    """

    stage: str
    because: Because
    run: dict[str, Any] = {}


class CompensationStarted(ExecutionEvent, frozen=True, kw_only=True):
    """What the steps `done` have done is taken back, the last one first, beginning with `next`.

    `run` is all that its owner has to know, if it waited.
    """

    next: str
    done: list[str]
    because: Because
    run: dict[str, Any] = {}


# --- requests ------------------------------------------------------------------------------------


class RequestAnswered(Event, frozen=True, kw_only=True):
    """The first answer to an idempotency key, with the fingerprint of the request.

    The stream's id is a function of tenant, command and key.
    """

    request: str
    reply: dict[str, Any]


NAMES: dict[type[Event], str] = {
    ScheduleCreated: "schedule.created.v1",
    CommandScheduled: "command.scheduled.v1",
    ScheduleUpdated: "schedule.updated.v1",
    SchedulePaused: "schedule.paused.v1",
    ScheduleTripped: "schedule.tripped.v1",
    ScheduleResumed: "schedule.resumed.v1",
    ScheduleCompleted: "schedule.completed.v1",
    ScheduleCancelled: "schedule.cancelled.v1",
    ScheduleQuarantined: "schedule.quarantined.v1",
    OccurrencesDecided: "schedule.occurrences_decided.v1",
    ScheduleChecked: "schedule.checked.v1",
    ScheduleBackfillStarted: "schedule.backfill_started.v1",
    ScheduleBackfillCompleted: "schedule.backfill_completed.v1",
    OccurrenceSkipped: "schedule.occurrence_skipped.v1",
    OccurrenceMoved: "schedule.occurrence_moved.v1",
    OccurrenceHeld: "schedule.occurrence_held.v1",
    OccurrenceApproved: "schedule.occurrence_approved.v1",
    OccurrencePayloadSet: "schedule.occurrence_payload_set.v1",
    HistoryErased: "schedule.history_erased.v1",
    ScheduleErased: "schedule.erased.v1",
    ExecutionRequested: "execution.requested.v1",
    ExecutionSkipped: "execution.skipped.v1",
    ExecutionBuffered: "execution.buffered.v1",
    ExecutionHeld: "execution.held.v1",
    ExecutionChecking: "execution.checking.v1",
    ExecutionConditionsMet: "execution.conditions_met.v1",
    ExecutionCheckFailed: "execution.check_failed.v1",
    ExecutionApproved: "execution.approved.v1",
    ExecutionReleased: "execution.released.v1",
    ExecutionDropped: "execution.dropped.v1",
    ExecutionReprioritised: "execution.reprioritised.v1",
    AttemptStarted: "execution.attempt_started.v1",
    AttemptFailed: "execution.attempt_failed.v1",
    ExecutionDelayed: "execution.delayed.v1",
    ExecutionSucceeded: "execution.succeeded.v1",
    ExecutionFailed: "execution.failed.v1",
    ExecutionTimedOut: "execution.timed_out.v1",
    ExecutionDeadLettered: "execution.dead_lettered.v1",
    ExecutionRequeued: "execution.requeued.v1",
    ExecutionCancelled: "execution.cancelled.v1",
    CancellationRequested: "execution.cancellation_requested.v1",
    TimerMoved: "execution.timer_moved.v1",
    TimerCancelled: "execution.timer_cancelled.v1",
    ReportRefused: "execution.report_refused.v1",
    QueueLimited: "queue.limited.v1",
    QueuePaused: "queue.paused.v1",
    QueueResumed: "queue.resumed.v1",
    TenantLimited: "tenant.limited.v1",
    StageCompleted: "execution.stage_completed.v1",
    AwaitingConfirmation: "execution.awaiting_confirmation.v1",
    ConfirmationReceived: "execution.confirmation_received.v1",
    ExecutionConfirmed: "execution.confirmed.v1",
    ConfirmationTimedOut: "execution.confirmation_timed_out.v1",
    ConfirmationLate: "execution.confirmation_late.v1",
    FallbackStarted: "execution.fallback_started.v1",
    CompensationStarted: "execution.compensation_started.v1",
    RequestAnswered: "request.answered.v1",
    ExternalEventReceived: "external_event.received.v1",
}
"""The one table of names; each has a golden file under `tests/golden/`."""
