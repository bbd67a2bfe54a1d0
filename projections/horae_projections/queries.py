"""The queries, answered from the live view."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from horae_domain.definition import Definition, restore_definition
from horae_domain.errors import (
    CommandNotFound,
    ExecutionNotFound,
    InvalidField,
    QueueNotFound,
    ScheduleNotFound,
)
from horae_domain.positions import Position, parse_position
from horae_projections import answers, lists, preview, queues, timers
from horae_projections.definitions import is_command
from horae_projections.digests import digests
from horae_projections.health import Probe, assess
from horae_projections.hiding import may_hide, without_secrets
from horae_projections.messages import (
    ExecutionLogs,
    FindEvent,
    GetCommand,
    GetExecution,
    GetQueue,
    GetSchedule,
    GetTenant,
    Health,
    ListDeadLetters,
    ListExecutions,
    ListQueues,
    ListSchedules,
    ListTimers,
    PreviewSchedule,
    Query,
    ScheduleDigests,
    ScheduleHistory,
    read_query,
)
from horae_projections.ports import Key, LogReader, ViewStore, ViewUnavailable
from horae_projections.received import find
from horae_projections.rows import (
    ALL_QUEUES,
    EXECUTIONS,
    QUEUES,
    SCHEDULES,
    ExecutionRow,
    QueueRow,
    ScheduleRow,
    unpack,
)

POLL = 0.005
"""Seconds between looks at the view's position where no projector runs in this process."""

Answer = dict[str, Any]


