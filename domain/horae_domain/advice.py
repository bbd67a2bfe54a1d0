"""What somebody should know of a definition before it is used: it changes and refuses nothing (G13).

Advice is of what would surprise: a schedule that fires less or more often than it reads, that loses
its occurrences to its own policies, or that is touched by a change of the clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from horae_domain.cron import ALIASES, CronExpression, parse_cron
from horae_domain.definition import Definition
from horae_domain.durations import format_duration
from horae_domain.instants import format_instant, from_micros, to_micros
from horae_domain.lanes import lane_of
from horae_domain.occurrences import anchor_of, first_bound, next_occurrence
from horae_domain.policies import CatchUpMode, Overlap
from horae_domain.recurrence import Occurrence
from horae_domain.triggers import (
    ConditionTrigger,
    CronTrigger,
    EventTrigger,
    IntervalTrigger,
    OnceTrigger,
    OutcomeTrigger,
)
from horae_domain.walker import Walker
from horae_domain.zones import Change, timeline

LOOKED_AT = 200
"""Occurrences to come that are looked at."""
RARE = timedelta(days=366)
"""A longer wait for the next occurrence is pointed out."""
HORIZON = timedelta(days=400)
"""How far changes of the clocks are looked for."""
BURST = 100
"""More occurrences than this, caught up at once, are pointed out."""

_BRINGS_DATA = (EventTrigger, OutcomeTrigger, ConditionTrigger)
"""Triggers whose data are the payload of a schedule that has none."""
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_SIZES = {"second": 60, "minute": 60, "hour": 24}
_LENGTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ALL = 60


class Advice(NamedTuple):
    """One thing to know: a stable code, the field that it is about, and a sentence."""

    code: str
    field: str
    message: str
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return {"code": self.code, "field": self.field, "message": self.message, **self.details}


class View(NamedTuple):
    """A definition, and its occurrences to come."""

    definition: Definition
    now: datetime
    coming: Sequence[Occurrence]

    @property
    def shortest(self) -> timedelta | None:
        """The shortest time from one occurrence to the next."""
        return min((later.due - first.due for first, later in pairwise(self.coming)), default=None)


def advise(definition: Definition, now: datetime, tenant: str) -> list[Advice]:
    """What to know of a definition that would be created now."""
    view = View(definition, now, upcoming(definition, now, LOOKED_AT, tenant))
    return [each for rule in RULES for each in rule(view)]


def upcoming(definition: Definition, now: datetime, count: int, tenant: str) -> list[Occurrence]:
    """The first occurrences of a definition that would be created now."""
    anchor, after = anchor_of(definition, now), first_bound(definition, now)
    limit = min(count, definition.max_executions or count)
    found: list[Occurrence] = []
    while len(found) < limit:
        occurrence = next_occurrence(definition, anchor, after, tenant=tenant)
        if occurrence is None:
            break
        found.append(occurrence)
        after = occurrence.due
    return found


# --- when it fires -------------------------------------------------------------------------------


def _whether(view: View) -> Iterator[Advice]:
    definition, trigger = view.definition, view.definition.trigger
    if not definition.enabled:
        yield Advice("disabled", "enabled", "it is paused from the beginning, until it is resumed")
    if isinstance(trigger, OnceTrigger):
        if trigger.at is not None and trigger.at < view.now:
            yield Advice("past", "trigger.at", "the instant has passed: it fires at once")
        return
    if len(view.coming) == 1 and definition.max_executions != 1:
        yield Advice(
            "fires_once", "end_at", "it fires only once before it ends",
            {"at": format_instant(view.coming[0].due)},
        )  # fmt: skip


def _rarely(view: View) -> Iterator[Advice]:
    moments = [view.now, *(each.due for each in view.coming)]
    waits = ((later - first, later) for first, later in pairwise(moments))
    wait, until = next((each for each in waits if each[0] > RARE), (None, view.now))
    if wait is not None and isinstance(view.definition.trigger, CronTrigger):
        yield Advice(
            "fires_rarely", "trigger.expression", f"it does not fire for {wait.days} days",
            {"until": format_instant(until)},
        )  # fmt: skip


def _as_cron(view: View) -> Iterator[Advice]:
    trigger = view.definition.trigger
    if not isinstance(trigger, CronTrigger):
        return
    cron = parse_cron(trigger.expression)
    for code, message in _readings(cron):
        yield Advice(code, "trigger.expression", message)


def _readings(cron: CronExpression) -> Iterator[tuple[str, str]]:
    """What an expression means that is often read otherwise."""
    if not cron.both:
        yield (
            "either_day",
            "it fires where the day of the month matches, and where the weekday does",
        )
    if len(cron.minutes) == _ALL and len(cron.hours) < _SIZES["hour"]:
        yield "every_minute", "it fires in every minute of its hours; a minute of 0 is once an hour"
    if cron.by_second and len(cron.seconds) == _ALL and len(cron.minutes) < _ALL:
        yield "every_second", "it fires in every second of its minutes; the first field is seconds"
    for name, step in _steps(cron):
        if _SIZES[name] % step:
            yield (
                "uneven_step",
                f"{name}s by {step} begin anew at 0, so that one step in {_SIZES[name]} is shorter",
            )
    without = _months_without(cron)
    if without:
        yield "months_left_out", f"months {', '.join(map(str, without))} have no such day"


def _steps(cron: CronExpression) -> Iterator[tuple[str, int]]:
    """The steps over a whole field of seconds, minutes or hours."""
    text = cron.text.strip()
    fields = ALIASES.get(text.lower(), text).split()
    names = ("second", "minute", "hour") if cron.by_second else ("minute", "hour")
    for name, field in zip(names, fields, strict=False):
        star, _, step = field.partition("/")
        if star == "*" and step.isdigit():
            yield name, int(step)


def _months_without(cron: CronExpression) -> list[int]:
    """The months of an expression in which it fires on no day, even of a leap year."""
    months = sorted(cron.months)
    return [
        month
        for month in months
        if not any(cron.days_of(weekday, _LENGTHS[month]) for weekday in range(7))
    ]


def _as_interval(view: View) -> Iterator[Advice]:
    trigger = view.definition.trigger
    if isinstance(trigger, IntervalTrigger) and not trigger.every % _DAY:
        yield Advice(
            "elapsed_days", "trigger.every",
            "an interval follows elapsed time: its time of day moves with a change of the clocks",
        )  # fmt: skip


# --- changes of the clocks -----------------------------------------------------------------------


def _clocks(view: View) -> Iterator[Advice]:
    definition, trigger = view.definition, view.definition.trigger
    if not isinstance(trigger, CronTrigger):
        return
    cron = parse_cron(trigger.expression)
    if cron.wildcard:
        return
    walls = Walker(cron, "UTC", None, None)
    seen: set[bool] = set()
    for change in _changes(trigger.timezone, view.now):
        gap = change.after > change.before
        found = walls.next(change.at + min(change.before, change.after))
        touched = found is not None and found.wall < change.at + max(change.before, change.after)
        if gap in seen or not touched:
            continue
        seen.add(gap)
        told = definition.dst.gap if gap else definition.dst.overlap
        debian = ("edge", "first") if not cron.by_second else ("skip", "both")
        yield Advice(
            "clock_gap" if gap else "clock_overlap",
            "dst.gap" if gap else "dst.overlap",
            "the clocks jump over one of its times" if gap else "the clocks show its time twice",
            {"at": _instant(change.at), "rule": told or debian[0 if gap else 1]},
        )


def _changes(zone: str, now: datetime) -> Iterator[Change]:
    """The changes of a zone's clocks in the time looked at."""
    second, stretch = to_micros(now) // 1_000_000, timeline(zone).stretch
    end = second + HORIZON // _SECOND
    while second < end:
        here = stretch(second)
        if here.coming is not None and here.coming.at == here.end:
            yield here.coming
        second = here.end


