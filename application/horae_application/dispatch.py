"""Who does the work: executions that are ready, handed out by urgency.

What waits, waits here, in the owner, so that priority and cancellation still work; the local
executor gets as much as it has free slots, the bus a bounded amount.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_application.backlog import Backlog, Entry
from horae_application.draft import Draft
from horae_application.lines import Lines
from horae_application.ownership import Ownership
from horae_application.ports import LocalExecutor, WorkBus
from horae_application.room import Lack, Room, Uses
from horae_application.work import HTTP_CALLS, PROCESSES, SCHEDULES, Work
from horae_domain import decider, stages, waits
from horae_domain.actions import (
    CommandAction,
    Deed,
    FunctionAction,
    HttpAction,
    ProcessAction,
    QueueAction,
    ScheduleAction,
)
from horae_domain.definition import Definition
from horae_domain.durations import format_duration
from horae_domain.execution import Execution, Status
from horae_domain.identity import partition_of_stream
from horae_domain.instants import format_instant, parse_instant, to_micros
from horae_domain.lanes import Lane
from horae_domain.ledger import Line
from horae_domain.schedule import Cause
from horae_domain.tracing import traceparent_of
from horae_domain.triggers import CronTrigger, IntervalTrigger, RruleTrigger

OUTSTANDING = 1_000
"""Executions published on the bus at once for one queue or function, so that one that nobody serves
holds up no other; the rest waits here."""

Destination = tuple[str, str, str, str]
"""Tenant, the queue that it counts for, type of action, and the name of the queue or function."""
Place = tuple[str, Lane]
"""A schedule's stream and a lane of it: what a limit of concurrency holds for."""


NO_USES = Uses()
"""Of what is published: it begins in a commit to come."""


class Sent(NamedTuple):
    """An execution that is on the bus."""

    stream: str
    destination: Destination


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
        self._bus = bus
        self._local = Backlog()
        self._remote: dict[Destination, list[Entry]] = {}
        self._queued: set[str] = set()
        self._published: dict[str, Sent] = {}
        self._out: Counter[Destination] = Counter()
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
            if run.id in self._queued or run.id in self._published or not run.ready(now):
                continue
            if busy and line.lane_of(run) in busy:
                continue
            action = _deed_of(line, run)
            if action is None:
                continue
            entry = (run.urgency, to_micros(run.due), run.id, stream)
            if self._here(action):
                self._local.push((run.tenant, run.queue), entry)
            elif self._bus is not None:
                heapq.heappush(self._remote.setdefault(_destination(run, action), []), entry)
            else:
                continue
            self._queued.add(run.id)

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
        if self._bus is not None:
            self._publish(draft, lines)

    def _publish(self, draft: Draft, lines: Lines) -> None:
        assert self._bus is not None  # noqa: S101 - the caller has looked
        done = []
        for stream, line in draft.changed():
            for id_ in draft.runs_of(stream):
                run = line.live.get(id_)
                if id_ in self._published and (run is None or not run.ready(draft.at)):
                    done.append(id_)
        self._withdraw(done)
        works = [
            work for each in list(self._remote) for work in self._admitted(each, lines, draft.at)
        ]
        if works:
            self._bus.publish(works)

    def _admitted(self, destination: Destination, lines: Lines, now: datetime) -> list[Work]:
        """What may be published now of the work that waits for a destination."""
        works: list[Work] = []
        waiting = self._remote[destination]
        full: set[Place] = set()
        tenant, queue, *_ = destination
        while waiting and self._out[destination] < OUTSTANDING:
            out, head = self._out[destination], waiting[0][0]
            lack = self._room.lack(tenant, queue, NO_USES, to_micros(now), head=head, out=out)
            if lack is not None:
                self.lacks.append((lack, head))
                return works
            _, _, id_, stream = heapq.heappop(waiting)
            self._queued.discard(id_)
            found = lines.get(stream)
            run = found.live.get(id_) if found else None
            if found is None or run is None or not run.ready(now):
                continue
            place = stream, found.lane_of(run)
            if place in full or not self._has_room(found, place[1]):
                full.add(place)
                continue
            works.append(work_of(found, run))
            self._published[id_] = Sent(stream, destination)
            self._out[destination] += 1
        if not waiting:
            del self._remote[destination]
        return works

    def _withdraw(self, ids: Sequence[str]) -> None:
        """These need nobody on the bus any more."""
        for id_ in ids:
            destination = self._published.pop(id_).destination
            self._out[destination] -= 1
            if not self._out[destination]:
                del self._out[destination]
        if ids and self._bus is not None:
            self._bus.withdraw(ids)

    def _has_room(self, line: Line, lane: Lane) -> bool:
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
        self._local, self._remote, self._queued = Backlog(), {}, set()
        back = [
            run.id
            for _, line in lines.all()
            for run in line.live.values()
            if run.id in self._published and self._here(_deed_of(line, run))
        ]
        self._withdraw(back)
        for stream, line in lines.all():
            self._enqueue(stream, line, now)

    def drop_partitions(self, partitions: Iterable[int]) -> None:
        """These belong to another owner now."""
        gone = frozenset(partitions)
        self._remove(lambda entry: partition_of_stream(entry[3]) in gone)
        self._withdraw(
            [
                id_
                for id_, sent in self._published.items()
                if partition_of_stream(sent.stream) in gone
            ]
        )

    def _dequeue(self, ids: Collection[str]) -> None:
        """These are to be queued anew, by another urgency; what is on the bus stays there."""
        if not self._queued.isdisjoint(ids):
            self._remove(lambda entry: entry[2] in ids)

    def _remove(self, gone: Callable[[Entry], bool]) -> None:
        self._queued.difference_update(entry[2] for entry in self._local.remove(gone))
        remote = {each: self._without(entries, gone) for each, entries in self._remote.items()}
        self._remote = {each: entries for each, entries in remote.items() if entries}

    def _without(self, entries: list[Entry], gone: Callable[[Entry], bool]) -> list[Entry]:
        kept = []
        for entry in entries:
            if gone(entry):
                self._queued.discard(entry[2])
            else:
                kept.append(entry)
        heapq.heapify(kept)
        return kept


