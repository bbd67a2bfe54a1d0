"""What an owner has heard of the attempts that it gave out; memory only, for nothing of it is a fact.

A heartbeat costs no commit and moves no timer. When the time of a silent attempt is over, its owner
looks here first. Whoever takes over has heard nothing, and waits for one whole timeout anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from horae_domain.execution import Execution, heard
from horae_domain.instants import format_instant
from horae_domain.ledger import Line


class Beat(NamedTuple):
    """The last heartbeat of an attempt."""

    lease: str
    at: datetime | None = None
    """When it came, if it counts for the timeout."""
    progress: Any = None
    told_at: datetime | None = None
    """When the progress was told."""

    def put_off(self, run: Execution) -> Execution:
        """The execution that it is of, with its timeout put off."""
        return run if self.at is None or self.lease != run.lease else heard(run, self.at)


class Pulse:
    """The last heartbeat of each running attempt, by execution."""

    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}

    def get(self, id_: str) -> Beat | None:
        """What was last heard of an execution; from any thread."""
        return self._beats.get(id_)

    def progress_of(self, id_: str) -> dict[str, Any] | None:
        """The latest progress of an execution, and when it was told; from any thread."""
        beat = self._beats.get(id_)
        if beat is None or beat.told_at is None:
            return None
        return {"at": format_instant(beat.told_at), "value": beat.progress}

    def begin(self, runs: Iterable[Execution], at: datetime) -> None:
        """Listen to attempts that another owner gave out."""
        for run in runs:
            if run.heartbeat is not None:
                self._beats[run.id] = Beat(run.lease, at)

    def note(self, run: Execution, at: datetime, progress: Any, *, ask: bool) -> Execution:
        """A running attempt was heard of; the execution with its timeout put off."""
        beat = self._beats.get(run.id)
        if beat is None or beat.lease != run.lease:
            beat = Beat(run.lease)
        if not ask:
            beat = beat._replace(at=at)
        if progress is not None:
            beat = beat._replace(progress=progress, told_at=at)
        self._beats[run.id] = beat
        return beat.put_off(run)

    def forget(self, ids: Iterable[str]) -> None:
        """They run no more, or elsewhere."""
        for id_ in ids:
            self._beats.pop(id_, None)

    def shift(self, by: timedelta) -> None:
        """The clock was set."""
        self._beats = {
            id_: beat if beat.at is None else beat._replace(at=beat.at + by)
            for id_, beat in self._beats.items()
        }

    def listened(self, line: Line, now: datetime) -> Line:
        """The line with the timeouts put off of those that seem silent and are not."""
        if not self._beats:
            return line
        put_off = {
            run.id: beat.put_off(run)
            for run in line.live.values()
            if run.silent_by is not None
            and run.silent_by <= now
            and (beat := self._beats.get(run.id)) is not None
        }
        return msgspec.structs.replace(line, live=line.live | put_off) if put_off else line
