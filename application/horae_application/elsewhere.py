"""Work for executors in other processes: it waits here, by urgency, turns and limits.

What is on the bus is taken in the order in which it came there. So no more is published than
executors have room for, and whatever makes room lets the next one go.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, assert_never

from horae_application.attempt import work_of
from horae_application.backlog import Entry
from horae_application.crews import Crews, Pool
from horae_application.draft import Draft
from horae_application.lines import Lines
from horae_application.ports import Pulled, WorkBus
from horae_application.room import Lack, Room, Uses
from horae_application.work import HTTP_CALLS, PROCESSES, SCHEDULES, SERVICE_COMMANDS, Work
from horae_domain.actions import (
    CommandAction,
    Deed,
    FunctionAction,
    HttpAction,
    ProcessAction,
    QueueAction,
    ScheduleAction,
)
from horae_domain.execution import Execution, Status
from horae_domain.identity import partition_of_stream
from horae_domain.instants import to_micros
from horae_domain.lanes import Lane
from horae_domain.ledger import Line

Destination = tuple[str, str, str, str]
"""Tenant, the queue that it counts for, `function` or `queue`, and the name by which it is pulled."""
Place = tuple[str, Lane]
"""A schedule's stream and a lane of it: what a limit of concurrency holds for."""

NO_USES = Uses()
"""Of what is published: it begins in a commit to come."""


class Sent(NamedTuple):
    """An execution that is on the bus."""

    stream: str
    destination: Destination


class Round:
    """What is published after one commit."""

    def __init__(self, lines: Lines, now: datetime, claims: Counter[Pool]) -> None:
        self.lines = lines
        self.now = now
        self.at = to_micros(now)
        self.claims = claims
        """What is on the bus for each pool."""
        self.rooms: dict[Pool, int] = {}
        """How much may be."""
        self.works: list[Work] = []
        self.lacks: list[tuple[Lack, int]] = []
        self.closed: set[Destination] = set()
        """Where a limit has no room."""
        self.full: set[Place] = set()


