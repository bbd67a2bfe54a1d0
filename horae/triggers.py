"""Triggers and policies as Python users write them; each is the wire's JSON."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from horae_domain.durations import format_duration, parse_duration
from horae_domain.instants import format_instant, parse_instant
from horae_domain.templates import open_text

Span = str | float | timedelta
Trigger = dict[str, Any]


def cron(expression: str, *, timezone: str = "UTC") -> Trigger:
    """Fire at the wall-clock instants of a cron expression of 5 fields, or 6 with seconds first."""
    return {"type": "cron", "expression": expression, "timezone": timezone}


def every(interval: Span, *, anchor: datetime | str | None = None) -> Trigger:
    """Fire every so often, at least 100 ms apart, counted from an anchor without drift."""
    trigger: Trigger = {"type": "interval", "every": _span(interval, "every")}
    return trigger if anchor is None else trigger | {"anchor": _instant(anchor, "anchor")}


def once(
    at: datetime | str | None = None, *, after: Span | None = None, allow_past: bool = False
) -> Trigger:
    """Fire once, at an aware instant or after a delay."""
    trigger: Trigger = {"type": "once"}
    if at is not None:
        trigger["at"] = _instant(at, "trigger.at")
    if after is not None:
        trigger["after"] = _span(after, "trigger.after")
    return trigger | ({"allow_past": True} if allow_past else {})


def rrule(rule: str, *, timezone: str = "UTC") -> Trigger:
    """Fire by a recurrence rule of RFC 5545: lines with DTSTART, RRULE, RDATE and EXDATE.

    Args:
        rule: the lines; without DTSTART it begins with the schedule.
        timezone: of wall times, unless DTSTART names one.
    """
    return {"type": "rrule", "rule": rule, "timezone": timezone}


def manual() -> Trigger:
    """Fire only when triggered."""
    return {"type": "manual"}


def on_event(event: str, *, filter: str | None = None, delay: Span | None = None) -> Trigger:  # noqa: A002 - the wire's name
    """Fire for each external event of a type, the handler's payload being its data.

    Args:
        event: the type; with `*` for one token of it, and `>` at the end for all that follow.
        filter: a CEL expression over `data` and `event` (`type`, `source`, `id`) that has to be true.
        delay: how long after the event.
    """
    trigger: Trigger = {"type": "event", "event": event}
    if filter is not None:
        trigger["filter"] = filter
    return trigger if delay is None else trigger | {"delay": _span(delay, "trigger.delay")}


def on_outcome(schedule: str, *of: str, delay: Span | None = None) -> Trigger:
    """Fire when an execution of another schedule has ended so, with success unless told.

    Args:
        schedule: its id.
        of: `succeeded`, `failed`, `timed_out`, `cancelled` or `skipped`.
        delay: how long after its end.
    """
    trigger: Trigger = {
        "type": "outcome", "schedule": schedule, "of": list(of or ("succeeded",)),
    }  # fmt: skip
    return trigger if delay is None else trigger | {"delay": _span(delay, "trigger.delay")}


def on_condition(
    check: str,
    when: str | None = None,
    *,
    every: Span = "60 seconds",
    mode: str = "level",
    cooldown: Span | None = None,
) -> Trigger:
    """Fire when an expression over what a check answers holds.

    Args:
        check: the name of a check, as `@app.check` serves it.
        when: an expression whose variables are the fields of the check's answer.
        every: how often the check is asked, at least 100 ms apart.
        mode: `level` fires at each look at which it holds, `edge` when it begins to hold.
        cooldown: how long nothing fires after a firing.
    """
    trigger: Trigger = {"type": "condition", "check": check, "every": _span(every, "every")}
    if when is not None:
        trigger["when"] = when
    if cooldown is not None:
        trigger["cooldown"] = _span(cooldown, "cooldown")
    return trigger if mode == "level" else trigger | {"mode": mode}


class Retry(dict[str, Any]):
    """How failed attempts are repeated (G7).

    Args:
        max_attempts: tries in all, the first one included.
        delay: before the second try; seconds if a number.
        backoff: factor for each further one; 1 for a fixed delay.
        max_delay: cap of the delay.
        jitter: fraction by which the delay varies.
        non_retryable: names of error types that end the execution at once.
    """

    def __init__(
        self,
        max_attempts: int = 4,
        *,
        delay: Span = "1 minute",
        backoff: float = 2.0,
        max_delay: Span = "30 minutes",
        jitter: float = 0.1,
        non_retryable: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            max_attempts=max_attempts,
            delay=_span(delay, "retry.delay"),
            backoff=backoff,
            max_delay=_span(max_delay, "retry.max_delay"),
            jitter=jitter,
            non_retryable=list(non_retryable),
        )


def _span(value: Span, field: str) -> str:
    if open_text(value):
        return str(value)
    return format_duration(parse_duration(value, field=field))


def _instant(value: datetime | str, field: str) -> str:
    if open_text(value):
        return str(value)
    return format_instant(parse_instant(value, field=field))
