"""What becomes of each occurrence under every combination of policies, told by the engine itself.

`python -m tests.policies.cells` writes the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from horae import testing
from horae_domain.codec import decode
from horae_domain.errors import HoraeError
from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionDropped,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "policies.md"
START = datetime(2026, 1, 5, tzinfo=UTC)
OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow")
CATCH_UPS = ("all", "latest", "skip")
LIMITS: dict[str, dict[str, Any]] = {
    "none": {},
    "`concurrency: 2`": {"concurrency": 2},
    "`max_executions: 4`": {"max_executions": 4},
}
PAUSES: dict[str, tuple[float, float] | None] = {
    "Not paused": None,
    "Paused from 1:30 to 4:15, while the first run is in the way": (1.5, 4.25),
    "Paused from 5:15 to 9:45, over the outage": (5.25, 9.75),
}
LONG_UNTIL = 3.5
"""Minutes: when the first run ends."""
DOWN, BACK = 5.5, 9.5
"""Minutes: the outage."""
WINDOW = "150 seconds"
LAST = 11
"""The last occurrence that is looked at."""

LETTERS = {
    "R": "fired and succeeded",
    "B": "was buffered, then fired and succeeded",
    "C": "fired, and was cancelled for the sake of a later one",
    "O": "skipped: an unfinished run was in the way (`overlap`)",
    "F": "skipped: the buffer was full (`buffer_full`)",
    "D": "dropped out of the buffer for a later one (`superseded`)",
    "X": "dropped out of the buffer by a limit (`max_executions`)",
    "L": "skipped: a later one was due as well (`superseded`, catch-up `latest`)",
    "V": "skipped: overdue, with catch-up `skip`",
    "M": "missed: older than the catch-up window",
    "P": "skipped: the schedule was paused",
    "-": "no occurrence: the schedule had completed",
}
SKIPS = {
    "overlap": "O",
    "buffer_full": "F",
    "superseded": "L",
    "overdue": "V",
    "catch_up_window": "M",
    "paused": "P",
}


class Cell(NamedTuple):
    """One combination."""

    pause: str
    overlap: str
    limit: str
    catch_up: str


def cells() -> Iterator[Cell]:
    """All of them."""
    for pause in PAUSES:
        for overlap in OVERLAPS:
            for limit in LIMITS:
                for catch_up in CATCH_UPS:
                    yield Cell(pause, overlap, limit, catch_up)


class Play:
    """The same minutes under several combinations: a worker of a queue, an outage, perhaps a pause.

    Each has a schedule of its own, which knows nothing of the others.
    """

    def __init__(self, engine: testing.TestEngine, cells: Sequence[Cell]) -> None:
        self._engine = engine
        self._cells = {f"job-{number}": cell for number, cell in enumerate(cells)}

    @property
    def minute(self) -> float:
        """Since the start."""
        return (self._engine.now - START) / timedelta(minutes=1)

    async def run(self) -> dict[Cell, list[Event]]:
        """Play it, and return what was recorded of each."""
        for id_, cell in self._cells.items():
            await self._create(id_, cell)
        while self.minute < LAST + 0.25:
            if self.minute == DOWN:
                await self._engine.outage(timedelta(minutes=BACK - DOWN))
            else:
                await self._engine.advance("15 seconds")
            for id_, cell in self._cells.items():
                await self._pause_or_resume(id_, cell)
            await self._work()
        recorded: dict[Cell, list[Event]] = {cell: [] for cell in self._cells.values()}
        for row in self._engine.log():
            event = decode(row.name, row.state)
            recorded[self._cells[event.schedule_id]].append(event)
        return recorded

    async def _create(self, id_: str, cell: Cell) -> None:
        await self._engine.command(
            "schedule.create",
            {
                "id": id_,
                "trigger": {"type": "interval", "every": "1 minute"},
                "action": {"type": "queue", "queue": "q"},
                "overlap": cell.overlap,
                "catch_up": {"mode": cell.catch_up, "window": WINDOW},
                **LIMITS[cell.limit],
            },
        )

    async def _pause_or_resume(self, id_: str, cell: Cell) -> None:
        pause = PAUSES[cell.pause]
        if pause is not None and self.minute in pause:
            verb = "pause" if self.minute == pause[0] else "resume"
            with suppress(HoraeError):  # it may have completed
                await self._engine.command(f"schedule.{verb}", {"id": id_})

    async def _work(self) -> None:
        """Start what is pending and end what runs, but for the first run, until nothing changes."""
        while True:
            page = await self._engine.list_executions(status="pending,running", limit=1000)
            assert page["total"] == len(page["executions"])
            moved = [await self._handle(each) for each in reversed(page["executions"])]
            if not any(moved):
                return

    async def _handle(self, run: dict[str, Any]) -> bool:
        if run["status"] == "pending":
            with suppress(HoraeError):  # as many run as may
                await self._engine.command("execution.start", {"execution_id": run["id"]})
                return True
            return False
        first = run["due"] == "2026-01-05T00:01:00Z"
        if first and self.minute < LONG_UNTIL and not run["stopping"]:
            return False
        body = {"execution_id": run["id"], "lease": f"{len(run['attempts'])}.1"}
        outcome = "cancelled" if run["stopping"] else "succeeded"
        await self._engine.command("execution.report", {**body, "outcome": outcome})
        return True


async def play(cells: Sequence[Cell]) -> dict[Cell, str]:
    """A letter for each occurrence, for each combination."""
    async with testing.engine(start=START) as engine:
        recorded = await Play(engine, cells).run()
    return {cell: _letters(events) for cell, events in recorded.items()}


def _letters(events: Iterable[Event]) -> str:
    letters = ["-"] * LAST
    due: dict[str, int] = {}
    for event in events:
        match event:
            case ExecutionRequested():
                due[event.execution_id] = _minute(event.due)
                _put(letters, _minute(event.due), "R")
            case ExecutionBuffered():
                due[event.execution_id] = _minute(event.due)
                _put(letters, _minute(event.due), "B")
            case ExecutionSkipped():
                _put(letters, _minute(event.due), SKIPS[event.reason])
            case ExecutionDropped():
                letter = {"superseded": "D", "max_executions": "X", "buffer_full": "F"}
                _put(letters, due[event.execution_id], letter[event.reason], instead_of="B")
            case ExecutionCancelled():
                before = letters[due[event.execution_id] - 1]
                _put(letters, due[event.execution_id], "C", instead_of=before)
            case OccurrencesDecided():
                for minute in range(_minute(event.first), _minute(event.last) + 1):
                    _put(letters, minute, SKIPS[event.reason])
            case _:
                pass
    return "".join(letters)


def _minute(instant: datetime) -> int:
    return round((instant - START) / timedelta(minutes=1))


def _put(letters: list[str], minute: int, letter: str, instead_of: str = "-") -> None:
    """Note a decision; two for one occurrence are a defect."""
    if minute > LAST:
        return
    assert letters[minute - 1] == instead_of, f"minute {minute}: {letters}, then {letter}"
    letters[minute - 1] = letter


async def page() -> str:
    """The document, from running every cell."""
    lines = [HEAD]
    lines += [f"| `{letter}` | {meaning} |" for letter, meaning in LETTERS.items()]
    found = await play(list(cells()))
    for pause in PAUSES:
        lines += ["", f"## {pause}", "", "| Overlap | Limit | `all` | `latest` | `skip` |"]
        lines += ["|---|---|---|---|---|"]
        for overlap in OVERLAPS:
            for limit in LIMITS:
                row = [found[Cell(pause, overlap, limit, each)] for each in CATCH_UPS]
                told = " | ".join(f"`{each}`" for each in row)
                lines.append(f"| `{overlap}` | {limit} | {told} |")
    return "\n".join(lines) + "\n"


HEAD = f"""# Policies, by situation

Every cell of this page is what the engine did in a test, on a clock that the test moves; the page is compared with it.

A schedule fires every minute, with a catch-up window of {WINDOW}. Its first run lasts until 3:30, so it is in the way of the
occurrences at 2:00 and 3:00; every later run ends at once. The engine is down from 5:30 to 9:30. A cell has a letter for each
occurrence from 1:00 to {LAST}:00; the columns are the three modes of catch-up.

| Letter | |
|---|---|"""


if __name__ == "__main__":
    PAGE.write_text(asyncio.run(page()))
