"""The owner of partitions: it decides commands and instants, commits, and hands on.

One thread, no event loop: what has come in since the last commit and what is due now are decided
in memory, written in one commit, and only then answered and handed to executors. It commits as
soon as it is idle, and what arrives during a commit forms the next batch; only outcomes wait a few
milliseconds for company.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from horae_application.checks import CheckRunner, Checks
from horae_application.creating import CreateTogether
from horae_application.deciding import Deciding
from horae_application.dispatch import Dispatch
from horae_application.draft import Draft
from horae_application.lines import Lines
from horae_application.log import get_logger
from horae_application.messages import OK, Reply, refused
from horae_application.ownership import Ownership
from horae_application.pace import Pace
from horae_application.ports import (
    AlreadyWritten,
    Batch,
    Clock,
    CommitUnknown,
    Crowded,
    EventStore,
    Fenced,
    LocalExecutor,
    StoreError,
    StoreUnavailable,
    WorkBus,
)
from horae_application.receiving import Receiving
from horae_application.room import Room
from horae_application.tailing import Tail
from horae_application.task import Answer, Task
from horae_application.wall import RECHECK, Wall
from horae_domain.errors import Internal, Unavailable, reason_of
from horae_domain.events import Event
from horae_domain.identity import is_external
from horae_domain.instants import to_micros
from horae_domain.ledger import Line
from horae_domain.positions import Position
from horae_domain.schedule import Cause

MAX_TASKS = 512
"""Commands decided in one commit."""
MAX_DUE = 1_000
"""Lines that are due decided in one commit."""
INBOX = 20_000
"""Commands waiting, unless told; more are refused as unavailable, so that memory stays bounded."""
TRIES = 5
"""How often a command is decided again after a commit that was refused for another's sake."""
PREFETCH = 200
"""Lines brought into memory in one idle round."""
CAREFUL = 1_000
"""Rounds that decide one thing each, after one that failed for no reason of the store's."""
STORE_PAUSE = 0.2
"""Seconds between tries while the store cannot be reached."""

_log = get_logger("horae.engine")


class Committed(NamedTuple):
    """Events that have just become durable, for whoever builds views in this process."""

    positions: Sequence[int]
    streams: Sequence[str]
    versions: Sequence[int]
    events: Sequence[Event]


Deliver = Callable[[Sequence[tuple[Callable[[Reply], None], Reply]]], None]
"""Calls each `done` with its reply; the composition root moves it to the event loop."""


def deliver_here(replies: Sequence[tuple[Callable[[Reply], None], Reply]]) -> None:
    """Call them in the engine's own thread."""
    for done, reply in replies:
        done(reply)


