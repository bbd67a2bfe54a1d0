"""A sweep of a tenant's history (O5): the views say what has ended, each owner erases its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from horae_application.dead_letters import Bring, Look
from horae_application.messages import OK, Reply, Request, SweepHistory, SweepSchedule
from horae_application.ports import EventStore
from horae_domain.instants import format_instant, to_micros
from horae_domain.retention import Retention

PAGE = 1_000
"""Rows asked for at once."""
LARGEST = 100_000
"""Executions, and one-time schedules, that one sweep erases; the next one goes on."""
LANES = 64
"""Commands under way at once."""
MOST = 1_000
"""Executions that one command erases."""
RECORDS = 1_000
"""Records of requests that one commit erases."""

SUCCESSES = ("succeeded",)
FAILURES = ("failed", "timed_out", "cancelled", "skipped", "dead")

Row = Mapping[str, Any]


class Sweep:
    """One sweep.

    Args:
        look: asks the views.
        bring: brings a command to its owner.
        request: the request that asked for it.
        now: what the ages count from.
        retention: how long what is kept.
    """

    def __init__(
        self, look: Look, bring: Bring, request: Request, now: datetime, retention: Retention
    ) -> None:
        self._look = look
        self._bring = bring
        self._request = request
        self._now = now
        self._retention = retention

    async def run(self, asked: SweepHistory) -> dict[str, Any]:
        """Erase, or count what could be; the answer's counts.

        Raises:
            HoraeError: the views do not answer.
        """
        commands = [*await self._executions(), *await self._schedules()]
        if asked.dry_run:
            found = {
                "executions": sum(len(each.executions) for each in commands),
                "schedules": sum(each.whole for each in commands),
            }
            return {"ok": True, "dry_run": True, **found, "failed": 0}
        replies = await self._all(commands)
        bodies = [reply.body for reply in replies if reply.ok]
        return {
            "ok": True,
            "dry_run": False,
            "executions": sum(body["executions"] for body in bodies),
            "schedules": sum(body["schedule"] for body in bodies),
            "failed": len(replies) - len(bodies),
        }

    async def _executions(self) -> list[SweepSchedule]:
        """Commands for what ended long ago, of each schedule at most `MOST` executions at once."""
        found: dict[str, list[str]] = {}
        kept = self._retention
        for statuses, age in ((SUCCESSES, kept.successes), (FAILURES, kept.failures)):
            asked = {"status": ",".join(statuses), "to": format_instant(self._now - age)}
            async for row in self._rows("execution.list", "executions", asked):
                found.setdefault(row["schedule_id"], []).append(row["id"])
        return [
            SweepSchedule(id=id_, executions=tuple(ids[first : first + MOST]))
            for id_, ids in found.items()
            for first in range(0, len(ids), MOST)
        ]

    async def _schedules(self) -> list[SweepSchedule]:
        """Commands for one-time schedules that ended long ago."""
        asked = {
            "type": "once,command",
            "status": "completed,cancelled,failed",
            "created_to": format_instant(self._now - self._retention.once),
        }
        ids = [row["id"] async for row in self._rows("schedule.list", "schedules", asked)]
        commands = []
        for first in range(0, len(ids), LANES):
            chunk = ids[first : first + LANES]
            for id_, runs in zip(chunk, await self._runs_of(chunk), strict=True):
                if runs is not None:
                    commands.append(SweepSchedule(id=id_, executions=runs, whole=True))
        return commands

    async def _runs_of(self, ids: Iterable[str]) -> Sequence[tuple[str, ...] | None]:
        """All executions of each of some schedules; None if there are too many for one command."""

        async def look(id_: str) -> tuple[str, ...] | None:
            asked = {"schedule_id": id_, "limit": PAGE}
            page = await self._look(self._request.tenant, "execution.list", asked)
            return None if page["cursor"] else tuple(row["id"] for row in page["executions"])

        return await asyncio.gather(*(look(id_) for id_ in ids))

    async def _rows(self, query: str, kind: str, asked: Mapping[str, Any]) -> AsyncIterator[Row]:
        left = LARGEST
        cursor: str | None = None
        while left > 0:
            body = {**asked, "limit": PAGE, "cursor": cursor}
            page = await self._look(self._request.tenant, query, body)
            for row in page[kind]:
                yield row
            left -= len(page[kind])
            cursor = page["cursor"]
            if cursor is None:
                return

    async def _all(self, commands: Sequence[SweepSchedule]) -> list[Reply]:
        replies: list[Reply] = []
        for first in range(0, len(commands), LANES):
            batch = commands[first : first + LANES]
            replies += await asyncio.gather(*(self._one(each) for each in batch))
        return replies

    async def _one(self, command: SweepSchedule) -> Reply:
        body = msgspec.json.encode(command.model_dump(mode="json"))
        request = msgspec.structs.replace(self._request, name=command.name, body=body, key=None)
        return await self._bring(request, command)


async def sweep(
    look: Look,
    bring: Bring,
    store: EventStore,
    request: Request,
    asked: SweepHistory,
    retention: Retention,
    now: datetime,
) -> Reply:
    """Erase of a tenant's history what was kept long enough, and of all tenants' old keys.

    Raises:
        HoraeError: the views do not answer, or the store does not.
    """
    body = await Sweep(look, bring, request, now, retention).run(asked)
    if not asked.dry_run:
        before = to_micros(now - retention.keys)
        body["keys"] = await asyncio.to_thread(_forget, store, before)
        await asyncio.to_thread(store.compact)
    return Reply(OK, body)


def _forget(store: EventStore, before: int) -> int:
    """Erase old records of requests, in many commits."""
    total = 0
    while total < LARGEST:
        gone = store.forget_requests(before, RECORDS)
        total += gone
        if gone < RECORDS:
            break
    return total
