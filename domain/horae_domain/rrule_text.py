"""The text of a recurrence rule (RFC 5545): its lines, dates and parts, read and bounded."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from horae_domain.errors import InvalidTrigger
from horae_domain.zones import load_zone

MAX_TEXT = 10_000
"""Characters of a rule with its dates."""
MAX_DATES = 1_000
"""Dates that are added or left out one by one."""
MAX_COUNT = 10_000
"""Occurrences of a rule that counts them."""

_LINE = re.compile(r"(?:(?P<name>[A-Z]+)(?P<parameters>(?:;[^:]*)?):)?(?P<value>.+)", re.IGNORECASE)
_DATE = re.compile(r"\d{8}(?:T\d{6}(?P<utc>Z?))?", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,6}")


class Parts(NamedTuple):
    """A rule as it is written, its dates on the wall clock."""

    start: datetime | None
    zone: str
    rules: tuple[str, ...]
    excluded_rules: tuple[str, ...]
    dates: tuple[datetime, ...]
    excluded: frozenset[datetime]


def read_rule(text: str, timezone: str) -> Parts:
    """The parts of a rule; errors as of `rrule_recurrence`."""
    if len(text) > MAX_TEXT:
        raise refusal(f"a rule has at most {MAX_TEXT:,} characters")
    lines = [_line(each) for each in re.sub(r"\r?\n[ \t]", "", text).splitlines() if each.strip()]
    starts = [line for line in lines if line.name == "DTSTART"]
    if len(starts) > 1:
        raise refusal("a rule has one DTSTART")
    zone, start = timezone, None
    if starts:
        (start,), told = _dates(starts[0], timezone)
        zone = told or timezone
        load_zone(zone, field="trigger.rule")
    aware = bool(starts) and told is not None
    by_name: dict[str, list[_Line]] = {}
    for line in lines:
        by_name.setdefault(line.name, []).append(line)
    strange = by_name.keys() - {"DTSTART", "RRULE", "EXRULE", "RDATE", "EXDATE"}
    if strange:
        raise refusal(f"{min(strange)} is not known; there are DTSTART, RRULE, RDATE and EXDATE")
    added = [each for line in by_name.get("RDATE", ()) for each in _dates(line, zone)[0]]
    removed = [each for line in by_name.get("EXDATE", ()) for each in _dates(line, zone)[0]]
    if len(added) + len(removed) > MAX_DATES:
        raise refusal(f"a rule has at most {MAX_DATES:,} dates")
    rules = [_rule_text(line.value, zone, aware=aware) for line in by_name.get("RRULE", ())]
    without = [_rule_text(line.value, zone, aware=aware) for line in by_name.get("EXRULE", ())]
    if not rules and not added:
        raise refusal("a rule has an RRULE or an RDATE")
    return Parts(start, zone, tuple(rules), tuple(without), tuple(added), frozenset(removed))


class _Line(NamedTuple):
    name: str
    parameters: dict[str, str]
    value: str


def _line(text: str) -> _Line:
    found = _LINE.fullmatch(text.strip())
    assert found is not None  # noqa: S101 - whatever is there is a value at least
    told = [each.partition("=") for each in (found["parameters"] or "").split(";") if each]
    parameters = {name.upper(): value for name, _, value in told}
    name = found["name"] or "RRULE"
    return _Line(name.upper(), parameters, found["value"])


def _dates(line: _Line, zone: str) -> tuple[list[datetime], str | None]:
    """Wall times in a zone, and the zone that the line names."""
    strange = line.parameters.keys() - {"TZID", "VALUE"}
    if strange:
        raise refusal(f"{line.name} has no parameter {min(strange)}")
    named = line.parameters.get("TZID")
    texts = line.value.split(",")
    if any(text.strip().upper().endswith("Z") for text in texts):
        if named is not None:
            raise refusal(f"{line.name} has a TZID and an instant in UTC")
        target = "UTC" if line.name == "DTSTART" else zone
        return [_local(text, target, line.name) for text in texts], "UTC"
    walls = [_wall(text, line.name) for text in texts]
    if named is not None and line.name != "DTSTART" and named != zone:
        there, here = load_zone(named, field="trigger.rule"), load_zone(zone)
        walls = [each.replace(tzinfo=there).astimezone(here).replace(tzinfo=None) for each in walls]
    return walls, named


def _wall(text: str, name: str) -> datetime:
    text = text.strip().upper()
    if _DATE.fullmatch(text) is None:
        raise refusal(f"{name}: {text[:40]!r} is no date such as 20261201T090000")
    form = "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d"
    try:
        return datetime.strptime(text.removesuffix("Z"), form)  # noqa: DTZ007 - a wall time
    except ValueError as error:
        raise refusal(f"{name}: {text} does not exist") from error


def _local(text: str, zone: str, name: str) -> datetime:
    """The wall time of an instant in UTC; of others the one told."""
    wall = _wall(text, name)
    if not text.strip().upper().endswith("Z"):
        return wall
    return wall.replace(tzinfo=UTC).astimezone(load_zone(zone)).replace(tzinfo=None)


def _rule_text(text: str, zone: str, *, aware: bool) -> str:
    """One `RRULE` as dateutil reads it, its end on the wall clock."""
    parts: dict[str, str] = {}
    for each in text.strip().upper().split(";"):
        name, _, value = each.partition("=")
        if not value or name in parts:
            raise refusal(f"{each[:40]!r}: each part of a rule is NAME=VALUE, once")
        parts[name] = value
    if "FREQ" not in parts:
        raise refusal("a rule has a FREQ")
    if "COUNT" in parts and "UNTIL" in parts:
        raise refusal("a rule has a COUNT or an UNTIL")
    for name, most in (("INTERVAL", 999_999), ("COUNT", MAX_COUNT)):
        value = parts.get(name, "1")
        if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= most:
            raise refusal(f"{name} is a number from 1 to {most:,}")
    if "UNTIL" in parts:
        parts["UNTIL"] = _until(parts["UNTIL"], zone, aware=aware)
    return ";".join(f"{name}={value}" for name, value in parts.items())


def _until(text: str, zone: str, *, aware: bool) -> str:
    utc = text.endswith("Z")
    if "T" in text and utc != aware:
        needed = "in UTC, as DTSTART has a zone" if aware else "without Z, as DTSTART has no zone"
        raise refusal(f"UNTIL is to be told {needed}")
    return _local(text, zone, "UNTIL").strftime("%Y%m%dT%H%M%S")


def refusal(reason: str) -> InvalidTrigger:
    """What is raised about a rule."""
    return InvalidTrigger(reason, field="trigger.rule")
