"""The owner of partitions: it decides commands and instants, commits, and hands on.

One thread, no event loop: what has come in since the last commit and what is due now are decided
in memory, written in one commit, and only then answered and handed to executors. There is no
linger: it commits as soon as it is idle, and what arrives during a commit forms the next batch.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from horae_application import messages
from horae_application.checks import CheckRunner, Checks
from horae_application.creating import CreateTogether, Creation
from horae_application.dispatch import Dispatch
from horae_application.draft import Draft
from horae_application.lines import Broken, Lines, fold_execution
from horae_application.log import get_logger
from horae_application.messages import OK, Reply, refused
from horae_application.ownership import Ownership
from horae_application.ports import (
    AlreadyWritten,
    Batch,
    Clock,
    CommitUnknown,
    Crowded,
    EventStore,
    Fenced,
    LocalExecutor,
    StoredEvent,
    StoreError,
    StoreUnavailable,
    WorkBus,
)
from horae_application.quarantine import MAX_REASON, quarantine
from horae_application.receiving import MAX_AGE, Receiving, event_stream
from horae_application.room import Room
from horae_application.sweeping import streams_of
from horae_application.tailing import Tail
from horae_application.task import Answer, Task, refusal
from horae_application.tasks import (
    Desk,
    decided_by,
    key_stream,
)
from horae_application.waiting import Late
from horae_application.wall import RECHECK, Wall
from horae_domain import decider, firing
from horae_domain.codec import Undecodable, decode
from horae_domain.errors import IllegalState, Internal, Unavailable
from horae_domain.events import Event, ScheduleQuarantined
from horae_domain.execution import Status as RunStatus
from horae_domain.identity import is_external, partition_of_stream, schedule_stream
from horae_domain.instants import to_micros
from horae_domain.positions import Position
from horae_domain.retention import Retention
from horae_domain.schedule import Cause, Status, about

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
LINGER = 0.005
"""Seconds that outcomes may wait for company, where the engine has a thread of its own."""
BUSY = 600
"""Lines due a second from which on instants are taken together, `TICK` seconds apart."""
TICK = 0.004
CREATIONS = (messages.CreateSchedule, messages.ScheduleCommand)
"""If one changes nothing, it rests on the position of the first."""
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
        self._linger = linger
        self._held_since: float | None = None
        self._rate = 0.0
        self._counted_at = 0.0
        self.wall = Wall(clock, store)
        self.lines = Lines(store)
        self.room = Room(store)
        self.tail = None if store.single_process else Tail(store, self.lines.listening)
        self.dispatch = Dispatch(ownership, executor, bus, self.room)
        self.checks = Checks(checker)
        self._inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._again: list[Task] = []
        self._unknown: tuple[Draft, Batch, Sequence[Answer]] | None = None
        self._look = False
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
        self.max_event_age = MAX_AGE
        self.retention = Retention()
        """How long what has ended is kept before a sweep may erase it."""

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
        self._look = True
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
            self.store_error = str(error)
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
        if self._linger and (rest := self._company(tasks, micros)) > 0:
            self._again = tasks
            return rest
        fires = 0 if self.wall.held or not self.firing else self._at_once(MAX_DUE, tasks)
        due = self.lines.pop_due(micros, fires)
        late = self.lines.deadlines.pop_due(micros, fires - len(due))
        self._count(len(due) + len(late))
        draft = Draft(self.lines, at, self.room)
        try:
            answers = self._decide(draft, tasks, due, late)
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
            receiving = Receiving(draft, self.lines, {}, self.max_event_age, self._recover)
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

    def _decide(
        self, draft: Draft, tasks: Sequence[Task], due: Sequence[str], late: Sequence[Late]
    ) -> list[Answer]:
        mine, answers = self._mine(tasks)
        mine.sort(key=_sweeps)  # what else is asked for is decided before anything is erased
        loaded = self._load(mine, due, late)
        if not self._careful:
            self._bury(draft)
        for stream in due:
            self._settle(draft, stream)
        for each in late:
            self._expire(draft, each, loaded)
        receiving = Receiving(draft, self.lines, loaded, self.max_event_age, self._recover)
        desk = Desk(draft, loaded, self.lines.owner_of, self.lines.pulse, receiving, self.retention)
        for task in mine:
            if isinstance(task.command, CreateTogether):
                parts = [self._create(draft, desk, task, each) for each in task.command.items]
                answers.append(Answer(task, OK, {}, parts=parts))
                continue
            answers.append(self._answer(draft, desk, task))
        receiving.follow(Cause(draft.at))
        if self._look:
            self._look = False
            self.dispatch.look_again(self.lines, draft.at)
        self.dispatch.assign(draft)
        return answers

    def _answer(self, draft: Draft, desk: Desk, task: Task) -> Answer:
        about = self._stream_of(task)
        if about in self.lines.quarantined:
            return _buried(task)
        if about is not None:
            draft.partitions.add(partition_of_stream(about))
            self._recover(draft, about)
        elif event_stream(task) is not None:
            draft.partitions.add(next(iter(self.ownership.epochs)))
        return desk.decide(task)

    def _create(self, draft: Draft, desk: Desk, task: Task, one: Creation) -> Answer:
        """One of the creations of a task."""
        if one.partition not in self.ownership.epochs:
            return self._not_mine(task)
        if one.stream in self.lines.quarantined:
            return _buried(task)
        draft.partitions.add(one.partition)
        self._recover(draft, one.stream)
        return desk.create(task, one)

    def _settle(self, draft: Draft, stream: str) -> None:
        if draft.line(stream) is None or stream in self.lines.quarantined:
            return
        decision = draft.begin(stream)
        cause = Cause(draft.at)
        try:
            decider.recover(decision, self.ownership.owner, cause)
            firing.settle(decision, cause)
        except Exception as error:  # noqa: BLE001 - one schedule's trouble is its own
            decision = draft.begin(stream)
            if decision.require().schedule.status is Status.FAILED:
                self._quarantine(stream, error)
                return
            _log.exception("quarantined", stream=str(stream))
            quarantine(decision, error, cause)
        draft.accept(stream, decision)
        draft.seen.add(stream)

    def _expire(
        self, draft: Draft, late: Late, loaded: Mapping[str, Sequence[StoredEvent]]
    ) -> None:
        """Decide what follows if an execution has waited long enough for its confirmation."""
        id_, stream = late
        run = draft.waiting.get(id_) or fold_execution(loaded.get(id_, ()))
        if run is None or run.status is not RunStatus.WAITING:
            return
        if draft.line(stream) is None or stream in self.lines.quarantined:
            return
        decision = draft.begin(stream, run)
        decider.expire(decision, id_, Cause(draft.at))
        draft.accept(stream, decision)

    def _bury(self, draft: Draft) -> None:
        """Record the end of what cannot even be read."""
        for stream, broken in self.lines.unrecorded.items():
            about_ = about(broken.tenant, broken.id, Cause(draft.at))
            event = ScheduleQuarantined(reason=broken.reason, **about_)
            draft.bury(event, stream, broken.version)

    def _recover(self, draft: Draft, stream: str) -> None:
        if draft.line(stream) is not None and stream not in draft.recovered:
            draft.recovered.add(stream)
            decision = draft.begin(stream)
            decider.recover(decision, self.ownership.owner, Cause(draft.at))
            draft.accept(stream, decision)

    def _quarantine(self, stream: str, error: Exception) -> None:
        line = self.lines.get(stream)
        schedule = line.schedule if line is not None else None
        tenant, id_ = (schedule.tenant, schedule.id) if schedule is not None else ("", "")
        self.lines.quarantined[stream] = Broken(repr(error)[:MAX_REASON], tenant, id_)
        _log.error("quarantined", stream=str(stream), error=repr(error))

    # --- what is needed ---------------------------------------------------------------------------

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

    def _mine(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Answer]]:
        """Those that are decided here, and the answers of the others."""
        mine: list[Task] = []
        answers: list[Answer] = []
        for task in tasks:
            if self._owns(task):
                mine.append(task)
            else:
                answers.append(self._not_mine(task))
        return mine, answers

    def _owns(self, task: Task) -> bool:
        if isinstance(task.command, CreateTogether):
            return True  # each of them is looked at by itself
        return decided_by(self.ownership.epochs, task.request.tenant, task.command) is not None

    def _not_mine(self, task: Task) -> Answer:
        reply = refused(Unavailable("another engine owns this partition", moved=True))
        return Answer(task, reply.status, reply.body)

    def _stream_of(self, task: Task) -> str | None:
        id_ = task.command.schedule(task.request.tenant)
        if id_ is not None:
            return schedule_stream(task.request.tenant, id_)
        return self.lines.owner_of(task.command.execution or "")

    def _load(
        self, tasks: Sequence[Task], due: Sequence[str], late: Sequence[Late]
    ) -> dict[str, list[StoredEvent]]:
        streams = dict.fromkeys([*due, *(each.stream for each in late)])
        extra: dict[str, None] = dict.fromkeys(each.id for each in late)
        for task in tasks:
            several = dict.fromkeys(self._several(task))
            extra |= several
            if isinstance(task.command, CreateTogether):
                streams |= several
                continue
            key = key_stream(task)
            if key is not None:
                extra[key] = None
            if (limits := task.command.limited(task.request.tenant)) is not None:
                extra[limits] = None
            stream = self._stream_of(task)
            if stream is not None:
                streams[stream] = None
            elif (event := event_stream(task)) is not None:
                extra[event] = None
                concerned = self.lines.listening.concerned(task)
                streams |= dict.fromkeys(each.stream for each in concerned)
                extra |= dict.fromkeys(self.lines.waiting_of(concerned))
            elif (id_ := task.command.execution) is not None:
                extra[id_] = None
            if stream is not None and isinstance(task.command, CREATIONS):
                extra[stream] = None
        loaded = self.lines.load(streams, list(extra))
        second = self._second_look(tasks, loaded)
        if second:
            loaded |= self.lines.load(second[0], second[1])
        return loaded

    def _several(self, task: Task) -> list[str]:
        """The streams of a task that is about many."""
        command, epochs = task.command, self.ownership.epochs
        if isinstance(command, CreateTogether):
            return [each.stream for each in command.items if each.partition in epochs]
        if isinstance(command, messages.SweepSchedule):
            return streams_of(task.request.tenant, command)
        return []

    def _second_look(
        self,
        tasks: Sequence[Task],
        loaded: dict[str, list[StoredEvent]],
    ) -> tuple[list[str], list[str]] | None:
        """What is only known to be needed after the first look."""
        streams: list[str] = []
        extra: list[str] = []
        for task in tasks:
            command = task.command
            if isinstance(command, messages.TriggerSchedule):
                extra += self._triggered(task, command)
            about = command.execution
            if about is not None and (rows := loaded.get(about)):
                streams += _whose(rows)
        return (streams, extra) if streams or extra else None

    def _triggered(self, task: Task, command: messages.TriggerSchedule) -> list[str]:
        """The execution that a caller's key may already stand for."""
        tenant = task.request.tenant
        line = self.lines.get(schedule_stream(tenant, command.id))
        key = command.key or task.request.key
        if line is None or key is None:
            return []
        incarnation = line.schedule.incarnation
        return [decider.trigger_id(tenant, command.id, incarnation, key)]

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
            if line.settled:
                self.lines.drop([stream])
                self.lines.schedule(stream, None)
            else:
                self.lines.put(stream, line)
                self.lines.schedule(stream, line.wake_unless_ready(draft.at))
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
            self._refuse(tasks, f"the store is not available: {error}")
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
                self._quarantine(stream, error)
            self._answer_failed(tasks)
            due, tasks = (), ()
        for stream in due:
            self.lines.schedule(stream, draft.at)
        self.dispatch.undo(draft, self.lines)
        if self._unknown is not None:
            return  # their answers wait for the read-back
        if isinstance(error, StoreUnavailable):
            self._refuse(tasks, f"the store is not available: {error}")
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
        self._refuse([task for task in again if task.tries > TRIES], str(error))
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

    def _company(self, tasks: Sequence[Task], now: int) -> float:
        """Seconds that outcomes may wait for others, so that a commit carries several.

        Nobody waits for them, unless work waits for their slots, or something else is decided now.
        """
        wake = self.lines.next_wake()
        alone = all(isinstance(task.command, _PATIENT) for task in tasks)
        if not tasks or not alone or self.dispatch.waiting or (wake is not None and wake <= now):
            self._held_since = None
            return 0.0
        moment = self._clock.monotonic()
        self._held_since = self._held_since or moment
        rest = self._held_since + self._linger - moment
        if rest <= 0 or len(tasks) >= MAX_TASKS // 2:
            self._held_since = None
            return 0.0
        return rest if wake is None else min(rest, (wake - now) / 1_000_000)

    def _pause(self) -> float:
        next_look = min(self.ownership.next_tick, self.room.next_look)
        wakes = [next_look - self._clock.monotonic()]
        wake = self.next_wake()
        if self.wall.held:
            wakes.append(RECHECK)
        elif wake is not None and self.firing:
            wakes.append((wake - to_micros(self._clock.now())) / 1_000_000)
        pause = max(0.0, min(wakes))
        return max(pause, TICK) if self._linger and self._rate > BUSY else pause

    def _count(self, due: int) -> None:
        """Follow how many lines come due a second, over about a quarter of one."""
        moment = self._clock.monotonic()
        self._rate *= math.exp(-4 * max(0.0, moment - self._counted_at))
        self._rate += 4 * due
        self._counted_at = moment

    def _wait(self, seconds: float) -> None:
        try:
            task = self._inbox.get(timeout=min(seconds, 60.0))
        except queue.Empty:
            return
        if task is not None:
            self._again.append(task)


_PATIENT = (messages.ReportExecution, messages.HeartbeatExecution)
"""Commands for whose answer nobody waits."""


def _sweeps(task: Task) -> bool:
    return isinstance(task.command, messages.SweepSchedule)


def _buried(task: Task) -> Answer:
    return refusal(task, IllegalState("it is quarantined", state="failed"))


def _whose(rows: Sequence[StoredEvent]) -> list[str]:
    """The schedule's stream of an execution; none if that cannot be read."""
    if not rows:
        return []
    try:
        event = decode(rows[0].name, rows[0].state)
    except Undecodable:
        return []
    return [schedule_stream(event.tenant, event.schedule_id)]
