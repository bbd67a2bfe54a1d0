"""Calendars: when a schedule may fire, and what becomes of what is due at other times (T9).

Each calendar closes some time, on the wall clock of its zone or between two instants. An occurrence
that is due while any calendar is closed is skipped, or moved to the first instant at which all of
them are open; if several close, one that skips decides. See `horae_domain.observed`.
"""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from horae_domain import patterns
from horae_domain.errors import HoraeError
from horae_domain.fields import Instant, Model
from horae_domain.zones import load_zone

_SECONDS = (3600, 60, 1)
_THURSDAY = 3
"""The weekday of 1970-01-01, the day of number 0."""
_DAY_ZERO = date(1970, 1, 1).toordinal()

Weekday = Literal["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
Weekdays = Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)]
DAYS: tuple[Weekday, ...] = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
WORKING: tuple[Weekday, ...] = ("MON", "TUE", "WED", "THU", "FRI")
TimeOfDay = Annotated[str, Field(pattern=patterns.TIME_OF_DAY)]
"""`09:00` or `09:00:30`; `24:00` is the end of the day."""


def _dated(value: str) -> str:
    try:
        date.fromisoformat(value if len(value) > len("12-25") else f"2000-{value}")
    except ValueError as error:
        raise PydanticCustomError("date", "no calendar has this day") from error
    return value


Day = Annotated[str, Field(pattern=patterns.DAY), AfterValidator(_dated)]
"""`2026-12-25`, or `12-25` in every year."""


def seconds_of(time: str) -> int:
    """Seconds from midnight of a time of day."""
    parts = time.split(":")
    return sum(int(part) * unit for part, unit in zip(parts, _SECONDS, strict=False))


class Calendar(Model):
    """What all calendars say."""

    type: str
    policy: Literal["skip", "move"] = "skip"
    """What becomes of an occurrence that is due while it is closed."""
    name: Annotated[str, Field(pattern=patterns.CALENDAR)] | None = None
    """The reason that is recorded; its type unless told."""
    timezone: str | None = None
    """Of the wall clock that it goes by; that of the trigger unless told, else UTC."""

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str | None) -> str | None:
        try:
            return value and load_zone(value, field="timezone").key
        except HoraeError as error:
            raise PydanticCustomError("zone", "{reason}", {"reason": error.message}) from error

    @property
    def reason(self) -> str:
        """What is recorded of an occurrence that it does not let fire."""
        return self.name or self.type

    @property
    def edges(self) -> tuple[int, ...]:
        """Seconds of a day, besides midnight, at which it may open or close."""
        return ()


class _Hours(Calendar):
    """Goes by hours of some days of the week, from `from_time` until before `to_time`.

    Hours that end before they begin last until the day after.
    """

    days: Weekdays
    from_time: TimeOfDay
    to_time: TimeOfDay

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        begin, end = self.hours
        if begin in {end, seconds_of("24:00")}:
            raise PydanticCustomError("hours", "hours have a length, and begin before 24:00")
        return self

    @cached_property
    def hours(self) -> tuple[int, int]:
        """When they begin and end, in seconds."""
        return seconds_of(self.from_time), seconds_of(self.to_time)

    @property
    def edges(self) -> tuple[int, ...]:
        """When the hours begin and end."""
        return self.hours

    def within(self, day: int, second: int) -> bool:
        """True in the hours."""
        begin, end = self.hours
        if begin < end:
            return self._on(day) and begin <= second < end
        return (self._on(day) and second >= begin) or (self._on(day - 1) and second < end)

    def _on(self, day: int) -> bool:
        return DAYS[(day + _THURSDAY) % 7] in self.days


class BusinessHours(_Hours):
    """Open from 9 to 17 from Monday to Friday, unless told."""

    type: Literal["business_hours"] = "business_hours"
    days: Weekdays = WORKING
    from_time: TimeOfDay = "09:00"
    to_time: TimeOfDay = "17:00"

    def closed(self, day: int, second: int) -> bool:
        """True outside of the hours."""
        return not self.within(day, second)


class WeekdaysCalendar(Calendar):
    """Open on some days of the week, Monday to Friday unless told."""

    type: Literal["weekdays"] = "weekdays"
    days: Weekdays = WORKING

    def closed(self, day: int, second: int) -> bool:  # noqa: ARG002 - all of the day
        """True on other days."""
        return DAYS[(day + _THURSDAY) % 7] not in self.days


class Holidays(Calendar):
    """Closed on some dates, each all of the day."""

    type: Literal["holidays"] = "holidays"
    dates: Annotated[tuple[Day, ...], Field(min_length=1, max_length=1000)]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.dates)

    def closed(self, day: int, second: int) -> bool:  # noqa: ARG002 - all of the day
        """True on one of the dates."""
        shown = date.fromordinal(day + _DAY_ZERO).isoformat()
        return shown in self._known or shown[len("2026-") :] in self._known


class BlackoutHours(_Hours):
    """Closed in some hours of every day, or of some days of the week."""

    type: Literal["blackout_hours"] = "blackout_hours"
    days: Weekdays = DAYS

    def closed(self, day: int, second: int) -> bool:
        """True in the hours."""
        return self.within(day, second)


class Blackout(Calendar):
    """Closed from `start_at` until before `end_at`."""

    type: Literal["blackout"] = "blackout"
    start_at: Instant
    end_at: Instant

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end_at <= self.start_at:
            raise PydanticCustomError("blackout", "end_at is not after start_at")
        return self


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _told(calendar: Calendar) -> dict[str, Any]:
    return calendar.model_dump(mode="json", exclude_defaults=True) | {"type": calendar.type}


WallCalendar = BusinessHours | WeekdaysCalendar | Holidays | BlackoutHours
"""Each tells by `closed` whether it is closed at a second of a day, counted from 1970."""
AnyCalendar = WallCalendar | Blackout
Calendars = Annotated[
    tuple[
        Annotated[
            Annotated[AnyCalendar, Field(discriminator="type")],
            BeforeValidator(_named),
            PlainSerializer(_told, return_type=dict[str, Any], when_used="json"),
        ],
        ...,
    ],
    Field(max_length=16),
]
"""Of one schedule. A text is the calendar of that type as it is unless told."""
