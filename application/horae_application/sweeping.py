"""Erasing what was kept long enough: decided by its owner, in the commit that records it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from horae_application.draft import Draft
from horae_application.lines import fold_execution
from horae_application.messages import OK, SweepSchedule
from horae_application.ports import StoredEvent
from horae_application.task import Answer, Task
from horae_domain.codec import Undecodable, decode
from horae_domain.errors import IllegalState
from horae_domain.events import (
    CommandScheduled,
    Event,
    ExecutionEvent,
    HistoryErased,
    ScheduleCreated,
)
from horae_domain.identity import erasure_stream, request_stream, schedule_stream
from horae_domain.ledger import Line
from horae_domain.retention import Ended, Retention, erase, erase_schedule
from horae_domain.schedule import Cause

SEEN = timedelta(days=1)
"""How long the views have to take note of an erasure, before the record of a later one stands alone."""


def streams_of(tenant: str, asked: SweepSchedule) -> list[str]:
    """What has to be read before it is decided."""
    return [
        schedule_stream(tenant, asked.id),
        erasure_stream(tenant, asked.id),
        *asked.executions,
    ]


class Sweeping:
    """Decides, after all else of a draft, what of it is erased."""

    def __init__(
        self, draft: Draft, loaded: Mapping[str, Sequence[StoredEvent]], retention: Retention
    ) -> None:
        self._draft = draft
        self._loaded = loaded
        self._retention = retention

    def decide(self, task: Task, asked: SweepSchedule, cause: Cause) -> Answer:
        """The answer says how many executions are erased, and whether the schedule is.

        Raises:
            HoraeError: there is no such schedule, or something else is decided on it.
        """
        tenant = task.request.tenant
        stream = schedule_stream(tenant, asked.id)
        line = self._draft.begin(stream).require()
        if self._draft.adds_to(stream):
            raise IllegalState("something else is decided on it", field="id", value=asked.id)
        runs = [each for id_ in asked.executions if (each := self._ended(line, id_)) is not None]
        if asked.whole:
            if len(runs) < len(asked.executions) or self._retention.keeps_schedule(line, cause.at):
                return Answer(task, OK, {"id": asked.id, "executions": 0, "schedule": False})
            return self._schedule(task, line, runs, cause)
        return self._executions(task, line, runs, cause)

    def _ended(self, line: Line, id_: str) -> Ended | None:
        """An execution of the schedule that may go."""
        rows = self._loaded.get(id_)
        if not rows or self._draft.adds_to(id_) or line.find(id_) is not None:
            return None
        try:
            run = fold_execution(rows)
            events: list[Event] = [decode(row.name, row.state) for row in rows]
        except Undecodable:
            return None
        first, schedule = events[0], line.schedule
        mine = isinstance(first, ExecutionEvent) and (first.tenant, first.schedule_id) == (
            schedule.tenant,
            schedule.id,
        )
        ended = Ended(run, events) if run is not None and mine else None
        if ended is None or self._retention.keeps(ended.run, ended.at, self._draft.at):
            return None
        return ended

    def _executions(self, task: Task, line: Line, runs: Sequence[Ended], cause: Cause) -> Answer:
        tenant, id_ = line.schedule.tenant, line.schedule.id
        said = {"id": id_, "executions": len(runs), "schedule": False}
        if not runs:
            return Answer(task, OK, said)
        begun = self._begun(schedule_stream(tenant, id_))
        present = [each for each in runs if self._loaded[each.run.id][0].position > begun]
        older = [each.run.id for each in runs if self._loaded[each.run.id][0].position < begun]
        stream = erasure_stream(tenant, id_)
        before = self._loaded.get(stream, ())
        former = decode(before[-1].name, before[-1].state) if before else None
        assert former is None or isinstance(former, HistoryErased)  # noqa: S101 - its stream
        event = erase(line, present, former, cause, older=older)
        index = self._draft.add(event, stream, before[-1].version if before else 0)
        old = former is not None and former.at < cause.at - SEEN
        self._draft.erase(stream, [*(each.run.id for each in runs), *([stream] if old else ())])
        return Answer(task, OK, said, index)

    def _begun(self, stream: str) -> int:
        """The number of the event by which the present incarnation began."""
        kinds = (ScheduleCreated, CommandScheduled)
        rows = self._loaded[stream]
        return max(row.position for row in rows if isinstance(decode(row.name, row.state), kinds))

    def _schedule(self, task: Task, line: Line, runs: Sequence[Ended], cause: Cause) -> Answer:
        """It leaves a record that goes as idempotency keys do."""
        schedule = line.schedule
        stream = schedule_stream(schedule.tenant, schedule.id)
        rows = self._loaded[stream]
        ids = [each.run.id for each in runs]
        event = erase_schedule(schedule, ids, [row.position for row in rows], cause)
        record = request_stream(
            schedule.tenant, task.command.name, f"{schedule.id}:{rows[0].position}"
        )
        index = self._draft.add(event, record, 0)
        gone = [*ids, stream, erasure_stream(schedule.tenant, schedule.id)]
        self._draft.erase(stream, gone)
        said = {"id": schedule.id, "executions": len(ids), "schedule": True}
        return Answer(task, OK, said, index)
