"""What one commit will write: decisions made one after the other, each on what the former left."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from horae_application.lines import Lines, row_of
from horae_application.listening import Hearing
from horae_application.ports import Batch, NewEvent, Setting
from horae_application.room import Room, Uses
from horae_application.waiting import row_of_wait
from horae_application.work import Work
from horae_domain.codec import encode, name_of
from horae_domain.decision import Decision
from horae_domain.errors import TooManyRequests
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    CancellationRequested,
    Event,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
    StageCompleted,
)
from horae_domain.execution import Execution, Status
from horae_domain.execution import evolve as evolve_execution
from horae_domain.identity import partition_of_stream
from horae_domain.instants import to_micros
from horae_domain.ledger import Line, evolve_handed_over
from horae_domain.limits import Limits

_ROOM = {
    AttemptFailed,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionSucceeded,
    ExecutionTimedOut,
    StageCompleted,
}
"""Events of an execution after which one fewer runs."""


class Draft:
    """Decisions not yet committed. Dropping it undoes them, since lines are values."""

    def __init__(self, lines: Lines, at: datetime, room: Room) -> None:
        self.at = at
        self._room = room
        self.uses = Uses()
        """What it uses of limits."""
        self.settings: dict[str, Setting] = {}
        """Limits that it sets, by key."""
        self.limits: dict[str, Limits] = {}
        """Limits as it leaves them, by stream."""
        self._lines = lines
        self.hearing = Hearing(lines.listening)
        """Who listens for external events."""
        self._changed: dict[str, Line] = {}
        self.events: list[Event] = []
        self._streams: list[str] = []
        self._versions: list[int] = []
        self._next: dict[str, int] = {}
        self._requested: dict[str, int] = {}
        self._roomier: dict[str, int] = {}
        """The last event of a line after which one fewer of its executions runs."""
        self.works: list[Work] = []
        """Attempts handed to the local executor."""
        self.ended: list[tuple[str, str]] = []
        """(execution, lease) of local attempts that are fenced: timed out or cancelled."""
        self.reprioritised: set[str] = set()
        """Executions that wait under another priority than before."""
        self.asked: list[tuple[str, str]] = []
        """(execution, lease) of local attempts that are asked to stop."""
        self.passing: set[str] = set()
        """Lines that are not worth keeping where nothing of theirs is alive or due soon."""
        self.seen: set[str] = set()
        """Lines that were due, changed or not."""
        self.settled: set[str] = set()
        """Lines of which the timeouts that are over are decided."""
        self.recovered: set[str] = set()
        """Lines in which nothing runs in the memory of a former owner."""
        self._runs: dict[str, set[str]] = {}
        self.buried: list[str] = []
        """Streams whose line is of no use any more: they cannot be read."""
        self.waiting: dict[str, Execution | None] = {}
        """Executions that wait outside of their lines, as this draft leaves them; None if they no longer do."""
        self.erased: list[str] = []
        """Streams that are gone after it."""
        self.partitions: set[int] = set()
        """Partitions whose ownership the decisions rest on."""

    def line(self, stream: str) -> Line | None:
        """The line as the decisions of this draft leave it."""
        return self._changed.get(stream) or self._lines.listened(stream)

    def adds_to(self, stream: str) -> bool:
        """True if this draft has events of that stream."""
        return stream in self._next

    def run(self, stream: str, id_: str) -> Execution | None:
        """An execution as this draft leaves it, though it may have ended in it."""
        if (waiting := self.waiting.get(id_)) is not None:
            return waiting
        line = self._lines.get(stream)
        run = line.find(id_) if line else None
        for event in self.events:
            if isinstance(event, ExecutionEvent) and event.execution_id == id_:
                run = evolve_execution(run, event)
        return run

    def begin(self, stream: str, *waiting: Execution) -> Decision:
        """Decide on a line, and on executions of its schedule that wait outside of it."""
        return Decision(self.line(stream), *waiting, settled=stream in self.settled)

    def accept(self, stream: str, decision: Decision) -> int | None:
        """Take a decision over; the index of its last event, None if it has none."""
        before, after = decision.before, decision.line
        if decision.settled:
            self.settled.add(stream)
        runs: dict[str, Execution | None] = {}
        for event in decision.events:
            if isinstance(event, ExecutionEvent):
                run = before.find(event.execution_id) if before else None
                runs[event.execution_id] = run
                version = _version(event, run or decision.given.get(event.execution_id))
                self._accept_run(stream, event, version, run, after)
            else:
                self.add(event, stream, before.schedule.version if before else 0)
        if runs:
            self._runs.setdefault(stream, set()).update(runs)
        for id_, run in runs.items():
            self._count(run, after.live.get(id_) if after else None)
        if after is not None and after is not before:
            self._changed[stream] = after
        if decision.events:
            self.partitions.add(partition_of_stream(stream))
            self.hearing.note(stream, decision, runs)
        if decision.given or decision.waiting:
            self.waiting |= dict.fromkeys(decision.given) | decision.waiting
        return len(self.events) - 1 if decision.events else None

    def _accept_run(
        self,
        stream: str,
        event: ExecutionEvent,
        version: int,
        run: Execution | None,
        after: Line | None,
    ) -> None:
        """Take over an event of an execution, which was `run` before the decision."""
        self.add(event, event.execution_id, version)
        if isinstance(event, AttemptStarted) and event.delivery == 1:
            self._begins(event, after)
        if isinstance(event, ExecutionReprioritised):
            self.reprioritised.add(event.execution_id)
        if type(event) in _ROOM:
            self._roomier[stream] = len(self.events) - 1
        if run is not None and run.local:
            self._tell(run, event)

    def _count(self, before: Execution | None, after: Execution | None) -> None:
        """Count whether one more or one fewer execution of its queue runs."""
        was = before is not None and before.status is Status.RUNNING
        now = after is not None and after.status is Status.RUNNING
        run = after or before
        if was != now and run is not None:
            change = 1 if now else -1
            self.uses.count(run.tenant, run.queue, change, 0, len(self.events) - 1)

    def _begins(self, event: ExecutionEvent, line: Line | None) -> None:
        """Count an attempt that begins."""
        run = line.live.get(event.execution_id) if line else None
        if run is not None:
            self.uses.count(run.tenant, run.queue, 0, 1, len(self.events) - 1)

    def require_room(self, run: Execution) -> None:
        """See that one more attempt may begin in its queue.

        Raises:
            TooManyRequests: a limit has no room.
        """
        lack = self._room.lack(run.tenant, run.queue, self.uses, to_micros(self.at))
        if lack is not None:
            raise TooManyRequests(
                f"no room in {lack.key}: {lack.why}", field="execution_id", value=run.id
            )

    def _tell(self, run: Execution, event: ExecutionEvent) -> None:
        """Note what an attempt in this process has to hear of."""
        if isinstance(event, CancellationRequested):
            self.asked.append((run.id, run.lease))
        elif _fences(event):
            self.ended.append((run.id, run.lease))

    def runs_of(self, stream: str) -> set[str]:
        """The executions of a line that this draft changes."""
        return self._runs.get(stream, set())

    def add(self, event: Event, stream: str, version: int) -> int:
        """Add an event to a stream that has `version` events before this draft; its index."""
        following = self._next.get(stream, version) + 1
        self._next[stream] = following
        if isinstance(event, ExecutionRequested):
            self._requested[event.execution_id] = len(self.events)
        self.events.append(event)
        self._streams.append(stream)
        self._versions.append(following)
        return len(self.events) - 1

    def erase(self, stream: str, gone: Iterable[str]) -> None:
        """Erase streams with this commit, by the word of the owner of a schedule's stream."""
        self.erased += gone
        self.partitions.add(partition_of_stream(stream))

    def bury(self, event: Event, stream: str, version: int) -> None:
        """Record the end of a schedule that cannot be held as a line."""
        self.add(event, stream, version)
        self.buried.append(stream)
        self.partitions.add(partition_of_stream(stream))

    def hand_over(self, stream: str, run: Execution, owner: str) -> bool:
        """Give attempt 1 to this process within the very decision, if that is in this draft.

        Not if it runs in the place of an attempt that this draft ends after the decision: whoever
        reads the log in order would count one too many.
        """
        index = self._requested.get(run.id)
        line = self.line(stream)
        if index is None or line is None or run.attempt or run.version != 1:
            return False
        bounded = line.definition_of(run).limit is not None
        if bounded and index < self._roomier.get(stream, -1):
            return False
        if self._room.too_late(run.tenant, run.queue, self.uses, index):
            return False
        requested = self.events[index]
        assert isinstance(requested, ExecutionRequested)  # noqa: S101 - what _requested holds
        handed, line = evolve_handed_over(line, requested, owner)
        self.events[index] = handed
        self._changed[stream] = line
        self.uses.count(run.tenant, run.queue, 1, 1, index)
        return True

    def batch(self, epochs: dict[int, int]) -> Batch:
        """The rows to write, under the epochs of the partitions they touch."""
        rows, settled = [], [(partition_of_stream(each), each) for each in self.buried]
        for stream, line in self._changed.items():
            if line.settled:
                settled.append((partition_of_stream(stream), stream))
            else:
                rows.append(row_of(line, stream))
        for id_, run in self.waiting.items():
            if run is None:
                settled.append((partition_of_stream(id_), id_))
            else:
                rows.append(row_of_wait(run))
        listeners, silent = self.hearing.rows()
        return Batch(
            epochs={each: epochs[each] for each in self.partitions},
            events=[
                NewEvent(stream, version, name_of(event), encode(event))
                for stream, version, event in zip(
                    self._streams, self._versions, self.events, strict=True
                )
            ],
            ledger=[*rows, *listeners],
            settled=[*settled, *silent],
            at=to_micros(self.at),
            uses=self.uses.all(),
            settings=list(self.settings.values()),
            erased=self.erased,
        )

    def unchanged(self) -> Iterable[str]:
        """Lines that were due and are as they were."""
        return self.seen - self._changed.keys()

    def changed(self) -> Iterable[tuple[str, Line]]:
        """Lines that are different after this draft."""
        return self._changed.items()

    @property
    def streams(self) -> list[str]:
        """The stream of each event."""
        return self._streams

    @property
    def versions(self) -> list[int]:
        """The version of each event."""
        return self._versions


def _version(event: ExecutionEvent, run: Execution | None) -> int:
    """How many events the stream of an execution has before the draft."""
    if run is not None:
        return run.version
    return event.version if isinstance(event, ExecutionRequeued) else 0


def _fences(event: ExecutionEvent) -> bool:
    """True if an attempt ends although its worker has not reported."""
    return isinstance(event, ExecutionCancelled) or (
        isinstance(event, AttemptFailed) and event.outcome not in {"failed", "cancelled"}
    )
