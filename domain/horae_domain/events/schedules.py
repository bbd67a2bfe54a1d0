"""Events of schedules, and of what is planned for single occurrences."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.durations import parse_duration
from horae_domain.events.base import Event
from horae_domain.instants import format_instant

COMMAND = "command:"
"""What the handler of an application's command is named by, before the name of its type."""


class ScheduleCreated(Event, frozen=True, kw_only=True):
    """A schedule began, or began again under an id whose former one had ended."""

    definition: dict[str, Any]
    incarnation: int = 1
    revision: int = 1
    anchor: datetime
    next_due: datetime | None = None
    tzdata: str = ""
    causation_id: str | None = None
    """The execution that has made it."""
    depth: int = 0
    """How many executions that one has followed from, and itself."""


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
    carried: dict[str, str] = {}

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
    through: datetime | None = None
    """What is behind it, if not all that is due by `at`: an occurrence is put off beyond that."""


class SchedulePaused(Event, frozen=True, kw_only=True):
    """No occurrence fires until it is resumed."""

    note: str = ""


class ScheduleTripped(Event, frozen=True, kw_only=True):
    """Paused by itself: the execution was the last of so many in a row without success."""

    failures: int
    execution_id: str
    reason: str


class ScheduleResumed(Event, frozen=True, kw_only=True):
    """Occurrences fire again, beginning after `at`, or after `through`."""

    note: str = ""
    next_due: datetime | None = None
    through: datetime | None = None


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