def _deed_of(line: Line, run: Execution) -> Deed | None:
    """What an execution does next; None if it waits for something else."""
    return stages.deed_of(line.definition_of(run), run.stage)


def _destination(run: Execution, action: Deed) -> Destination:
    match action:
        case QueueAction(queue=name) | FunctionAction(name=name):
            return run.tenant, run.queue, action.type, name
        case ProcessAction():
            return run.tenant, run.queue, action.type, PROCESSES
        case HttpAction():
            return run.tenant, run.queue, action.type, HTTP_CALLS
        case ScheduleAction():
            return run.tenant, run.queue, action.type, SCHEDULES
        case CommandAction(service=service, command=command):
            return run.tenant, run.queue, action.type, f"{service}.{command}"
        case _:
            assert_never(action)


def work_of(line: Line, run: Execution) -> Work:
    """One attempt of an execution for whoever does it: the one handed over, or the next."""
    definition = line.definition_of(run)
    command = stages.command_of(definition, run)
    assert command is not None  # noqa: S101 - nothing else is handed out
    running = run.status is Status.RUNNING
    limit, silence = definition.timeout.start_to_close, definition.timeout.heartbeat
    attempt = run.attempt if running else run.attempt + 1
    return Work(
        execution_id=run.id,
        schedule_id=run.schedule_id,
        tenant=run.tenant,
        attempt=attempt,
        lease=run.lease if running else f"{attempt}.1",
        due=run.due,
        action=command.action.model_dump(mode="json"),
        payload=command.payload,
        stage=command.stage,
        reason=run.because.reason if run.because else None,
        error=run.because.error if run.because else {},
        results=run.results,
        confirmations=[msgspec.to_builtins(each) for each in run.confirmations],
        polls=run.polls,
        waited=run.waited,
        wait_timeout=waits.limit(definition, run),
        queue=run.queue,
        priority=run.priority,
        revision=run.revision,
        run_number=run.run_number,
        trigger=_trigger_of(definition, run),
        timeout=limit.total_seconds() if limit is not None else None,
        heartbeat=silence.total_seconds() if silence is not None else None,
        next_due=line.fires_at,
        cooldown_until=line.cooldown_until,
        conditions=run.conditions,
        moved_to=run.moved_to,
        correlation_id=run.correlation_id,
        metadata=definition.metadata,
        traceparent=traceparent_of(run.id, run.traceparent),
        carried=run.carried,
    )


def _trigger_of(definition: Definition, run: Execution) -> dict[str, Any]:
    """Why it runs, as the handler is told."""
    if run.kind == "key":
        return {"kind": "manual", "key": run.nominal}
    if run.kind in {"event", "chain"}:
        kind = "event" if run.kind == "event" else "outcome"
        waited = run.due - parse_instant(run.trigger["at"], field="at")
        return {"kind": kind, **run.trigger, "delay": format_duration(waited)}
    if run.kind == "condition":
        return {"kind": "condition", **run.trigger}
    if run.backfill_id is not None:
        return {"kind": "backfill", "nominal": run.nominal, "backfill_id": run.backfill_id}
    facts: dict[str, str] = {}
    match definition.trigger:
        case CronTrigger(expression=expression, timezone=timezone):
            facts = {"expression": expression, "timezone": timezone}
        case RruleTrigger(rule=rule):
            facts = {"rule": rule}
        case IntervalTrigger(every=every):
            facts = {"every": format_duration(every)}
        case _:
            pass
    return {"kind": definition.trigger.type, "nominal": run.nominal, **facts, **_plan_of(run)}


def _plan_of(run: Execution) -> dict[str, str]:
    """What somebody planned for it."""
    told = {
        "moved_to": format_instant(run.moved_to) if run.moved_to else None,
        "note": run.note,
        "planned_by": run.planned_by,
    }
    return {name: value for name, value in told.items() if value}