def _instant(second: int) -> str:
    return format_instant(from_micros(second * 1_000_000))


# --- what its own policies do --------------------------------------------------------------------


def _crowding(view: View) -> Iterator[Advice]:
    """Runs that are in the way of the next occurrence."""
    definition, shortest = view.definition, view.shortest
    if shortest is None:
        return
    limit = definition.timeout.start_to_close
    buffers = definition.overlap in {Overlap.BUFFER_ALL, Overlap.BUFFER_ONE}
    lost = "buffered" if buffers else "skipped"
    told = {"interval": format_duration(shortest)}
    if definition.overlap not in {Overlap.SKIP, Overlap.BUFFER_ALL, Overlap.BUFFER_ONE}:
        return
    if limit is not None and limit > shortest:
        yield Advice(
            "runs_may_overlap", "timeout.start_to_close",
            f"a run may last until the next occurrence is due, which is {lost} then", told,
        )  # fmt: skip
    waits = _retries(definition)
    if waits >= shortest:
        yield Advice(
            "retries_may_overlap", "retry",
            f"retries wait {format_duration(waits)} in all; what is due meanwhile is {lost}", told,
        )  # fmt: skip


def _retries(definition: Definition) -> timedelta:
    """How long the retries of one execution wait in all, without jitter."""
    retry, total = definition.retry, timedelta(0)
    for failures in range(retry.max_attempts - 1):
        seconds = retry.delay.total_seconds() * retry.backoff ** min(failures, 64)
        total += timedelta(seconds=min(seconds, retry.max_delay.total_seconds()))
    return total


