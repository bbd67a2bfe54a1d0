"""The figures of speed and size.

    python -m benchmarks [p1 p3 p4 p5 p6 p7 c1 apply] [--store sqlite|postgres|both]
                         [--quick] [--count N] [--json FILE]

Exits with 1 when a run or a decision is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.events import events
from benchmarks.harness import (
    STORES,
    Bench,
    Failed,
    lateness,
    percentiles,
    show,
    usage,
)
from benchmarks.waits import waits as measure_waits
from horae_domain.instants import format_instant

Row = dict[str, Any]
FAR = "2031-06-01T00:00:00Z"


def one_time(name: str, at: str = FAR) -> Row:
    action = {"type": "function", "name": "note"}
    return {"id": name, "trigger": {"type": "once", "at": at}, "action": action}


async def create(client: Any, definitions: list[Row], chunk: int = 1000) -> float:
    """Create in bulk, chunks in flight two at a time; seconds."""
    began = time.perf_counter()
    gate = asyncio.Semaphore(2)

    async def send(part: list[Row]) -> None:
        async with gate:
            answer = await client._caller.command(
                "schedule.create_many", {"schedules": part}, timeout=60.0
            )
            if not answer["ok"]:
                bad = next(each for each in answer["results"] if not each["ok"])
                raise Failed(f"refused: {bad}")

    parts = [definitions[i : i + chunk] for i in range(0, len(definitions), chunk)]
    await asyncio.gather(*(send(part) for part in parts))
    return time.perf_counter() - began


async def p1(store: str, quick: bool) -> Row:
    """A command, request to durable reply over NATS."""
    rows = []
    count = 500 if quick else 3000
    with Bench(store, 16) as bench:
        async with bench.client() as client:
            for i in range(200):
                await client.command("schedule.create", one_time(f"warm-{i}"))
            times = []
            cpu = bench.cpu()
            began = time.perf_counter()
            for i in range(count):
                sent = time.perf_counter()
                await client.command("schedule.create", one_time(f"single-{i}"))
                times.append(time.perf_counter() - sent)
            seconds = time.perf_counter() - began
            rows.append(
                {"way": "one at a time", "per_s": round(count / seconds), **percentiles(times)}
                | {"cpu": usage(cpu, bench.cpu(), seconds)}
            )
            rows.append(await _paced(client, 500, 2 if quick else 6))
            rows.append(await _in_flight(client, bench, 64, count * 4))
            many = 5_000 if quick else 50_000
            before = _disk(bench)
            cpu = bench.cpu()
            seconds = await create(client, [one_time(f"bulk-{i}") for i in range(many)])
            rows.append(
                {"way": "create_many", "per_s": round(many / seconds)}
                | {"bytes_on_disk": round((_disk(bench) - before) / many)}
                | {"cpu": usage(cpu, bench.cpu(), seconds), "memory_mb": bench.memory()}
            )
            total = 200 + count + rows[1]["count"] + rows[2]["count"] + many
            await bench.settled("schedule.created.v1", total)
    aim = "p50 < 0.8 ms; p99 < 6 ms at 500/s; 5,000/s with 64 in flight; 18,000/s in bulk; 700 B"
    return show("P1 commands", store, rows, aim)


async def _paced(client: Any, rate: int, seconds: float) -> Row:
    times: list[float] = []
    count = int(rate * seconds)

    async def send(i: int) -> None:
        sent = time.perf_counter()
        await client.command("schedule.create", one_time(f"paced-{i}"))
        times.append(time.perf_counter() - sent)

    tasks = []
    began = time.perf_counter()
    for i in range(count):
        wait = began + i / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(send(i)))
    await asyncio.gather(*tasks)
    return {"way": f"at {rate}/s", "count": count, **percentiles(times)}


async def _in_flight(client: Any, bench: Bench, width: int, count: int) -> Row:
    times: list[float] = []
    numbers = iter(range(count))

    async def lane() -> None:
        for i in numbers:
            sent = time.perf_counter()
            await client.command("schedule.create", one_time(f"wide-{i}"))
            times.append(time.perf_counter() - sent)

    cpu = bench.cpu()
    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(width)))
    seconds = time.perf_counter() - began
    row = {"way": f"{width} in flight", "count": count, "per_s": round(count / seconds)}
    return row | percentiles(times) | {"cpu": usage(cpu, bench.cpu(), seconds)}


def _disk(bench: Bench) -> int:
    """Bytes of the store's tables."""
    if bench.postgres is not None:
        import psycopg

        with psycopg.connect(bench.url) as db:
            row = db.execute("select pg_database_size(current_database())").fetchone()
            assert row is not None
            return int(row[0])
    files = [bench.directory / "bench.db", bench.directory / "bench.db-wal"]
    import sqlite3

    with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as db:
        pages = db.execute("pragma page_count").fetchone()[0]
        return int(pages) * int(db.execute("pragma page_size").fetchone()[0])


