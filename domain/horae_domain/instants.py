"""Instants: points in time with microseconds, always aware, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from msgspec import to_builtins

from horae_domain.errors import InvalidField

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?P<offset>[Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)


def parse_instant(value: str | datetime, *, field: str) -> datetime:
    """Read an instant: ISO 8601 with an offset or `Z`, or an aware datetime.

    Digits beyond the microsecond are dropped.

    Raises:
        InvalidField: naive, malformed, or outside the years 1 to 9999; with `field` and value.
    """
    if isinstance(value, datetime):
        instant, naive = value, value.utcoffset() is None
    else:
        found = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise InvalidField(
                "an instant is ISO 8601 text with an offset, such as '2026-12-01T09:00:00Z'",
                field=field,
                value=value,
            )
        naive = found["offset"] is None
        try:
            instant = datetime.fromisoformat(found[0].upper())
        except ValueError as error:
            raise InvalidField(
                f"an instant exists in the calendar: {error}", field=field, value=value
            ) from error
    if naive:
        raise InvalidField(
            "an instant needs an offset from UTC: a naive time means another instant in each zone",
            field=field,
            value=value,
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise InvalidField(
            "an instant is within the years 1 to 9999", field=field, value=value
        ) from error


def format_instant(instant: datetime) -> str:
    """`2026-12-01T09:00:00Z`; microseconds only if there are any."""
    text: str = to_builtins(instant if instant.tzinfo is UTC else instant.astimezone(UTC))
    return text


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exact."""
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The instant so many microseconds after 1970-01-01T00:00:00Z, exact."""
    return EPOCH + timedelta(microseconds=micros)


def first_of(*instants: datetime | None) -> datetime | None:
    """The earliest; None if there is none."""
    first = None
    for each in instants:
        if each is not None and (first is None or each < first):
            first = each
    return first