def _cooldown(view: View) -> Iterator[Advice]:
    cooldown, shortest = view.definition.cooldown, view.shortest
    if cooldown is not None and shortest is not None and cooldown > shortest:
        yield Advice(
            "cooldown_skips", "cooldown", "occurrences come due within the cooldown and are skipped",
            {"interval": format_duration(shortest)},
        )  # fmt: skip


def _burst(view: View) -> Iterator[Advice]:
    caught, shortest = view.definition.catch_up, view.shortest
    if caught.mode is CatchUpMode.ALL and shortest is not None:
        count = caught.window // shortest
        if count > BURST:
            yield Advice(
                "catch_up_burst", "catch_up.window",
                f"after a long downtime as many as {count} occurrences are caught up at once",
                {"count": count},
            )  # fmt: skip


def _timeouts(view: View) -> Iterator[Advice]:
    timeout = view.definition.timeout
    if timeout.start_to_close is None and timeout.overall is None and timeout.heartbeat is None:
        yield Advice("unbounded", "timeout.start_to_close", "nothing ends a run that hangs")
    for name in ("start_to_close", "schedule_to_start"):
        limit = getattr(timeout, name)
        if limit is not None and timeout.overall is not None and limit >= timeout.overall:
            yield Advice(
                "timeout_unused", f"timeout.{name}", "the overall timeout is over before it"
            )
    silent, limit = timeout.heartbeat, timeout.start_to_close
    if silent is not None and limit is not None and silent >= limit:
        yield Advice("timeout_unused", "timeout.heartbeat", "start_to_close is over before it")


def _lanes(view: View) -> Iterator[Advice]:
    definition = view.definition
    if definition.payload is None and isinstance(definition.trigger, _BRINGS_DATA):
        return
    if lane_of(definition, definition.payload) == b"":
        yield Advice(
            "concurrency_key_missing", "concurrency_key",
            "the payload has no such value: runs without one count together",
        )  # fmt: skip


def _happenings(view: View) -> Iterator[Advice]:
    definition, trigger = view.definition, view.definition.trigger
    if isinstance(trigger, OutcomeTrigger) and trigger.schedule == definition.id:
        yield Advice(
            "circle", "trigger.schedule", "it follows its own outcome, until the circle is cut"
        )
    if not isinstance(trigger, ConditionTrigger) or trigger.mode != "level":
        return
    if trigger.cooldown is None and definition.cooldown is None:
        yield Advice(
            "fires_each_look", "trigger.cooldown",
            f"it fires every {format_duration(trigger.every)} for as long as the condition holds",
        )  # fmt: skip


def _waits(view: View) -> Iterator[Advice]:
    wait = view.definition.wait_for
    if wait is not None and wait.timeout is None and view.definition.timeout.overall is None:
        yield Advice(
            "waits_for_ever", "wait_for.timeout", "nothing ends the wait but what confirms it"
        )


RULES: tuple[Callable[[View], Iterator[Advice]], ...] = (
    _whether,
    _rarely,
    _as_cron,
    _as_interval,
    _clocks,
    _crowding,
    _cooldown,
    _burst,
    _timeouts,
    _lanes,
    _happenings,
    _waits,
)
"""Each tells what it knows, in the order in which it is told."""
