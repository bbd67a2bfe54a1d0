"""Executions that wait for confirmations: what they cost, and how soon what follows begins."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.harness import Bench, Failed, percentiles

IN_FLIGHT = 64
RATE = 200
"""Confirmations a second."""
CHUNK = 500
"""Executions of one schedule. Each has its own timeout, so that those of all end at about one instant."""
OURS = ("engine", "views")
NOTE = {"type": "function", "name": "note"}


def _saga(number: int, seconds: float) -> dict[str, Any]:
    wait = {"event": "Paid", "match": {"order": "trigger.data.order"}, "timeout": seconds}
    return {
        "id": f"saga-{number}",
        "trigger": {"type": "event", "event": f"Ordered.{number}"},
        "action": {"type": "none"},
        "wait_for": wait | {"then": NOTE, "fallback": NOTE},
    }


async def _place(client: Any, count: int, until: float) -> None:
    """Let so many begin to wait, all until about one instant of the monotonic clock."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        async with gate:
            name = f"Ordered.{number // CHUNK}"
            await client.publish_event(name, {"order": number}, id=f"o-{number}")

    for first in range(0, count, CHUNK):
        saga = _saga(first // CHUNK, round(until - time.monotonic(), 3))
        await client._caller.command("schedule.create", saga)
        await asyncio.gather(*(one(number) for number in range(first, min(first + CHUNK, count))))


async def _confirm(client: Any, count: int) -> None:
    began = time.perf_counter()
    asked = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        data = {"order": number, "sent": time.time()}
        asked.append(asyncio.create_task(client.publish_event("Paid", data, id=f"p-{number}")))
    await asyncio.gather(*asked)


def _each(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, int]:
    """What each has cost, in microseconds of CPU by process."""
    return {name: round(1e6 * (after[name] - before[name]) / count) for name in after}


def _memory(bench: Bench) -> float:
    """MB of engine and views together."""
    found = bench.memory()
    return round(sum(found[part] for part in OURS), 1)


async def waits(store: str, count: int, confirmed: int) -> dict[str, Any]:
    """Let so many wait at once, restart, confirm some, and let the deadlines of the others pass.

    Raises:
        Failed: one has no outcome, or two.
    """
    seconds = 60 + count // 400
    with Bench(store, 256) as bench:
        async with bench.client() as client:
            cpu, began = bench.cpu(), time.perf_counter()
            over = time.monotonic() + seconds
            await _place(client, count, over)
            placed = time.perf_counter() - began
        await bench.settled("execution.awaiting_confirmation.v1", count, 120)
        placing = _each(cpu, bench.cpu(), count)
        before = _memory(bench)
        bench.stop()
        ready = bench.start()
        after = _memory(bench)
        cpu = bench.cpu()
        async with bench.client() as client:
            await _confirm(client, confirmed)
        runs = await bench.runs(confirmed, 60)
        confirming = _each(cpu, bench.cpu(), confirmed)
        late = percentiles([start - sent for sent, start in runs])
        await asyncio.sleep(max(0.0, over - time.monotonic() - 2))
        cpu = bench.cpu()
        await bench.settled("execution.fallback_started.v1", count - confirmed, 120)
        runs = await bench.runs(count, 120)
        falling_back = _each(cpu, bench.cpu(), count - confirmed)
        starts = sorted(start for _, start in runs[confirmed:])
        events = bench.count_events()
        if events.get("execution.confirmed.v1", 0) != confirmed:
            raise Failed(f"{events.get('execution.confirmed.v1', 0)} confirmed of {confirmed}")
        spent = max(0.001, starts[-1] - starts[0])
        return {
            "waiting": count,
            "placed_per_s": round(count / placed),
            "cpu_us": {"place": placing, "confirm": confirming, "fall back": falling_back},
            "memory_mb": before,
            "memory_after_restart_mb": after,
            "ready_s": round(ready, 2),
            **{f"confirmed_{name}": value for name, value in late.items()},
            "fallbacks_per_s": round(len(starts) / spent),
        }
