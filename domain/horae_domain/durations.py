"""Durations as people write them: `"5 minutes"`, `"1h30m"`, `"250ms"`, `"PT5M"`, or seconds.

A duration has a fixed length, microseconds as its resolution, and is never negative. Years and
months have no fixed length and are refused; `m` is minutes.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction
from functools import lru_cache

from horae_domain.errors import InvalidField

MAX_DURATION = timedelta(days=36_525)
"""A hundred years, beyond which a duration is surely a mistake."""

MAX_TEXT = 100

_SECOND = 1_000_000
_UNITS = {
    "w": 7 * 86_400 * _SECOND,
    "d": 86_400 * _SECOND,
    "h": 3_600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000,
    "us": 1,
}
_WORDS = {
    "w": "w wk wks week weeks",
    "d": "d day days",
    "h": "h hr hrs hour hours",
    "m": "m min mins minute minutes",
    "s": "s sec secs second seconds",
    "ms": "ms msec msecs millisecond milliseconds",
    "us": "us µs μs usec usecs microsecond microseconds",
}
_UNIT_OF = {word: _UNITS[unit] for unit, words in _WORDS.items() for word in words.split()}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})\s*([^\W\d_]+)(?:\s*,)?\s*")
_ISO = re.compile(
    rf"P(?:({_NUMBER})W|(?:({_NUMBER})D)?(?:T(?=[0-9.])(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?)"
)
_ISO_UNITS = [_UNITS[unit] for unit in "wdhms"]


def parse_duration(value: str | float | timedelta, *, field: str) -> timedelta:
    """Read a duration; numbers are seconds.

    Raises:
        InvalidField: negative, empty, without a unit, of an unknown unit, not finite, or over a
            hundred years; with `field` and the value.
    """

    def refuse(reason: str) -> InvalidField:
        return InvalidField(f"{reason}: {str(value)[:MAX_TEXT]!r}", field=field, value=value)

    micros: Fraction | int | None
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, str):
        micros = _read(value.strip().removeprefix("+"))
        if micros is None:
            raise refuse(
                "a duration is a number with a unit, such as '5 minutes', '1h30m' or 'PT5M'"
            )
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse("a duration is text or a number of seconds")
    elif not math.isfinite(value):
        raise refuse("a duration is finite")
    else:
        micros = Fraction(value) * _SECOND
    if micros < 0:
        raise refuse("a duration is not negative")
    if micros > MAX_DURATION // timedelta(microseconds=1):
        raise refuse("a duration is at most a hundred years")
    return timedelta(microseconds=round(micros))


def _read(text: str) -> Fraction | None:
    """Microseconds; None if the text is no duration."""
    if not text or len(text) > MAX_TEXT:
        return None
    if text.startswith("P"):
        return _read_iso(text)
    negative = text.startswith("-")
    position = 1 if negative else 0
    total, coarser = Fraction(0), None
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return None
        number, word = part.groups()
        unit = None if word == "M" else _UNIT_OF.get(word.lower())
        if unit is None or (coarser is not None and unit >= coarser):
            return None
        total += Fraction(number) * unit
        position, coarser = part.end(), unit
    if coarser is None or text.endswith(","):
        return None
    return -total if negative else total


def _read_iso(text: str) -> Fraction | None:
    found = _ISO.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    return sum(
        (
            Fraction(number) * unit
            for number, unit in zip(found.groups(), _ISO_UNITS, strict=True)
            if number
        ),
        Fraction(0),
    )


@lru_cache(maxsize=1024)
def format_duration(value: timedelta) -> str:
    """The shortest exact text, such as `5m`, `1h30m`, `250ms`, `0s`; `parse_duration` reads it."""
    rest = value // timedelta(microseconds=1)
    sign, rest = ("-", -rest) if rest < 0 else ("", rest)
    text = ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            text += f"{count}{unit}"
    return sign + (text or "0s")