class Elsewhere:
    """Ready executions that this process does not do itself."""

    def __init__(self, bus: WorkBus, room: Room) -> None:
        self._bus = bus
        self._room = room
        self._crews = Crews()
        self._waiting: dict[Destination, list[Entry]] = {}
        self._published: dict[str, Sent] = {}
        self._out: Counter[Destination] = Counter()
        self.known: set[str] = set()
        """Executions that wait here or are on the bus."""

    def push(self, run: Execution, action: Deed, entry: Entry) -> None:
        """Let an execution wait."""
        heapq.heappush(self._waiting.setdefault(_destination(run, action), []), entry)
        self.known.add(run.id)

    def published(self, id_: str) -> bool:
        """True if an execution is on the bus."""
        return id_ in self._published

    # --- after the commit -------------------------------------------------------------------------

    def committed(self, draft: Draft, lines: Lines) -> list[tuple[Lack, int]]:
        """Note who has taken what, and publish what there is room for.

        Returns what the most urgent of those lack that wait for a limit, and how urgent they are.
        """
        self._follow(draft)
        if not self._waiting:
            return []
        self._crews.hear(self._bus.hands())
        round_ = Round(lines, draft.at, self._claims(to_micros(draft.at)))
        self._publish(round_)
        if round_.works:
            self._bus.publish(round_.works)
        return round_.lacks

    def _follow(self, draft: Draft) -> None:
        for stream in draft.unchanged():
            self._find(stream, draft.line(stream))
        if not self._published and not self._crews:
            return
        done, at = [], to_micros(draft.at)
        for stream, line in draft.changed():
            for id_ in draft.runs_of(stream):
                run = line.live.get(id_)
                if id_ in self._published and (run is None or not run.ready(draft.at)):
                    done.append(id_)
                    if run is not None and run.status is Status.RUNNING:
                        self._crews.count(_pulled(self._published[id_].destination), at)
                elif id_ not in self._crews:
                    continue
                self._crews.note(id_, stream, run)
        self.withdraw(done)

    def _find(self, stream: str, line: Line | None) -> None:
        """See what runs elsewhere of a schedule that comes from a former owner."""
        for run in line.live.values() if line is not None else ():
            if run.status is Status.RUNNING and run.id not in self._crews:
                self._crews.note(run.id, stream, run)

    def _claims(self, at: int) -> Counter[Pool]:
        """What is on the bus for each pool, without what a limit keeps from beginning."""
        claims: Counter[Pool] = Counter()
        for destination, count in self._out.items():
            tenant, queue, *_ = destination
            if self._room.lack(tenant, queue, NO_USES, at) is None:
                claims[self._crews.pool(_pulled(destination))] += count
        return claims

    def _publish(self, round_: Round) -> None:
        """The most urgent of those whose turn it is, while executors have room."""
        pools: dict[Pool, list[Destination]] = {}
        for each in self._waiting:
            pools.setdefault(self._crews.pool(_pulled(each)), []).append(each)
        ready: list[tuple[Entry, Destination, Pool]] = []
        for pool, places in pools.items():
            self._next(pool, places, round_, ready)
        while ready:
            _, destination, pool = heapq.heappop(ready)
            if self._has_room(pool, round_):
                self._offer(destination, pool, round_)
                self._next(pool, pools[pool], round_, ready)

    def _has_room(self, pool: Pool, round_: Round) -> bool:
        """True if there is less on the bus for a pool than may be."""
        if pool not in round_.rooms:
            round_.rooms[pool] = self._crews.room(pool, round_.at)
        claims = sum(round_.claims[each] for each in self._crews.rivals(pool))
        return claims < round_.rooms[pool]

    def _next(
        self,
        pool: Pool,
        places: Iterable[Destination],
        round_: Round,
        ready: list[tuple[Entry, Destination, Pool]],
    ) -> None:
        """Add what is a pool's turn to what is ready."""
        turns = self._crews.turns(pool)
        found = [
            (turns.of(each[0]), heap[0], each)
            for each in places
            if (heap := self._waiting.get(each)) and each not in round_.closed
        ]
        if found:
            _, entry, destination = min(found)
            heapq.heappush(ready, (entry, destination, pool))

    def _offer(self, destination: Destination, pool: Pool, round_: Round) -> None:
        """Publish the first that waits for a destination, unless something is in its way."""
        waiting = self._waiting[destination]
        tenant, queue, *_ = destination
        out, head = self._out[destination], waiting[0][0]
        lack = self._room.lack(tenant, queue, NO_USES, round_.at, head=head, out=out)
        if lack is not None:
            round_.lacks.append((lack, head))
            round_.closed.add(destination)
            return
        _, _, id_, stream = heapq.heappop(waiting)
        if not waiting:
            del self._waiting[destination]
        self.known.discard(id_)
        line = round_.lines.get(stream)
        run = line.live.get(id_) if line else None
        if line is None or run is None or not run.ready(round_.now):
            return
        place = stream, line.lane_of(run)
        if place in round_.full or not self._fits(line, place[1]):
            round_.full.add(place)
            return
        round_.works.append(work_of(line, run))
        self.known.add(id_)
        self._published[id_] = Sent(stream, destination)
        self._out[destination] += 1
        round_.claims[pool] += 1
        self._crews.turns(pool).served(tenant, self._room.weight(tenant))

    def _fits(self, line: Line, lane: Lane) -> bool:
        """True if less runs or is published of a lane than may run at once."""
        limit = line.definition.limit
        if limit is None:
            return True
        out = sum(
            each.status is Status.RUNNING or each.id in self._published
            for each in line.unfinished(lane)
        )
        return out < limit

    # --- afterwards -------------------------------------------------------------------------------

    def withdraw(self, ids: Sequence[str]) -> None:
        """These need nobody on the bus any more."""
        for id_ in ids:
            self.known.discard(id_)
            destination = self._published.pop(id_).destination
            self._out[destination] -= 1
            if not self._out[destination]:
                del self._out[destination]
        if ids:
            self._bus.withdraw(ids)

    def remove(self, gone: Callable[[Entry], bool]) -> None:
        """Let these wait no more."""
        waiting, self._waiting = self._waiting, {}
        for destination, entries in waiting.items():
            self.known.difference_update(entry[2] for entry in entries if gone(entry))
            if kept := [entry for entry in entries if not gone(entry)]:
                heapq.heapify(kept)
                self._waiting[destination] = kept

    def drop_partitions(self, gone: Collection[int]) -> None:
        """These belong to another owner now."""
        self.remove(lambda entry: partition_of_stream(entry[3]) in gone)
        self.withdraw(
            [
                id_
                for id_, sent in self._published.items()
                if partition_of_stream(sent.stream) in gone
            ]
        )
        self._crews.drop_partitions(gone)


def _pulled(destination: Destination) -> Pulled:
    """By what work for a destination is pulled."""
    tenant, _, kind, name = destination
    return tenant, kind, name


def _destination(run: Execution, action: Deed) -> Destination:
    match action:
        case QueueAction(queue=name):
            return run.tenant, run.queue, "queue", name
        case FunctionAction(name=name):
            pulled = name
        case ProcessAction():
            pulled = PROCESSES
        case HttpAction():
            pulled = HTTP_CALLS
        case ScheduleAction():
            pulled = SCHEDULES
        case CommandAction():
            pulled = SERVICE_COMMANDS
        case _:
            assert_never(action)
    return run.tenant, run.queue, "function", pulled
