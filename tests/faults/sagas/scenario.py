"""Lets all worked examples run at once, and kills in the midst of their waits.

Each wave begins one more of each: something that will be confirmed, something that nobody confirms,
something that is withdrawn. Then a process is killed while something waits that no kill has met yet.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from examples.sagas import partner
from tests.faults.cluster import Cluster
from tests.faults.history import read_history
from tests.faults.journal import Journal
from tests.faults.load import Client
from tests.faults.sagas.waits import CALENDARS, EXAMPLES, WANTED, Reading

NODES = {"engine": "engine,views", "executor": "executor"}
TARGETS = ("engine", "executor", "nats")
PACE, LEAST = 14_400, 6
"""A day lasts six seconds, and so does whatever would last less."""
SETTINGS = {
    "SAGAS_PACE": str(PACE),
    "SAGAS_LEAST": str(LEAST),
    "HORAE_HTTP_NETWORKS": "127.0.0.0/8",
    "HORAE_CLEANUP": "false",
}
TENANTS = 3
"""Users and tenants that are made; each keeps schedules of its own."""


class Sagas:
    """One run with its seed.

    Args:
        cluster: the processes.
        seed: of all choices.
    """

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.rng = random.Random(seed)
        self.client = Client(Journal(cluster.intents))
        self.reading = Reading()
        self.say: Callable[[str], None] = lambda _: None
        self._faults = Journal(cluster.folder / "faults.log")
        self._position = 0
        self._kills: list[float] = []
        self._events = 0
        self._tasks: list[asyncio.Task] = []
        self._ending = asyncio.Event()

    async def begin(self) -> None:
        await asyncio.to_thread(self.cluster.start)
        await self.client.connect(self.cluster.nats.url)
        while set(EXAMPLES) > set(self.look().named.values()):
            await asyncio.sleep(0.1)
        self._faults.note(what="begin")
        self._weather = asyncio.create_task(self._changes())
        self._tasks.append(asyncio.create_task(self._workflows()))

    # --- what the store says ----------------------------------------------------------------------

    def look(self) -> Reading:
        """The history up to now."""
        for row in read_history(self.cluster.store_url, self._position).rows:
            self.reading.take(row)
            self._position = row.position
        return self.reading

    def missing(self) -> set[tuple[str, str]]:
        """Waits that no kill has fallen into."""
        met = {
            (wait.example, wait.kind)
            for wait in self.look().all()
            if any(wait.holds(at) for at in self._kills)
        }
        return set(WANTED) - met

    async def _execution(self, schedule: str, event: str) -> str | None:
        """The execution of an event, when there is one that has not ended."""
        for _ in range(100):
            for stream, row in (await asyncio.to_thread(self.look)).began.items():
                same = row.data["schedule_id"] == schedule
                if same and row.data.get("trigger", {}).get("id") == event:
                    return None if stream in self.reading.ended else row.data["execution_id"]
            await asyncio.sleep(0.1)
        return None

    # --- a wave -----------------------------------------------------------------------------------

    async def _event(self, type_: str, data: dict) -> str:
        self._events += 1
        id_ = f"e-{self._events}"
        await self.client.command(
            "event.publish", {"type": type_, "id": id_, "data": data}, event=id_, type=type_
        )
        return id_

    async def wave(self, n: int) -> None:
        """Begin one more of each; its answers and withdrawals follow in their own time."""
        say = self._event
        for which in ("paid", "never", "ended"):
            told = {"tx": f"{n}-{which}", "look_every": f"{3 if which == 'paid' else 1}s"}
            event = await say(
                "transfer.sent", told | ({} if which == "paid" else {"confirmations": 99})
            )
            if which == "ended":
                self._later(self._cancelled, "confirm-transfer", event, within=5)
        for which in ("paid", "never", "ended"):
            event = await say("position.wanted", {"pool": f"{n}-{which}"})
            if which == "paid":
                told = {"ticket": f"t-{n}-{which}", "rate": 0.04}
                self._later(say, "position.confirmed", told, within=LEAST)
            if which == "ended":
                self._later(self._cancelled, "yield-position", event, within=4)
        for begin, end, name in (
            ("ticket.opened", "ticket.resolved", "ticket"),
            ("offer.sent", "offer.answered", "offer"),
            ("order.placed", "order.paid", "order"),
        ):
            await say(begin, {name: f"{n}-never"})
            await say(begin, {name: f"{n}-paid"})
            self._later(say, end, {name: f"{n}-paid"}, within=LEAST)
        await say("payment.due", {"card": "empty", "amount": n})
        await say("payment.due", {"card": "good", "amount": n})
        await say("migration.wanted", {"table": f"t-{n}"})
        await say("policy.changed", {"policy": f"p-{n}", "days": 30})
        self._later(say, "policy.changed", {"policy": f"p-{n}", "days": 7}, within=LEAST)
        if n < TENANTS:
            await say("tenant.created", {"id": f"tenant-{n}"})
            await say("user.signed-up", {"name": f"u-{n}", "timezone": "America/New_York"})

    def _later(self, act: Callable, *args: object, within: float) -> None:
        """Do something after a while by the seed, whatever is killed meanwhile."""
        after = self.rng.uniform(0.3, 1) * within

        async def wait() -> None:
            await asyncio.sleep(after)
            await act(*args)

        self._tasks.append(asyncio.create_task(wait()))

    async def _cancelled(self, schedule: str, event: str) -> None:
        execution = await self._execution(schedule, event)
        if execution is not None:
            await self.client.command("execution.cancel", {"id": execution})

    async def _workflows(self) -> None:
        """One after the other: done, broken and repaired by somebody, broken and repaired by nobody."""
        number = 0
        while not self._ending.is_set():
            number += 1
            broken = number % 3 != 1
            body = {"id": "workflow", "payload": {"broken": broken}, "key": f"workflow-{number}"}
            reply = await self.client.command("schedule.trigger", body)
            while reply["execution_id"].replace("-", "") not in self.look().ended:
                await asyncio.sleep(0.2)
            if number % 3 == 2:
                self._later(self._repaired, reply["execution_id"], within=1)

    async def _repaired(self, execution: str) -> None:
        """Say that a workflow is repaired, when it is to be escalated."""
        for _ in range(300):
            for wait in (await asyncio.to_thread(self.look)).all():
                escalates = wait.kind == "delay" and wait.example == "escalate-workflow"
                if escalates and wait.asked.data["trigger"]["execution_id"] == execution:
                    await asyncio.sleep(self.rng.uniform(0, LEAST / 2))
                    await self._event("workflow.repaired", {"execution": execution})
                    return
            await asyncio.sleep(0.1)

    async def _changes(self) -> None:
        """The market is calm and is not, by turns."""
        while True:
            partner.state["volatility"] = 0.08 if partner.state["volatility"] < 0.05 else 0.01
            await asyncio.sleep(self.rng.uniform(3, 9))

    # --- kills ------------------------------------------------------------------------------------

    async def kill(self, target: str, patience: float = 12) -> None:
        """Kill a process while something waits that no kill has met, at a moment by the seed."""
        wanted = self.missing()
        deadline = time.monotonic() + self.rng.uniform(2, patience)
        while time.monotonic() < deadline:
            if self.look().going_on() & wanted:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(self.rng.uniform(0, 0.9))
        victim = self.cluster.servers.get(target) or self.cluster.processes[target]
        pid, at = victim.pid, time.time()
        await asyncio.to_thread(victim.kill)
        self._kills.append(at)
        self._faults.note(what="kill", target=target, victim=pid, at=at)
        await asyncio.sleep(self.rng.uniform(0, 0.8))
        await asyncio.to_thread(victim.start)
        self._faults.note(what="back", target=target)
        self.say(f"killed {target}; {len(self.missing())} waits were not met yet")

    # --- the end ----------------------------------------------------------------------------------

    async def end(self, patience: float = 240) -> None:
        """Let everything that waits come to its end, and stop all in order."""
        self._ending.set()
        self._weather.cancel()
        await asyncio.gather(*self._tasks)
        deadline = time.monotonic() + patience
        while self._unfinished() and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        self._faults.note(what="frontier")
        await asyncio.sleep(LEAST)
        for who, definition in self.look().definitions.items():
            if definition["trigger"]["type"] in {*CALENDARS, "condition"}:
                tenant, _, id_ = who.partition("/")
                if not id_.startswith("onboarding-"):
                    await self.client.command("schedule.cancel", {"id": id_}, tenant=tenant)
        await asyncio.sleep(2)
        await self.client.close()
        codes = await asyncio.to_thread(self.cluster.stop)
        self._faults.note(what="stopped", codes=codes)

    def _unfinished(self) -> set[str]:
        """What was begun by somebody and has not ended, and users who get mails still."""
        reading = self.look()
        runs = {
            stream
            for stream, row in reading.began.items()
            if stream not in reading.ended and row.data["kind"] in {"event", "chain", "key", "once"}
        }
        waits = {
            wait.of
            for wait in reading.all()
            if wait.end is None
            and (wait.kind == "command" or wait.of.startswith("default/onboarding-"))
        }
        return runs | waits


async def scenario(run: Sagas, kills: int) -> None:
    """Waves and kills in turn, until every wait was met by one, and there were enough."""
    await run.begin()
    plan: list[str] = []
    for n in range(3 * kills):
        if n >= kills and not run.missing():
            break
        if not plan:
            plan = run.rng.sample(TARGETS, len(TARGETS))
        wave = asyncio.create_task(run.wave(n)) if n < kills else None
        await run.kill(plan.pop())
        if wave is not None:
            await wave
    await run.end()