class Engine:
    """Decides for the partitions that it owns.

    `step` does one round and is all there is: tests call it under a clock that they move, `run`
    calls it in a thread.
    """

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        ownership: Ownership,
        *,
        executor: LocalExecutor | None = None,
        bus: WorkBus | None = None,
        checker: CheckRunner | None = None,
        deliver: Deliver = deliver_here,
        linger: float = 0.0,
        listener: Callable[[Committed], None] | None = None,
    ) -> None:
        self._store = store
        self._identity = store.identity
        self._clock = clock
        self.ownership = ownership
        self._deliver = deliver
        self._listener = listener
        self.wall = Wall(clock, store)
        self.lines = Lines(store)
        self.room = Room(store)
        self.tail = None if store.single_process else Tail(store, self.lines.listening)
        self.dispatch = Dispatch(ownership, executor, bus, self.room)
        self.deciding = Deciding(self.lines, ownership, self.dispatch)
        self.checks = Checks(checker)
        self._pace = Pace(clock, self.lines, self.dispatch, linger)
        self._inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._again: list[Task] = []
        self._unknown: tuple[Draft, Batch, Sequence[Answer]] | None = None
        self._clashes = 0
        self._careful = 0
        self._head = 0
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self.firing = True
        """False while what is due waits until somebody lets it fire."""
        self.store_error: str | None = None
        self.committed = 0
        self.max_waiting = INBOX

    # --- from outside -----------------------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Ask for a decision; from any thread."""
        if self._inbox.qsize() >= self.max_waiting or self._stopping.is_set():
            error = Unavailable("the engine takes no more commands at the moment")
            self._deliver([(task.done, refused(error))])
            return
        self._inbox.put(task)
        if self._closed.is_set():  # it has come too late for the thread
            self._refuse(self._drain(), "the engine has stopped")

    def wake(self) -> None:
        """Make a waiting engine look around."""
        self._inbox.put(None)

    def look_again(self) -> None:
        """This process serves more handlers than before; from any thread."""
        self.deciding.look = True
        self.wake()

    def run(self) -> None:
        """The thread's body: rounds until `stop`, then the partitions are given up."""
        while not self._stopping.is_set():
            pause = self.round()
            if pause > 0:
                self._wait(pause)
        self._close()

    def round(self) -> float:
        """A `step` that never raises; what failed is asked again after a pause."""
        try:
            return self.step()
        except StoreError as error:
            self.store_error = error.message
            _log.warning("store unavailable", error=str(error))
        except Exception:  # noqa: BLE001 - recorded, and all is read again
            _log.exception("the engine's round failed")
            self._forget()
        return STORE_PAUSE

    def stop(self) -> None:
        """End `run` after the present round."""
        self._stopping.set()
        self.wake()

    def now(self) -> datetime:
        """What the clock says; decisions go by a time that is checked besides."""
        return self._clock.now()

    def next_wake(self) -> int | None:
        """When the owner next has something to do by itself, in microseconds."""
        wakes = (self.lines.next_wake(), self.room.opens_at)
        return min((each for each in wakes if each is not None), default=None)

    @property
    def behind(self) -> bool:
        """True while what is due has not begun, for want of a slot or of room; from any thread."""
        return self.dispatch.waiting or self.lines.deadlines.held

    @property
    def store(self) -> EventStore:
        """Where it commits; what needs no owner may be asked of it from any thread."""
        return self._store

    def head(self) -> str:
        """Where the log ends now, whoever has written it; it asks the store."""
        return self.position(self._store.head())

    def position(self, number: int) -> str:
        """The opaque form of a position."""
        return str(Position(self._store.identity, 0, number))

    # --- one round --------------------------------------------------------------------------------

    def step(self) -> float:
        """Decide and commit what is there; seconds until there is something to do by itself."""
        if self._store.identity != self._identity:
            self._begin_anew()
        self._own()
        if self._unknown is not None:
            self._look_back()
        at = self._now()
        micros = to_micros(at)
        self.lines.refill(micros)
        deadline = self.lines.deadlines.next()
        if self.tail is not None and deadline is not None and deadline <= micros:
            self.tail.news = True  # what came before a deadline is known before it is decided
        self._overhear(at)
        tasks = self._drain()
        if (rest := self._pace.company(tasks, micros)) > 0:
            self._again = tasks
            return rest
        fires = 0 if self.wall.held or not self.firing else self._at_once(MAX_DUE, tasks)
        due = self.lines.pop_due(micros, fires)
        late = self.lines.deadlines.pop_due(micros, fires - len(due))
        self._pace.count(len(due) + len(late))
        draft = Draft(self.lines, at, self.room)
        try:
            answers = self.deciding.decide(draft, tasks, due, late, careful=self._careful > 0)
            positions = self._append(draft, answers)
        except Exception as error:
            for each in late:
                self.lines.deadlines.note(each, micros)
            self._undo(draft, due, tasks, error)
            if isinstance(error, Crowded):
                return 0.0
            raise
        self._accept(draft, answers, positions)
        more = self.lines.prefetch(PREFETCH) or draft.settings
        self.lines.trim()
        return 0.0 if more or self._again or self.lines.unrecorded else self._pause()

    def _overhear(self, at: datetime) -> None:
        """Decide on what other owners have recorded, before anything else is."""
        while self.tail is not None and (page := self.tail.page()) is not None:
            draft = Draft(self.lines, at, self.room)
            receiving = Receiving(
                draft, self.lines, {}, self.deciding.max_event_age, self.deciding.recover
            )
            cause = Cause(at)
            try:
                for row in page.rows:
                    receiving.overhear(row, page.since, cause)
                receiving.follow(cause)
                self.dispatch.assign(draft)
                positions = self._append(draft, ())
            except Exception as error:
                self._undo(draft, (), (), error)
                if isinstance(error, Crowded):
                    continue
                raise
            self.tail.passed(page)
            self._accept(draft, (), positions)

    def hear(self) -> None:
        """There may be more in the log; from any thread."""
        if self.tail is not None:
            self.tail.news = True
            self.wake()

    # --- what has come in -------------------------------------------------------------------------

    def _drain(self) -> list[Task]:
        limit = self._at_once(MAX_TASKS)
        tasks, self._again = self._again[:limit], self._again[limit:]
        while len(tasks) < limit:
            try:
                task = self._inbox.get_nowait()
            except queue.Empty:
                break
            if task is None:
                continue
            tasks.append(task)
            if isinstance(task.command, CreateTogether):
                break  # which is as much as many others
        return tasks

    def _at_once(self, limit: int, tasks: Sequence[Task] = ()) -> int:
        """How many things one commit may decide: one alone while it is not known what fails."""
        return limit if not self._careful else 0 if tasks else 1

    # --- commit -----------------------------------------------------------------------------------

    def _append(self, draft: Draft, answers: Sequence[Answer]) -> Sequence[int]:
        """Write what was decided; the positions of its events."""
        if not draft.events:
            return ()
        batch = draft.batch(self.ownership.epochs)
        places = self.tail.rows(draft.partitions) if self.tail is not None else []
        batch = batch._replace(ledger=[*batch.ledger, *places])
        try:
            return self._store.append(batch)
        except CommitUnknown:
            self._unknown = (draft, batch, answers)
            return self._read_back()

    def _accept(self, draft: Draft, answers: Sequence[Answer], positions: Sequence[int]) -> None:
        """What follows a commit: memory, answers, work, views."""
        self.store_error = None
        if positions:
            self._head = positions[-1]
            if self.tail is not None:
                self.tail.own(positions)
            self.committed += len(positions)
            self._clashes = 0
        self._careful = max(0, self._careful - 1)
        self.lines.listening.apply(draft.hearing)
        for stream in draft.buried:
            self.lines.unrecorded.pop(stream, None)
        for stream, line in draft.changed():
            self._remember(draft, stream, line)
        self.lines.drop(draft.erased)
        for stream in draft.unchanged():
            if (seen := self.lines.listened(stream)) is not None:
                self.lines.schedule(stream, seen.wake_unless_ready(draft.at))
        self.lines.follow(draft.waiting)
        if answers:
            self._deliver([self._reply(answer, positions) for answer in answers])
        self.room.committed(draft.uses, draft.settings.values(), to_micros(draft.at))
        self.dispatch.committed(draft, self.lines)
        self.room.wait(self.dispatch.lacks, to_micros(draft.at))
        self.checks.answered(answer.task for answer in answers)
        self.checks.committed(draft, self.lines)
        if positions and self._listener is not None:
            self._listener(Committed(positions, draft.streams, draft.versions, draft.events))

    def _remember(self, draft: Draft, stream: str, line: Line) -> None:
        self.lines.recall(stream, line)
        if line.settled:
            self.lines.drop([stream])
            self.lines.schedule(stream, None)
            return
        wake = line.wake_unless_ready(draft.at)
        if stream in draft.passing and self.lines.can_pass(stream, line, wake):
            return
        self.lines.put(stream, line)
        self.lines.schedule(stream, wake)

    def _reply(
        self, answer: Answer, positions: Sequence[int]
    ) -> tuple[Callable[[Reply], None], Reply]:
        if not answer.parts:
            return answer.task.done, Reply(answer.status, self._body(answer, positions))
        results = [self._body(each, positions) for each in answer.parts]
        return answer.task.done, Reply(answer.status, {"results": results})

    def _body(self, answer: Answer, positions: Sequence[int]) -> dict[str, Any]:
        number = answer.position
        if answer.event is not None:
            number = positions[answer.event]
        position = self.position(self._head if number is None else number)
        return {"ok": answer.status == OK, **answer.body, "position": position}

    def _read_back(self) -> Sequence[int]:
        """Find out whether a commit of unknown outcome happened: the positions of its events.

        Raises:
            StoreUnavailable: it did not, or that could not be read; then it is still unknown.
        """
        assert self._unknown is not None  # noqa: S101 - the caller has looked
        draft, batch, _ = self._unknown
        stored = self._store.load(list(dict.fromkeys(draft.streams)))
        self._unknown = None
        found = {(row.stream, row.version): row for rows in stored.values() for row in rows}
        positions = []
        for event in batch.events:
            row = found.get((event.stream, event.version))
            if row is None or row.state != event.state:
                raise StoreUnavailable("the commit did not happen")
            positions.append(row.position)
        return positions

    def _look_back(self) -> None:
        """Read back what could not be read at once; nothing is decided before it is known."""
        assert self._unknown is not None  # noqa: S101 - the caller has looked
        draft, batch, answers = self._unknown
        try:
            positions = self._read_back()
        except StoreError as error:
            tasks = self._drain()
            if self._unknown is None:
                tasks += [answer.task for answer in answers]
            self._refuse(tasks, f"the store is not available: {error.message}")
            raise
        owned = self.ownership.epochs
        if all(owned.get(each) == epoch for each, epoch in batch.epochs.items()):
            self._accept(draft, answers, positions)
        else:  # the answers are true, but the work is somebody else's by now
            self._deliver([self._reply(answer, positions) for answer in answers])
            self._forget()

    def _undo(
        self, draft: Draft, due: Sequence[str], tasks: Sequence[Task], error: Exception
    ) -> None:
        """After a refused commit: what was due is due still, the commands are asked again."""
        self._clashes += isinstance(error, AlreadyWritten)
        strange = not isinstance(error, StoreError)
        if draft.buried and (strange or isinstance(error, AlreadyWritten)):
            self.lines.unrecorded.clear()  # it stays in memory; the next start tries again
        if self._careful and (strange or self._clashes > TRIES):
            for stream in due:
                self.deciding.quarantine(stream, error)
            self._answer_failed(tasks)
            due, tasks = (), ()
        for stream in due:
            self.lines.schedule(stream, draft.at)
        self.dispatch.undo(draft, self.lines)
        if self._unknown is not None:
            return  # their answers wait for the read-back
        if isinstance(error, StoreUnavailable):
            self._refuse(tasks, f"the store is not available: {error.message}")
            return
        if isinstance(error, Crowded):
            self.room.crowded(error.keys)
            self._again = [*tasks, *self._again]
            return
        if isinstance(error, Fenced):
            self._lose(error.partitions)
        elif not (isinstance(error, AlreadyWritten) and is_external(error.stream or "")):
            self._forget()  # but for an event that another engine has recorded at the same time
            self._careful = CAREFUL if strange or self._clashes > 1 else self._careful
        again = [task._replace(tries=task.tries + 1) for task in tasks]
        self._refuse([task for task in again if task.tries > TRIES], reason_of(error))
        self._again += [task for task in again if task.tries <= TRIES]

    def _answer_failed(self, tasks: Sequence[Task]) -> None:
        reply = refused(Internal("the engine could not decide this command"))
        if tasks:
            self._deliver([(task.done, reply) for task in tasks])

    def _refuse(self, tasks: Sequence[Task], reason: str) -> None:
        reply = refused(Unavailable(reason))
        if tasks:
            self._deliver([(task.done, reply) for task in tasks])

    def _forget(self) -> None:
        """Drop all that is in memory; it is read again from the store."""
        partitions = self.lines.partitions
        self.room.forget()
        self.lines.drop_partitions(partitions)
        self.dispatch.drop_partitions(partitions)
        self.checks.drop_partitions(partitions)
        self.lines.add_partitions(partitions, to_micros(self._now()))

    # --- ownership --------------------------------------------------------------------------------

    def _own(self) -> None:
        if self.tail is not None and self._clock.monotonic() >= self.ownership.next_tick:
            self.tail.news = True  # whoever tells of them may have missed some
        change = self.ownership.tick(self._clock.monotonic(), self.lines.busy_partitions)
        if change.lost:
            self._lose(change.lost)
        if change.won:
            if self.tail is not None:
                self.tail.begin(change.won)
            self.lines.add_partitions(change.won, to_micros(self._now()))
            self._head = max(self._head, self._store.head())
        self.room.look(self.ownership.owner, self._clock.monotonic())

    def _begin_anew(self) -> None:
        """Another server holds the history now: what is known of the former one may not hold there."""
        self._identity = self._store.identity
        _log.warning("the store was replaced", identity=self._identity)
        self._head = 0
        self._lose(self.ownership.begin_again().lost)

    def _lose(self, partitions: frozenset[int]) -> None:
        _log.warning("partitions lost", partitions=sorted(partitions))
        self.ownership.lost(partitions)
        if self.tail is not None:
            self.tail.drop(partitions)
        self.dispatch.stop(self.lines.running_here(partitions))
        self.lines.drop_partitions(partitions)
        self.lines.forgive(partitions)
        self.dispatch.drop_partitions(partitions)
        self.checks.drop_partitions(partitions)

    def _close(self) -> None:
        self._closed.set()
        if self._unknown is not None:
            self._refuse([answer.task for answer in self._unknown[2]], "its commit is not known")
        while tasks := self._drain():
            self._refuse(tasks, "the engine stops")
        try:
            self.ownership.leave()
        except StoreError as error:
            _log.warning("could not give up the partitions", error=str(error))

    # --- time -------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """The time to decide by; what was timed by a clock that has been set since moves with it."""
        at, moved = self.wall.look()
        if moved:
            self.lines.shift(moved)
        return at

    def _pause(self) -> float:
        next_look = min(self.ownership.next_tick, self.room.next_look)
        wakes = [next_look - self._clock.monotonic()]
        wake = self.next_wake()
        if self.wall.held:
            wakes.append(RECHECK)
        elif wake is not None and self.firing:
            wakes.append((wake - to_micros(self._clock.now())) / 1_000_000)
        return self._pace.until(max(0.0, min(wakes)))

    def _wait(self, seconds: float) -> None:
        try:
            task = self._inbox.get(timeout=min(seconds, 60.0))
        except queue.Empty:
            return
        if task is not None:
            self._again.append(task)
