"""What one execution or command costs: processor time by part, in one thread on a moved clock.

    python -m benchmarks.execution [burst every single create many fallback] [--count N] [--redis URL] [--profile]

From the due instant over decision, commit, handler and outcome to the view. Processor time says the
same on a busy machine as on an idle one, where elapsed time does not.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.applying import definitions
from horae import interpreter
from horae.bootstrap import bootstrap
from horae.runtime import Runtime
from horae_application.context import Context
from horae_application.gateway import new_request
from horae_application.registry import Registry
from horae_domain.instants import format_instant
from horae_infrastructure.settings import Settings

SLOTS = 256
EVERY = 0.001
"""Seconds between samples of a profile."""
START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds


class Account:
    """Processor time of this thread by part."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._parts: list[str] = ["executor and gateway"]
        self._since = time.thread_time()

    def _turn(self) -> None:
        now = time.thread_time()
        self.spent[self._parts[-1]] += now - self._since
        self._since = now

    def clear(self) -> None:
        self._turn()
        self.spent.clear()

    def part(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, with what it takes entered under a name."""

        def called(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._parts.append(name)
            try:
                return call(*args, **kwargs)
            finally:
                self._turn()
                self._parts.pop()

        return called

    def show(self, way: str, count: int) -> float:
        """Print the parts; all together in microseconds."""
        self._turn()
        parts = "  ".join(f"{name} {1e6 * each / count:.0f}" for name, each in self.spent.items())
        total = 1e6 * sum(self.spent.values()) / count
        print(f"{way}: {total:.0f} µs of CPU each ({parts})")
        return total


class Sampler:
    """Looks every millisecond where the thread is; the kernel counts processor time too coarsely."""

    def __init__(self) -> None:
        self.own: Counter[CodeType] = Counter()
        self.within: Counter[CodeType] = Counter()

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, EVERY)

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def _look(self, number: int, frame: FrameType | None) -> None:
        del number
        codes = []
        while frame is not None:
            codes.append(frame.f_code)
            frame = frame.f_back
        self.own[codes[0]] += 1
        for code in set(codes):
            self.within[code] += 1
        signal.setitimer(signal.ITIMER_REAL, EVERY)

    def show(self, micros: float, most: int = 110) -> None:
        """The functions with most time, in microseconds of a total."""
        total = sum(self.own.values())
        for title, counts in (("own", self.own), ("with what they call", self.within)):
            print(f"-- {title}")
            for code, count in counts.most_common(most):
                name = f"{Path(code.co_filename).stem}.{code.co_qualname}"
                print(f"{micros * count / total:8.1f} µs  {name}")


class Bench:
    """An engine with its executor and views, taken round by round."""

    def __init__(self, runtime: Runtime, clock: Clock, account: Account) -> None:
        assert runtime.engine is not None
        assert runtime.executor is not None
        assert runtime.projector is not None
        self.engine, self.executor = runtime.engine, runtime.executor
        self.projector = runtime.projector
        self.runtime, self.clock = runtime, clock
        self.engine.asked = None  # type: ignore[attr-defined]
        self.engine.firing = self.executor.open = True
        self.engine._store.append = account.part("store", self.engine._store.append)
        self.round = account.part("engine", self.engine.round)
        self.projector._changes = account.part("views", self.projector._changes)  # type: ignore[method-assign]

    async def create(self, definitions: list[dict[str, Any]]) -> None:
        await self.ask("schedule.create_many", {"schedules": definitions})
        await self.settle(0)

    async def ask(self, name: str, body: dict[str, Any]) -> None:
        """A command, and rounds until it is answered."""
        asked = asyncio.ensure_future(self.runtime.command(new_request("default", name, body)))
        while not asked.done():
            await asyncio.sleep(0)
            self.round()
        assert asked.result().body["ok"], asked.result()

    async def settle(self, done: int) -> None:
        """Rounds until so many attempts have ended and all is written and projected."""
        pause = self.round()
        while pause <= 0 or self.executor.done < done or self.executor.busy:
            await asyncio.sleep(0)
            if pause <= 0 or not self.engine._inbox.empty():
                pause = self.round()
        while self.projector.lag:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def burst(self, count: int) -> None:
        at = format_instant(self.clock.time + timedelta(seconds=60))
        for first in range(0, count, 1000):
            await self.create([once(f"b-{first + i}", at) for i in range(min(1000, count - first))])

    async def every(self, count: int) -> None:
        del count
        anchor = format_instant(self.clock.time)
        trigger = {"type": "interval", "every": "1s", "anchor": anchor}
        await self.create([once(f"e-{i}", anchor) | {"trigger": trigger} for i in range(1000)])

    async def single(self, count: int) -> None:
        for i in range(count):
            at = format_instant(self.clock.time + timedelta(seconds=60, milliseconds=i))
            await self.create([once(f"s-{i}", at)])

    async def one(self, definition: dict[str, Any]) -> None:
        """One command, from the request to its answer."""
        request = new_request("default", "schedule.create", definition, key=definition["id"])
        asked = asyncio.ensure_future(self.runtime.command(request))
        while self.engine._inbox.empty():  # noqa: ASYNC110
            await asyncio.sleep(0)
        self.round()
        assert (await asked).body["ok"]

    async def sagas(self, count: int) -> None:
        """Let so many executions of one schedule wait for a confirmation that never comes."""
        await self.create([saga()])
        for number in range(count):
            said = {"type": "Ordered", "data": {"order": number}, "id": f"o-{number}"}
            await self.ask("event.publish", said)
        await self.settle(0)


def saga() -> dict[str, Any]:
    call = {"type": "function", "name": "note"}
    wait = {"event": "Paid", "match": {"order": "trigger.data.order"}, "timeout": 60}
    return {
        "id": "saga",
        "trigger": {"type": "event", "event": "Ordered"},
        "action": {"type": "none"},
        "wait_for": wait | {"then": call, "fallback": call},
    }


def once(name: str, at: str) -> dict[str, Any]:
    action = {"type": "function", "name": "note"}
    return {"id": name, "trigger": {"type": "once", "at": at}, "action": action}


async def note(ctx: Context) -> None:
    del ctx


async def measure(way: str, count: int, redis: str | None, sampler: Sampler | None) -> None:
    clock, account = Clock(), Account()
    registry = Registry()
    registry.add("note", note)
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(
            store_url=f"sqlite:///{directory}/bench.db",
            data_dir=Path(directory),
            redis_url=redis,
            concurrency=SLOTS,
        )
        async with bootstrap(settings, registry, clock=clock, drive="manual") as runtime:
            bench = Bench(runtime, clock, account)
            await PREPARED[way](bench, count)
            account.clear()
            with sampler or nullcontext():
                await WAYS[way](bench, count)
            total = account.show(way, count)
            if sampler is not None:
                sampler.show(total)


async def at_once(bench: Bench, count: int) -> None:
    bench.clock.move(60)
    await bench.settle(count)


async def second_by_second(bench: Bench, count: int) -> None:
    for done in range(1000, count + 1, 1000):
        bench.clock.move(1)
        await bench.settle(done)


async def one_by_one(bench: Bench, count: int) -> None:
    bench.clock.move(60)
    for done in range(1, count + 1):
        await bench.settle(done)
        bench.clock.move(0.001)


async def created(bench: Bench, count: int) -> None:
    at = format_instant(bench.clock.time + timedelta(days=1))
    for i in range(count):
        await bench.one(once(f"c-{i}", at))
    await bench.settle(0)


async def created_together(bench: Bench, count: int) -> None:
    schedules = definitions(count)
    for first in range(0, count, 1000):
        await bench.create(schedules[first : first + 1000])


async def nothing(bench: Bench, count: int) -> None:
    del bench, count


PREPARED = {
    "burst": Bench.burst,
    "every": Bench.every,
    "single": Bench.single,
    "create": nothing,
    "many": nothing,
    "fallback": Bench.sagas,
}
WAYS = {
    "burst": at_once,
    "every": second_by_second,
    "single": one_by_one,
    "create": created,
    "many": created_together,
    "fallback": at_once,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], default=[])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--redis")
    parser.add_argument("--profile", action="store_true")
    told = parser.parse_args()
    interpreter.tune()
    for way in told.ways or list(WAYS):
        asyncio.run(measure(way, told.count, told.redis, Sampler() if told.profile else None))


if __name__ == "__main__":
    main()
