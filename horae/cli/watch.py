"""One readable line for each run, as `horae dev` prints them: from the log, as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Self

from horae_application.ports import EventStore, StoredEvent
from horae_domain.codec import Undecodable, decode
from horae_domain.events import (
    AttemptFailed,
    Event,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionHeld,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    OccurrencesDecided,
    ScheduleTripped,
)

CHUNK = 500
"""Events read at once; of a chunk, so many lines are printed and the rest is counted."""
LINES = 20
PATIENCE = 0.25
"""Seconds until the end of the watch is noticed."""


class Watcher:
    """Prints what happens after it was made, from a thread of its own.

    Args:
        store: whose log is followed.
        write: takes one line.
    """

    def __init__(self, store: EventStore, write: Callable[[str], None]) -> None:
        self._store = store
        self._write = write
        self._at = store.head()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="horae-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            if not self._store.wait(self._at, PATIENCE):
                continue
            events = self._store.read(self._at, CHUNK)
            if events:
                self._at = events[-1].position
                self._print([line for event in events if (line := describe(event)) is not None])

    def _print(self, lines: list[str]) -> None:
        for line in lines[:LINES]:
            self._write(line)
        if len(lines) > LINES:
            self._write(f"          … and {len(lines) - LINES} more")


def describe(stored: StoredEvent) -> str | None:
    """The line of an event that ends a run or an attempt, None for others."""
    try:
        event = decode(stored.name, stored.state)
    except Undecodable:
        return None
    said = _said(event) or _said_of_schedule(event)
    if said is None:
        return None
    what, detail = said
    at = event.at.astimezone().strftime("%H:%M:%S")
    return f"{at}  {what:10}  {event.schedule_id:28}  {detail}".rstrip()


def _said(event: Event) -> tuple[str, str] | None:
    match event:
        case ExecutionSucceeded():
            tries = f"try {event.attempt}, " if event.attempt > 1 else ""
            return "succeeded", f"{tries}{_took(event.started_at, event.at)}{_result(event.result)}"
        case AttemptFailed() if event.retry_at is not None:
            wait = (event.retry_at - event.at).total_seconds()
            return (
                "failed",
                f"try {event.attempt}, next in {round(wait, 1):g} s: {_error(event.error)}",
            )
        case ExecutionFailed():
            return "FAILED", f"{_after(event.attempt)}: {_error(event.error)}"
        case ExecutionDeadLettered():
            return "DEAD", f"{_after(event.attempt)}: {_error(event.error)}"
        case ExecutionTimedOut():
            return "TIMED OUT", _after(event.attempt)
        case ExecutionDelayed():
            wait = (event.until - event.at).total_seconds()
            return "waiting", f"asks again in {round(wait, 1):g} s"
        case _:
            return _not_run(event)


def _not_run(event: Event) -> tuple[str, str] | None:
    match event:
        case ExecutionBuffered():
            return "buffered", f"behind {event.blocked_by}"
        case ExecutionChecking():
            return "checking", ", ".join(event.conditions)
        case ExecutionCheckFailed():
            return "unchecked", f"{event.condition}: {event.error.get('message')}"
        case ExecutionHeld():
            return "held", event.note or "until it is approved"
        case ExecutionSkipped() | ExecutionDropped():
            return "skipped", event.reason
        case ExecutionCancelled():
            return "cancelled", event.reason
        case _:
            return None


def _said_of_schedule(event: Event) -> tuple[str, str] | None:
    match event:
        case ScheduleTripped():
            return "PAUSED", event.reason
        case OccurrencesDecided():
            count = "" if event.count is None else f"{event.count} occurrences, "
            return event.decision, f"{count}{event.reason}"
        case _:
            return None


def _after(tries: int) -> str:
    return "after 1 try" if tries == 1 else f"after {tries} tries"


def _took(started: datetime | None, ended: datetime) -> str:
    return "" if started is None else f"{(ended - started).total_seconds() * 1000:.0f} ms"


def _result(result: Any) -> str:
    if result is None:
        return ""
    text = " ".join(str(result).split())
    return f"  {text[:60]}{'…' if len(text) > 60 else ''}"  # noqa: PLR2004 - of a line


def _error(error: dict[str, Any]) -> str:
    return " ".join(f"{error.get('type')}: {error.get('message')}".split())[:120]