class Progress(Protocol):
    """Who knows when the view moves; the projector of this process."""

    async def reached(self, position: Position, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until the view has seen a position; False after `timeout` seconds."""
        ...


def _unheard(id_: str) -> Answer | None:
    """For views without an engine beside them."""
    del id_
    return None


def _no_probes(tenant: str) -> dict[str, Probe]:
    """For views without other parts beside them."""
    del tenant
    return {}


def _now() -> datetime:
    return datetime.now(UTC)


class Queries:
    """Answers queries.

    Args:
        views: what is read.
        log: in which external events are looked for.
        probes: of a tenant's health query, by component; see `horae_projections.health`.
        progress: the projector, if it runs in this process; else the view's position is polled.
        now: the clock.
    """

    def __init__(
        self,
        views: ViewStore,
        log: LogReader,
        *,
        probes: Callable[[str], Mapping[str, Probe]] = _no_probes,
        progress: Progress | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._views = views
        self._log = log
        self._probes = probes
        self._progress = progress
        self._now = now
        self.progress_of: Callable[[str], Answer | None] = _unheard
        """What the owner of a running execution has last heard of its progress, if it is here."""

    async def answer(self, tenant: str, name: str, body: bytes = b"") -> Answer:
        """The answer to a request, with the position that it rests on.

        Raises:
            InvalidField, InvalidTrigger, PayloadTooLarge: the request is wrong.
            ScheduleNotFound, ExecutionNotFound: what it names does not exist.
            Unavailable: the view is being built, or has not reached `min_position` in time.
        """
        query = read_query(name, body)
        if query.min_position is not None:
            await self._reach(query.min_position, query.wait_ms / 1000)
        return await self._dispatch(tenant, query)

    async def _dispatch(self, tenant: str, query: Query) -> Answer:
        match query:
            case GetSchedule():
                return await self._schedule(tenant, query)
            case PreviewSchedule():
                return await self._preview(tenant, query)
            case GetExecution():
                return await self._execution(tenant, query)
            case GetCommand():
                return await self._command(tenant, query)
            case ListSchedules():
                return await lists.schedules(self._views, tenant, query, self._now())
            case ScheduleDigests():
                return await digests(self._views, tenant, query, self._now())
            case ScheduleHistory():
                await self._row(tenant, query.id)
                return await lists.history(self._views, tenant, query)
            case Health():
                return await assess(self._probes(tenant))
            case _:
                return await self._list(tenant, query)

    async def _list(self, tenant: str, query: Query) -> Answer:
        match query:
            case ExecutionLogs():
                return await self._logs(tenant, query)
            case ListExecutions():
                return await lists.executions(self._views, tenant, query)
            case ListDeadLetters():
                return await lists.dead_letters(self._views, tenant, query)
            case ListTimers():
                return await timers.timers(self._views, tenant, query, self._now())
            case ListQueues():
                return await lists.queues(self._views, tenant, query)
            case GetQueue():
                position, row = await self._queue(tenant, query.queue)
                return {"ok": True, "position": position} | queues.answer(query.queue, row)
            case GetTenant():
                position, (stored,) = await self._views.rows([Key(QUEUES, tenant, ALL_QUEUES)])
                row = QueueRow() if stored is None else unpack(QUEUES, stored)
                return {"ok": True, "position": position} | queues.answer_tenant(tenant, row)
            case FindEvent():
                return await asyncio.to_thread(find, self._log, tenant, query)
            case _:
                raise InvalidField(f"no such query: {query.name}", field="name")

    # --- one thing --------------------------------------------------------------------------------

    async def _schedule(self, tenant: str, query: GetSchedule) -> Answer:
        position, row = await self._row(tenant, query.id)
        now = self._now()
        found = answers.schedule(query.id, tenant, row, now)
        found["next"] = preview.next_of(tenant, query.id, row, now, query.count)
        if query.executions:
            last = ListExecutions(schedule_id=query.id, limit=query.executions)
            page = await lists.executions(self._views, tenant, last)
            found["executions"] = page["executions"]
        return {"ok": True, "position": position} | found

    async def _row(self, tenant: str, id_: str) -> tuple[str, ScheduleRow]:
        position, (stored,) = await self._views.rows([Key(SCHEDULES, tenant, id_)])
        if stored is None:
            raise ScheduleNotFound("no such schedule", field="id", value=id_, position=position)
        return position, unpack(SCHEDULES, stored)

    async def _preview(self, tenant: str, query: PreviewSchedule) -> Answer:
        if (query.id is None) == (query.trigger is None):
            raise InvalidField("either an id or a trigger", field="id")
        after = query.from_ or self._now()
        if query.id is not None:
            position, row = await self._row(tenant, query.id)
            definition = restore_definition(row.told | {"id": query.id})
            anchor = row.anchor or row.created_at
            found = preview.upcoming(
                definition, anchor, after, query.count, row.plans,
                tenant=tenant, first=row.next_due,
            )  # fmt: skip
            return {"ok": True, "position": position} | preview.answer(
                definition, anchor, after, found
            )
        definition = Definition(
            id="preview",
            trigger=query.trigger,
            dst=query.dst,
            start_at=query.start_at,
            end_at=query.end_at,
            calendars=query.calendars,
            action={"type": "function", "name": "preview"},
        )
        found = preview.upcoming(definition, None, after, query.count, tenant=tenant)
        return {"ok": True} | preview.answer(definition, None, after, found)

    async def _execution(self, tenant: str, query: GetExecution) -> Answer:
        position, (stored,) = await self._views.rows([Key(EXECUTIONS, tenant, query.id)])
        if stored is None:
            raise ExecutionNotFound("no such execution", field="id", value=query.id)
        run = unpack(EXECUTIONS, stored)
        found = answers.execution(query.id, run, now=self._now())
        found["waiting_for"] = await self._waiting_for(tenant, run)
        if may_hide(found["payload"]):
            _, (row,) = await self._views.rows([Key(SCHEDULES, tenant, found["schedule_id"])])
            action = {} if row is None else unpack(SCHEDULES, row).told["action"]
            found["payload"] = without_secrets(action.get("name"), found["payload"])
        running = found["status"] == "running"
        found["progress"] = self.progress_of(query.id) if running else None
        return {"ok": True, "position": position} | found

    async def _queue(self, tenant: str, name: str) -> tuple[str, QueueRow]:
        position, (stored,) = await self._views.rows([Key(QUEUES, tenant, name)])
        if stored is None:
            raise QueueNotFound("no such queue", field="queue", value=name, position=position)
        return position, unpack(QUEUES, stored)

    async def _waiting_for(self, tenant: str, row: ExecutionRow) -> str | None:
        """The limit for which an execution waits."""
        if row.status not in {"pending", "delayed"}:
            return None
        keys = [Key(QUEUES, tenant, name) for name in (row.queue, ALL_QUEUES)]
        _, stored = await self._views.rows(keys)
        queue, all_ = (None if each is None else unpack(QUEUES, each) for each in stored)
        return queues.waiting_for(row, queue, all_, self._now())

    async def _logs(self, tenant: str, query: ExecutionLogs) -> Answer:
        found = await self._execution(tenant, GetExecution(id=query.id))
        return {name: found[name] for name in ("ok", "position", "id", "logs", "attempts")}

    async def _command(self, tenant: str, query: GetCommand) -> Answer:
        position, (stored,) = await self._views.rows([Key(SCHEDULES, tenant, query.id)])
        row: ScheduleRow | None = None if stored is None else unpack(SCHEDULES, stored)
        if row is None or not is_command(row.told):
            raise CommandNotFound("no such command", field="id", value=query.id, position=position)
        run: ExecutionRow | None = None
        if row.last_execution_id is not None:
            key = Key(EXECUTIONS, tenant, row.last_execution_id)
            _, (found,) = await self._views.rows([key])
            run = None if found is None else unpack(EXECUTIONS, found)
        return {"ok": True, "position": position} | answers.command(query.id, tenant, row, run)

    # --- read your writes -------------------------------------------------------------------------

    async def _reach(self, text: str, wait: float) -> None:
        """Wait until the view that answers has seen a position (Q6)."""
        wanted = parse_position(text, field="min_position")
        end = time.monotonic() + wait
        while True:
            at = await self._standing()
            if at is not None and wanted.reached_by(at):
                return
            left = end - time.monotonic()
            if left <= 0:
                raise ViewUnavailable(
                    "the view has not reached the position yet",
                    field="min_position",
                    value=text,
                    position=str(at) if at else None,
                )
            if self._progress is None:
                await asyncio.sleep(min(POLL, left))
            elif await self._progress.reached(wanted, left):
                await asyncio.sleep(0)

    async def _standing(self) -> Position | None:
        try:
            return parse_position((await self._views.rows([])).position)
        except ViewUnavailable:
            return None
