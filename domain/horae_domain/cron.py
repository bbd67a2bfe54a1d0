"""Cron expressions: a strict, portable grammar, and the sets of values that it describes.

Five fields, or six with seconds first; names, ranges, steps, lists, `L`, `#`, Sunday as 0 and 7,
and the aliases. What dialects read differently is refused with its reason rather than guessed:
wrapped ranges (`22-2`), a step on a single value (`3/5`), `W`, `?`, `H`, a year. The expansion is
our own: croniter's alone takes up to 0.45 ms, where parsing and the first occurrence may take
0.2 ms, and it reads `5-5` as every value. It is an oracle in the tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from horae_domain.errors import InvalidTrigger

MAX_TEXT = 256
"""Characters that an expression may have."""

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class _UnreadableError(Exception):
    """The reason why a text is no expression; never leaves this module."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    size: int
    names: dict[str, int]


_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_SECOND = _Field("second", 0, 59, 60, {})
_MINUTE = _Field("minute", 0, 59, 60, {})
_HOUR = _Field("hour", 0, 23, 24, {})
_DAY = _Field("day-of-month", 1, 31, 31, {})
_MONTH = _Field("month", 1, 12, 12, {name: i for i, name in enumerate(_MONTHS, 1)})
_WEEKDAY = _Field("day-of-week", 0, 7, 7, {name: i for i, name in enumerate(_DAYS)})

_ITEM = re.compile(
    r"(?:(?P<star>\*)|(?P<first>[0-9]+|[A-Z]{3})(?:-(?P<last>[0-9]+|[A-Z]{3}))?)(?:/(?P<step>[0-9]+))?"
)
_LAST_WEEKDAY = re.compile(r"(?:([0-7])L|L([0-7]))")
_NTH_WEEKDAY = re.compile(r"([0-7]|[A-Z]{3})#([1-5])")
_REASONS = (
    (re.compile(r".*\?"), "`?` is not supported; write `*`"),
    (re.compile(r"LW|WL"), "`LW` (last weekday of the month) is not supported"),
    (re.compile(r"[0-9]+W|W[0-9]+"), "`W` (nearest weekday) is not supported"),
    (re.compile(r"[HR](?:[(/].*)?"), "hashed (`H`) and random (`R`) values are not supported"),
    (re.compile(r".*L"), "`L` stands alone in day-of-month, or with one weekday, as in `5L`"),
    (re.compile(r".*#"), "`#` needs one weekday and 1 to 5, as in `MON#2`"),
)


_LENGTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """The values on which an expression fires; sorted tuples, weekdays from Sunday as 0.

    Attributes:
        text: the expression as it was written.
        both: whether day-of-month and day-of-week must both match (one begins with `*`), or one
            of them: the rule of Vixie's cron.
        wildcard: whether minute or hour begins with `*`; such a job follows elapsed time.
        by_second: whether there is a field of seconds.
    """

    text: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    days: frozenset[int]
    last_day: bool
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]
    both: bool
    wildcard: bool
    by_second: bool
    _months: dict[tuple[int, int], tuple[int, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def days_of(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The matching days of a month that begins on a weekday (Sunday is 0); not its name."""
        found = self._months.get((first_weekday, length))
        if found is None:
            found = tuple(
                day
                for day in range(1, length + 1)
                if self._fires_on(day, (first_weekday + day - 1) % 7, length)
            )
            self._months[first_weekday, length] = found
        return found

    def _fires_on(self, day: int, weekday: int, length: int) -> bool:
        by_day = day in self.days or (self.last_day and day == length)
        by_weekday = (
            weekday in self.weekdays
            or (weekday, (day + 6) // 7) in self.nth_weekdays
            or (weekday in self.last_weekdays and day + 7 > length)
        )
        return (by_day and by_weekday) if self.both else (by_day or by_weekday)


@lru_cache(maxsize=16_384)
def parse_cron(expression: str) -> CronExpression:
    """Read an expression, in bounded time whatever the text.

    Raises:
        InvalidTrigger: with `trigger.expression` and a message that names the cron field and the
            reason; also for an expression that can never fire, such as 30 February.
    """
    try:
        return _read(expression)
    except _UnreadableError as error:
        raise InvalidTrigger(str(error), field="trigger.expression", value=expression) from error


def _read(expression: str) -> CronExpression:
    texts = _fields(expression)
    by_second = len(texts) == 6  # noqa: PLR2004
    second, minute, hour, day, month, weekday = texts if by_second else ["0", *texts]
    days, last_day = _expand(_DAY, day)
    weekdays, special_weekdays = _expand(_WEEKDAY, weekday)
    both = day.startswith("*") or weekday.startswith("*")
    if not both and (last_day or special_weekdays):
        raise _UnreadableError(
            "day-of-month and day-of-week: dialects disagree on `L` or `#` in one beside the other"
        )
    lasts = [found for item in special_weekdays if (found := _LAST_WEEKDAY.fullmatch(item))]
    nths = [found for item in special_weekdays if (found := _NTH_WEEKDAY.fullmatch(item))]
    cron = CronExpression(
        text=expression,
        seconds=_plain(_SECOND, second),
        minutes=_plain(_MINUTE, minute),
        hours=_plain(_HOUR, hour),
        months=frozenset(_plain(_MONTH, month)),
        days=frozenset(days),
        last_day=bool(last_day),
        weekdays=frozenset(value % 7 for value in weekdays),
        nth_weekdays=frozenset((_value(_WEEKDAY, nth[1]) % 7, int(nth[2])) for nth in nths),
        last_weekdays=frozenset(int(last[1] or last[2]) % 7 for last in lasts),
        both=both,
        wildcard=minute.startswith("*") or hour.startswith("*"),
        by_second=by_second,
    )
    if not _can_fire(cron):
        raise _UnreadableError(
            "day-of-month: no month of the expression has such a day, so it would never fire"
        )
    return cron


def _fields(expression: str) -> list[str]:
    """Five or six fields in capitals."""
    if len(expression) > MAX_TEXT:
        raise _UnreadableError(f"an expression has at most {MAX_TEXT} characters")
    if not expression.isascii() or not expression.replace("\t", " ").isprintable():
        raise _UnreadableError("an expression is plain ASCII text on one line")
    text = expression.strip()
    if text.startswith("@"):
        alias = ALIASES.get(text.lower())
        if alias is None:
            known = ", ".join(ALIASES)
            raise _UnreadableError(
                "`@reboot` is not supported: a schedule fires by the clock"
                if text.lower() == "@reboot"
                else f"an alias is one of {known}"
            )
        text = alias
    fields = text.upper().split()
    if len(fields) == 7:  # noqa: PLR2004
        raise _UnreadableError("a year field is not supported; bound the schedule by `end_at`")
    if len(fields) not in {5, 6}:
        raise _UnreadableError(
            f"an expression has five fields, or six with seconds first, not {len(fields)}"
        )
    return fields


def _plain(field_: _Field, text: str) -> tuple[int, ...]:
    values, _ = _expand(field_, text)
    return tuple(sorted(values))


def _expand(field_: _Field, text: str) -> tuple[set[int], list[str]]:
    """The values of a field's list, and its items with `L` or `#`."""
    values: set[int] = set()
    special: list[str] = []
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        if found is not None and (found["star"] or found["first"] != "L"):
            values.update(_item(field_, item, found))
        elif _is_special(field_, item):
            special.append(item)
        else:
            raise _UnreadableError(f"{field_.name} {item!r}: {_reason(field_, item)}")
    if special and values and field_ is _WEEKDAY:
        raise _UnreadableError(
            f"{field_.name}: dialects disagree on plain weekdays beside `L` or `#` in one list"
        )
    return values, special


def _is_special(field_: _Field, item: str) -> bool:
    if field_ is _DAY:
        return item == "L"
    return field_ is _WEEKDAY and bool(
        _LAST_WEEKDAY.fullmatch(item) or _NTH_WEEKDAY.fullmatch(item)
    )


def _item(field_: _Field, item: str, found: re.Match[str]) -> range:
    """The values of `*`, a value, a range, and of a step on `*` or a range."""
    step = int(found["step"] or 1)
    if found["star"]:
        low, high = field_.low, field_.high
    else:
        low = _value(field_, found["first"])
        high = _value(field_, found["last"]) if found["last"] else low
    if high < low:
        raise _UnreadableError(f"{field_.name} {item!r}: a range does not run backwards")
    if found["step"] and not found["star"] and not found["last"]:
        raise _UnreadableError(f"{field_.name} {item!r}: a step follows `*` or a range")
    if not 1 <= step <= field_.size:
        raise _UnreadableError(f"{field_.name} {item!r}: a step is from 1 to {field_.size}")
    return range(low, high + 1, step)


def _value(field_: _Field, text: str) -> int:
    if text.isdigit():
        value = int(text)
    elif text in field_.names:
        value = field_.names[text]
    else:
        raise _UnreadableError(f"{field_.name} {text!r}: not a name of this field")
    if not field_.low <= value <= field_.high:
        raise _UnreadableError(
            f"{field_.name} {text!r}: values are from {field_.low} to {field_.high}"
        )
    return value


def _reason(field_: _Field, item: str) -> str:
    for pattern, reason in _REASONS:
        if pattern.match(item):
            return reason
    return f"write `*`, a value from {field_.low} to {field_.high}, a range or a step"


def _can_fire(cron: CronExpression) -> bool:
    """Whether some month, beginning on some weekday, has a matching day.

    Every month begins on every weekday within 28 years, a leap February within 40.
    """
    longest = max(_LENGTHS[month] for month in cron.months)
    return any(cron.days_of(weekday, longest) for weekday in range(7))
