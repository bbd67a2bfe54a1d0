"""Commands about single occurrences, and about timers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from horae_application.messages.base import Command, SingleCommand
from horae_domain.errors import HoraeError
from horae_domain.fields import Instant
from horae_domain.timers import OF_SCHEDULES, TimerId, parse_timer_id
from horae_domain.wire import Json, Note


class OccurrenceCommand(SingleCommand):
    """About one occurrence of a schedule: `at` is its nominal due instant, wherever it was moved."""

    at: Instant
    note: Note = ""


class SkipOccurrence(OccurrenceCommand):
    """`occurrence.skip`: let it not fire; if it is held, drop it."""

    name = "occurrence.skip"


class MoveOccurrence(OccurrenceCommand):
    """`occurrence.move`: let it fire at `to` instead; its own instant takes it back."""

    name = "occurrence.move"
    to: Instant


class HoldOccurrence(OccurrenceCommand):
    """`occurrence.hold`: let it wait for approval when it comes due."""

    name = "occurrence.hold"


class ApproveOccurrence(OccurrenceCommand):
    """`occurrence.approve`: let it fire after all; with `reject` it is skipped or dropped."""

    name = "occurrence.approve"
    reject: bool = False


class SetOccurrencePayload(OccurrenceCommand):
    """`occurrence.set_payload`: let it run with another payload than the schedule's."""

    name = "occurrence.set_payload"
    payload: Json


def _timer_id(value: str) -> str:
    try:
        return str(parse_timer_id(value))
    except HoraeError as error:
        raise PydanticCustomError("timer", "{reason}", {"reason": error.message}) from error


class TimerCommand(Command):
    """About one timer, by its id in `timer.list`; see `horae_domain.timers`."""

    id: Annotated[str, AfterValidator(_timer_id)]
    note: Note = ""

    @property
    def timer(self) -> TimerId:
        """Which timer."""
        return parse_timer_id(self.id)

    @property
    def execution(self) -> str | None:
        """The execution whose timer it is, if it is one's."""
        return None if self.timer.kind in OF_SCHEDULES else self.timer.subject

    def schedule(self, tenant: str) -> str | None:
        """The schedule whose timer it is, if it is one's."""
        del tenant
        return self.timer.subject if self.timer.kind in OF_SCHEDULES else None


class MoveTimer(TimerCommand):
    """`timer.move`: let it come at `to` instead; what that means depends on its kind."""

    name = "timer.move"
    to: Instant


class CancelTimer(TimerCommand):
    """`timer.cancel`: let it not come; what that means depends on its kind."""

    name = "timer.cancel"