async def p3(store: str, quick: bool) -> Row:
    """Due instant to handler start at 500 due/s."""
    seconds = 4 if quick else 12
    rows = []
    with Bench(store, 256) as bench:
        for rate in (100, 500):
            async with bench.client() as client:
                await bench.forget_runs()
                done = bench.count_events().get("execution.succeeded.v1", 0)
                count = rate * seconds
                start = datetime.now(UTC) + timedelta(seconds=6)
                due = [start + timedelta(seconds=i / rate) for i in range(count)]
                await create(
                    client,
                    [one_time(f"{rate}-{i}", format_instant(at)) for i, at in enumerate(due)],
                )
                await asyncio.sleep((start - datetime.now(UTC)).total_seconds())
                cpu, began = bench.cpu(), time.perf_counter()
                await asyncio.sleep((due[-1] - datetime.now(UTC)).total_seconds())
                used = usage(cpu, bench.cpu(), time.perf_counter() - began)
                runs = await bench.runs(count, 30)
                await bench.settled("execution.succeeded.v1", done + count)
                rows.append({"rate": rate, "count": count, **lateness(runs), "cpu": used})
        rows[-1]["memory_mb"] = bench.memory()
    return show("P3 due to handler start", store, rows, "p50 < 1.7 ms, p99 < 6 ms at 500/s")


async def p4(store: str, quick: bool) -> Row:
    """Ten thousand due at the same instant."""
    count = 2_000 if quick else 10_000
    with Bench(store, 256) as bench:
        async with bench.client() as client:
            at = datetime.now(UTC) + timedelta(seconds=4 + count / 1000)
            await create(client, [one_time(f"b-{i}", format_instant(at)) for i in range(count)])
            await asyncio.sleep((at - datetime.now(UTC)).total_seconds() - 0.5)
            cpu, began = bench.cpu(), time.perf_counter()
            runs = await bench.runs(count, 60)
            await bench.settled("execution.succeeded.v1", count, 60)
            used = usage(cpu, bench.cpu(), time.perf_counter() - began)
        last = max(start for _, start in runs) - at.timestamp()
        row = {"count": count, "per_s": round(count / last), **lateness(runs), "cpu": used}
        rows = [row | {"memory_mb": bench.memory()}]
    return show("P4 burst", store, rows, "over 5,000/s, stretch 10,000/s")


async def p5(store: str, quick: bool) -> Row:
    """A thousand schedules that fire every second."""
    rows = []
    seconds = 5 if quick else 20
    for way in ("spread", "same instant"):
        with Bench(store, 256) as bench:
            async with bench.client() as client:
                anchor = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
                definitions = []
                for i in range(1000):
                    offset = timedelta(milliseconds=i if way == "spread" else 0)
                    first = format_instant(anchor + offset)
                    definitions.append(
                        one_time(f"e-{i}")
                        | {
                            "trigger": {"type": "interval", "every": "1s", "anchor": first},
                            "start_at": first,
                            "max_executions": seconds,
                        }
                    )
                await create(client, definitions)
                await asyncio.sleep((anchor - datetime.now(UTC)).total_seconds())
                cpu, began = bench.cpu(), time.perf_counter()
                await asyncio.sleep(seconds)
                used = usage(cpu, bench.cpu(), time.perf_counter() - began)
                expected = 1000 * seconds
                runs = await bench.runs(expected, 30)
                await bench.settled("execution.succeeded.v1", expected)
                await bench.settled("execution.requested.v1", expected)
            rows.append(
                {"way": way, "runs": len(runs), **lateness(runs), "cpu": used}
                | {"cpu_all": round(sum(used.values()), 1), "memory_mb": bench.memory()}
            )
    aim = "all of them under 65 % of a core; spread p99 < 10 ms, same instant p99 < 90 ms"
    return show("P5 every second", store, rows, aim)


