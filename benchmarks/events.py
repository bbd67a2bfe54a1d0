"""P6: from an external event on JetStream to the start of its handler, and the index that finds who listens."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.harness import Bench, Failed, lateness, percentiles, usage
from horae_domain.identity import execution_id, schedule_stream
from horae_domain.listeners import Interest, Listener, Listeners, Role
from horae_infrastructure.nats.connection import close, connect

Row = dict[str, Any]
TYPE = "bench.tick"
RATE = 200
WAITS = 100_000
LOOKS = 2_000


async def events(store: str, quick: bool) -> list[Row]:
    """Events at 200/s, each recorded, decided and handled; and one look among 100,000 waits."""
    seconds = 4 if quick else 15
    with Bench(store, 256) as bench:
        async with bench.client() as client:
            await client.create_schedule(
                "on-event", {"type": "event", "event": TYPE}, "note", retry={"max_attempts": 1}
            )
        nc = await connect(bench.nats.url, name="publisher")
        try:
            await _publish(nc, 0, 100)  # what is imported at the first event is imported
            await bench.runs(100, 30)
            await bench.forget_runs()
            cpu, began = bench.cpu(), time.perf_counter()
            count = RATE * seconds
            await _publish(nc, 100, count)
            used = usage(cpu, bench.cpu(), time.perf_counter() - began)
        finally:
            await close(nc)
        runs = await bench.runs(count, 30)
        for name in ("external_event.received.v1", "execution.succeeded.v1"):
            await bench.settled(name, 100 + count)
        row = {"rate": RATE, "count": count, **lateness(runs), "cpu": used}
        return [row | {"memory_mb": bench.memory()}, index()]


async def _publish(nc: Any, first: int, count: int) -> None:
    """So many events at an even pace; each says when it was handed to the client."""
    js, sent = nc.jetstream(), []
    began = time.perf_counter()
    for number in range(first, first + count):
        await asyncio.sleep(max(0.0, began + (number - first) / RATE - time.perf_counter()))
        event = {
            "specversion": "1.0",
            "type": TYPE,
            "source": "bench",
            "id": str(number),
            "time": datetime.now(UTC).isoformat(),
            "data": {"number": number},
        }
        sent.append(asyncio.create_task(js.publish(f"events.{TYPE}", json.dumps(event).encode())))
    await asyncio.gather(*sent)


def index() -> Row:
    """One event among 100,000 executions that wait for one each."""
    listeners = Listeners()
    for number in range(WAITS):
        stream = schedule_stream("default", f"saga-{number % 1000}")
        run = execution_id("default", f"saga-{number % 1000}", 1, "event", str(number), None)
        listener = Listener(Role.CONFIRM, stream, run)
        match = (("order_id", f"o-{number}"),)
        listeners.add(Interest("default", "order.confirmed", listener, match))
    took = []
    for number in range(0, WAITS, WAITS // LOOKS):
        began = time.perf_counter()
        found = listeners.match("default", "order.confirmed", {"order_id": f"o-{number}"})
        took.append(time.perf_counter() - began)
        if len(found) != 1:
            raise Failed(f"{len(found)} listeners were found for one wait")
    return {"waits": WAITS, "match": percentiles(took)}
