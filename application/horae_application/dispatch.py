"""Who does the work: executions that are ready, handed out by urgency.

What waits, waits here, in the owner, so that priority, turns and cancellation still work: an executor
gets as much as it has room for, in this process and elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from horae_application.attempt import work_of
from horae_application.backlog import Backlog
from horae_application.draft import Draft
from horae_application.elsewhere import Elsewhere, Place
from horae_application.lines import Lines
from horae_application.ownership import Ownership
from horae_application.ports import LocalExecutor, WorkBus
from horae_application.room import Lack, Room
from horae_domain import decider, stages
from horae_domain.actions import Deed, QueueAction
from horae_domain.execution import Execution
from horae_domain.identity import partition_of_stream
from horae_domain.instants import to_micros
from horae_domain.ledger import Line
from horae_domain.schedule import Cause


class Dispatch:
    """Ready executions of this owner and where they go."""

    def __init__(
        self,
        ownership: Ownership,
        executor: LocalExecutor | None,
        bus: WorkBus | None,
        room: Room,
    ) -> None:
        self._ownership = ownership
        self._room = room
        self._executor = executor
        self._elsewhere = None if bus is None else Elsewhere(bus, room)
        self._away: Collection[str] = self._elsewhere.known if self._elsewhere is not None else ()
        self._local = Backlog()
        self._queued: set[str] = set()
        self.lacks: list[tuple[Lack, int]] = []
        """What the most urgent of those lack that wait for room, and how urgent they are."""

    @property
    def waiting(self) -> bool:
        """True if work waits for a slot of the local executor."""
        return bool(self._local)

    # --- before the commit ------------------------------------------------------------------------

    def assign(self, draft: Draft) -> None:
        """Within the commit: hand ready executions to free slots of the local executor."""
        self.lacks = []
        self._dequeue(draft.reprioritised)
        for stream, line in draft.changed():
            self._enqueue(stream, line, draft.at)
        for stream in draft.unchanged():
            if (seen := draft.line(stream)) is not None:
                self._enqueue(stream, seen, draft.at)
        if self._executor is None:
            return
        if not self._local:
            return
        slots = self._executor.hold(len(self._local))
        self._fill(draft, slots)
        if slots > len(draft.works):
            self._executor.hold(len(draft.works))

    def _fill(self, draft: Draft, slots: int) -> None:
        """Begin what waits, while there are slots and its queue has room."""
        at = to_micros(draft.at)
        full: set[Place] = set()
        closed: set[tuple[str, str]] = set()
        while slots > len(draft.works) and (first := self._local.first(closed)) is not None:
            place, entry = first
            lack = self._room.lack(*place, draft.uses, at, head=entry[0])
            if lack is not None:
                closed.add(place)
                self.lacks.append((lack, entry[0]))
                continue
            self._local.pop(place)
            self._queued.discard(entry[2])
            before = len(draft.works)
            self._hand_over(draft, entry[2], entry[3], full)
            if len(draft.works) > before:
                self._local.served(place[0], self._room.weight(place[0]))

    def _hand_over(self, draft: Draft, id_: str, stream: str, full: set[Place]) -> None:
        """Start an attempt here, unless as many run; then its place is noted as full.

        When a line changes, what is ready in it is queued again.
        """
        line = draft.line(stream)
        run = line.live.get(id_) if line else None
        if line is None or run is None or not run.ready(draft.at):
            return
        place = stream, line.lane_of(run)
        if place in full or not line.may_start(run):
            full.add(place)
            return
        owner = self._ownership.owner
        if not draft.hand_over(stream, run, owner):
            decision = draft.begin(stream)
            decider.start(decision, id_, owner, Cause(draft.at))
            draft.accept(stream, decision)
        line = draft.line(stream)
        assert line is not None  # noqa: S101 - it was there and stays
        draft.works.append(work_of(line, line.live[id_]))

    def _enqueue(self, stream: str, line: Line, now: datetime) -> None:
        busy = line.busy_lanes()
        for run in line.live.values():
            if run.id in self._queued or run.id in self._away or not run.ready(now):
                continue
            if busy and line.lane_of(run) in busy:
                continue
            action = _deed_of(line, run)
            if action is None:
                continue
            entry = (run.urgency, to_micros(run.due), run.id, stream)
            if self._here(action):
                self._local.push((run.tenant, run.queue), entry)
                self._queued.add(run.id)
            elif self._elsewhere is not None:
                self._elsewhere.push(run, action, entry)

    def _here(self, action: Deed | None) -> bool:
        """True if this process does such work itself."""
        return (
            self._executor is not None
            and action is not None
            and self._executor.serves(action)
            and not isinstance(action, QueueAction)
        )

    # --- after the commit -------------------------------------------------------------------------

    def committed(self, draft: Draft, lines: Lines) -> None:
        """Start what was handed over, stop what was fenced, publish what goes elsewhere."""
        if self._executor is not None:
            if draft.asked:
                self._executor.ask_to_stop(draft.asked)
            if draft.ended:
                self._executor.stop(draft.ended)
            if draft.works:
                self._executor.start(draft.works)
        if self._elsewhere is not None:
            self.lacks += self._elsewhere.committed(draft, lines)

    # --- afterwards -------------------------------------------------------------------------------

    def undo(self, draft: Draft, lines: Lines) -> None:
        """A commit was refused: what it would have started waits as before."""
        if self._executor is not None and draft.works:
            self._executor.hold(0)
        self._dequeue(draft.reprioritised)
        for stream in {*draft.seen, *(each for each, _ in draft.changed())}:
            line = lines.get(stream)
            if line is not None:
                self._enqueue(stream, line, draft.at)

    def stop(self, leases: Sequence[tuple[str, str]]) -> None:
        """Cancel attempts of this process, which count no longer."""
        if leases and self._executor is not None:
            self._executor.stop(leases)

    def look_again(self, lines: Lines, now: datetime) -> None:
        """This process serves what it did not serve before, though it may be on the bus already."""
        self._local, self._queued = Backlog(), set()
        if self._elsewhere is not None:
            self._elsewhere.remove(lambda _: True)
            self._elsewhere.withdraw(self._come_here(lines))
        for stream, line in lines.all():
            self._enqueue(stream, line, now)

    def _come_here(self, lines: Lines) -> list[str]:
        """What is on the bus and may be done here now."""
        assert self._elsewhere is not None  # noqa: S101 - the caller has looked
        return [
            run.id
            for _, line in lines.all()
            for run in line.live.values()
            if self._elsewhere.published(run.id) and self._here(_deed_of(line, run))
        ]

    def drop_partitions(self, partitions: Iterable[int]) -> None:
        """These belong to another owner now."""
        gone = frozenset(partitions)
        removed = self._local.remove(lambda entry: partition_of_stream(entry[3]) in gone)
        self._queued.difference_update(entry[2] for entry in removed)
        if self._elsewhere is not None:
            self._elsewhere.drop_partitions(gone)

    def _dequeue(self, ids: Collection[str]) -> None:
        """These are to be queued anew, by another urgency; what is on the bus stays there."""
        if not self._queued.isdisjoint(ids):
            removed = self._local.remove(lambda entry: entry[2] in ids)
            self._queued.difference_update(entry[2] for entry in removed)
        if self._elsewhere is not None and not self._elsewhere.known.isdisjoint(ids):
            self._elsewhere.remove(lambda entry: entry[2] in ids)


def _deed_of(line: Line, run: Execution) -> Deed | None:
    """What an execution does next; None if it waits for something else."""
    return stages.deed_of(line.definition_of(run), run.stage)