async def p6(store: str, quick: bool) -> Row:
    """External event to handler start at 200/s."""
    rows = await events(store, quick)
    aim = "p50 < 1.5 ms, p99 < 4 ms; one among 100,000 waits < 1 ms"
    return show("P6 external event to handler start", store, rows, aim)


async def p7(store: str, quick: bool) -> Row:
    """What waiting costs."""
    rows = []
    sizes = [("once", 10_000), ("cron", 20_000)] if quick else [
        ("once", 10_000),
        ("cron", 100_000),
        ("once", 1_000_000),
    ]  # fmt: skip
    for kind, count in sizes:
        with Bench(store, 16) as bench:
            async with bench.client() as client:
                seconds = await create(client, [_waiting(kind, i) for i in range(count)], 2000)
            await bench.settled("schedule.created.v1", count)
            created = bench.memory()
            bench.stop()
            ready = bench.start()
            await asyncio.sleep(20 if quick else 60)
            cpu, began = bench.cpu(), time.perf_counter()
            await asyncio.sleep(15)
            used = usage(cpu, bench.cpu(), time.perf_counter() - began)
            fired = await _fires(bench)
            rows.append(
                {"waiting": f"{count} {kind}", "created_per_s": round(count / seconds)}
                | {"ready_s": round(ready, 2), "first_run_ms": fired, "idle_cpu": used}
                | {"memory_mb": bench.memory(), "memory_after_creation_mb": created["engine"]}
            )
    aim = "10,000: 0.2 %; else idle under 1 %, engine under 200 MB, ready within 10 s"
    return show("P7 waiting", store, rows, aim)


def _waiting(kind: str, i: int) -> Row:
    if kind == "once":
        return one_time(f"w-{i}")
    minute, hour = random.randrange(60), random.randrange(24)
    trigger = {"type": "cron", "expression": f"{minute} {hour} 1 6 *"}
    return one_time(f"w-{i}") | {"trigger": trigger}


async def _fires(bench: Bench) -> float:
    """Milliseconds late of a run asked for now."""
    async with bench.client() as client:
        await bench.forget_runs()
        at = format_instant(datetime.now(UTC) + timedelta(seconds=1))
        await client.command("schedule.create", one_time("probe", at))
        (run,) = await bench.runs(1, 10)
    return round((run[1] - run[0]) * 1000, 2)


async def c1(store: str, quick: bool, count: int | None = None) -> Row:
    """What scheduled commands cost that wait."""
    from benchmarks.commands import commands

    asked = count or (10_000 if quick else 100_000)
    rows = [await asyncio.to_thread(commands, store, asked)]
    aim = "700 B, 400 B in Valkey, idle 1 %, 200 MB, ready in 10 s, cancel under 2 ms"
    return show("C1 scheduled commands", store, rows, aim)


async def apply(store: str, quick: bool, count: int | None = None) -> Row:
    """A large file of schedules."""
    from benchmarks.applying import applying

    asked = count or (5_000 if quick else 100_000)
    rows = await asyncio.to_thread(applying, store, asked)
    return show("horae apply", store, rows, "100,000: first under 30 s, again under 10 s")


async def waits(store: str, quick: bool, count: int | None = None) -> Row:
    """Executions that wait for confirmations."""
    wanted = count or (2_000 if quick else 100_000)
    row = await measure_waits(store, wanted, min(wanted // 2, 2_000))
    aim = "100,000 waiting under 300 MB; confirmed p99 < 10 ms; fallbacks over 2,000/s"
    return show("Waits", store, [row], aim)


COUNTED = {"c1", "apply", "waits"}
"""Benchmarks that can be told how many."""

ALL: dict[str, Callable[..., Awaitable[Row]]] = {
    "p1": p1,
    "p3": p3,
    "p4": p4,
    "p5": p5,
    "p6": p6,
    "p7": p7,
    "c1": c1,
    "apply": apply,
    "waits": waits,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*ALL, []], default=[])
    parser.add_argument("--store", choices=[*STORES, "both"], default="both")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, help="of c1's commands, apply's schedules")
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    results, failed = [], False
    for store in STORES if told.store == "both" else (told.store,):
        for name in told.names or list(ALL):
            try:
                told_of = (told.count,) if name in COUNTED else ()
                results.append(asyncio.run(ALL[name](store, told.quick, *told_of)))
            except Failed as error:
                failed = True
                print(f"\n{name} on {store} FAILED: {error}", file=sys.stderr)
    if told.json is not None:
        machine = {"python": platform.python_version(), "system": platform.platform()}
        told.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
