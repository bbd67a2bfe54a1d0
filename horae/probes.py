"""What health asks of the parts of a process (Q5)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from horae_domain.errors import Unavailable

if TYPE_CHECKING:
    from horae.runtime import Runtime
    from horae_application.lines import Broken

NAMED = 20
"""Quarantined schedules that health names."""


def probes(runtime: Runtime, tenant: str) -> Mapping[str, Any]:
    """What health asks of this process's parts, for a tenant: it names no schedules of others."""

    def store() -> dict[str, Any]:
        engine = runtime.engine
        error = engine.store_error if engine is not None else None
        issues = [{"severity": "critical", "message": error}] if error else []
        return {"status": "down" if error else "up", "issues": issues}

    def engine() -> dict[str, Any]:
        running = runtime.engine
        if running is None:
            return {"status": "up"}
        message = "the clock disagrees with the store's: nothing fires until they agree"
        return {
            "status": "up",
            "partitions": len(running.ownership.epochs),
            "committed": running.committed,
            "issues": [{"severity": "error", "message": message}] if running.wall.held else [],
        }

    def views() -> dict[str, Any]:
        return runtime.projector.health() if runtime.projector is not None else {"status": "up"}

    def bus() -> dict[str, Any]:
        connected = runtime.connected is None or runtime.connected()
        issues = [] if connected else [{"severity": "error", "message": "NATS is not connected"}]
        return {"status": "up" if connected else "down", "issues": issues}

    found: dict[str, Any] = {
        "store": store,
        "engine": engine,
        "schedules": partial(_schedules, runtime, tenant),
        "views": views,
        "workers": partial(_workers, runtime),
    }
    if runtime.settings.nats_url is not None:
        found["bus"] = bus
        if "engine" in runtime.roles and runtime.settings.event_subjects:
            found["inbox"] = runtime.inbox
    return found


async def _schedules(runtime: Runtime, tenant: str) -> dict[str, Any]:
    """What is quarantined."""
    found = await _quarantined(runtime, tenant)
    named = list(found.values())[:NAMED]
    message = f"quarantined: {', '.join(list(found)[:NAMED])}"
    issues = [{"severity": "error", "message": message}] if found else []
    if others := _of_others(runtime, tenant):
        message = f"{others} schedules of other tenants are quarantined"
        issues.append({"severity": "error", "message": message})
    return {"status": "up", "quarantined": named, "issues": issues}


def _workers(runtime: Runtime) -> dict[str, Any]:
    """The executor of this process, and those elsewhere that take no work."""
    executor, elsewhere = runtime.executor, runtime.executors()
    issues = [
        {"severity": "warning", "message": f"{each.executor} takes no new work: {each.over}"}
        for each in elsewhere
        if each.over is not None
    ]
    facts: dict[str, Any] = {"status": "up", "running": 0, "elsewhere": len(elsewhere)}
    if executor is None:
        return facts | {"issues": issues}
    free, orphans = executor.free(), executor.orphans
    if executor.over is not None:
        message = f"no new work is taken: {executor.over}"
        issues.append({"severity": "warning", "message": message})
    if orphans and free <= 0:
        message = f"no free slots: {orphans} threads go on although their attempts have ended"
        issues.append({"severity": "error", "message": message})
    facts |= {"running": executor.running, "free": free, "orphans": orphans}
    return facts | {"over": executor.over, "issues": issues}


async def _quarantined(runtime: Runtime, tenant: str) -> dict[str, dict[str, Any]]:
    """Schedules of a tenant that this engine cannot read, and those that the views show as failed.

    What does not even say whose it is belongs to the tenant of this process.
    """
    found: dict[str, dict[str, Any]] = {
        each.id or str(stream): {
            "id": each.id or None,
            "reason": each.reason,
            "stream": str(stream),
        }
        for stream, each in _broken(runtime).items()
        if (each.tenant or runtime.settings.tenant) == tenant
    }
    if runtime.queries is not None:
        body = msgspec.json.encode({"status": "failed", "limit": NAMED})
        with suppress(Unavailable):  # while the view is being built
            answer = await runtime.queries.answer(tenant, "schedule.list", body)
            for each in answer["schedules"]:
                found.setdefault(each["id"], {"id": each["id"], "reason": each["note"]})
    return found


def _of_others(runtime: Runtime, tenant: str) -> int:
    """How many of other tenants there are, for the tenant of this process; it names none."""
    if tenant != runtime.settings.tenant:
        return 0
    return sum(each.tenant not in {"", tenant} for each in _broken(runtime).values())


def _broken(runtime: Runtime) -> dict[str, Broken]:
    return dict(runtime.engine.lines.quarantined) if runtime.engine is not None else {}
