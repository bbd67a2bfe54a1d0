"""Two engines share one PostgreSQL and one NATS: sharing, take-over, and an owner that slept too long.

What an engine does between its reads and its commit lasts a millisecond. To stop one just there, the
table of events is locked for a moment, so that its next read has to wait, and it is stopped waiting.
"""

from __future__ import annotations

import asyncio
import signal
import time

import psycopg

from tests.faults.harness import Run
from tests.faults.journal import read
from tests.faults.load import definition
from tests.faults.oracle import micros

ENGINES = ("engine-a", "engine-b")
NODES = {"engine-a": "engine", "engine-b": "engine", "executor": "executor", "views": "views"}
SHARE = 0.2
"""What each has decided, at least, before something happens."""
OVERDUE = 10.0
"""Seconds within which the last overdue start has to come after a kill."""
ASLEEP = 9.0
"""Seconds that an owner is stopped; its lease runs for four."""
ALONE = 12
"""Schedules of which one execution may run at a time."""


class Engines:
    """The scenario; `run` says what happened, the checker what it broke."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._url = run.cluster.store_url

    # --- what the database says -------------------------------------------------------------------

    async def _rows(self, sql: str, *values) -> list[tuple]:
        def fetch() -> list[tuple]:
            with psycopg.connect(self._url, autocommit=True) as connection:
                return connection.execute(sql, values).fetchall()

        return await asyncio.to_thread(fetch)

    async def _decided(self, after: int) -> dict[str, int]:
        rows = await self._rows(
            "SELECT session, sum(events)::int FROM faults_witness WHERE position > %s"
            " GROUP BY session",
            after,
        )
        return {name: dict(rows).get(name, 0) for name in ENGINES}

    async def _head(self) -> int:
        return (await self._rows("SELECT coalesce(max(notification_id), 0) FROM horae_events"))[0][
            0
        ]

    async def _owned_by(self, pid: int) -> set[int]:
        rows = await self._rows("SELECT partition, owner FROM horae_partitions")
        return {partition for partition, owner in rows if f"-{pid}-" in (owner or "")}

    async def _partition(self, schedule: str) -> int:
        """The partition of a schedule: the first byte of its stream."""
        [(first,)] = await self._rows(
            "SELECT get_byte(uuid_send(originator_id), 0) FROM horae_events WHERE topic ="
            " 'schedule.created.v1' AND convert_from(state, 'UTF8')::json->>'schedule_id' = %s"
            " LIMIT 1",
            schedule,
        )
        return first % 64

    async def _until(self, what: str, condition, patience: float = 60) -> float:
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > patience:
                raise RuntimeError(f"not in {patience} s: {what}")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    # --- steps ------------------------------------------------------------------------------------

    async def begin(self) -> None:
        await self._run.begin()
        for n in range(ALONE):
            body = definition(f"alone-{n}", {"type": "manual"}, {"sleep": 8})
            await self._run.client.command("schedule.create", body)

    async def shared(self) -> None:
        """Wait until both have decided at least a fifth since now."""
        head = await self._head()

        async def enough() -> bool:
            counts = await self._decided(head)
            total = sum(counts.values())
            return total > 500 and min(counts.values()) >= SHARE * total

        await self._until("both engines decide a fifth", enough)
        counts = await self._decided(head)
        share = min(counts.values()) / sum(counts.values())
        self._run.measured("least share decided before a fault", round(share, 2))

    async def kill(self, name: str) -> None:
        """Kill one engine; the other's last overdue start comes in time."""
        await self.shared()
        process = self._run.cluster.processes[name]
        in_flight = await self._run.busy()
        process.kill()
        at = time.time()
        self._run.fault("kill", target=name, victim=process.pid, in_flight=in_flight)
        await asyncio.sleep(OVERDUE + 4)
        late = self._last_overdue(at)
        self._run.measured("seconds from a kill to the last overdue start", round(late, 2))
        if late > OVERDUE:
            self._run.failed(f"an overdue start came {late:.1f} s after {name} was killed")
        await asyncio.to_thread(process.start)
        self._run.fault("back", target=name)
        self._run.say(f"killed {name}, last overdue start after {late:.1f} s")

    def _last_overdue(self, at: float) -> float:
        first: dict[str, dict] = {}
        for note in read(self._run.cluster.ledger):
            if note["what"] == "start":
                first.setdefault(note["execution"], note)
        steady = ("slow-", "quick-", "cron-", "flaky-", "once-")
        return max(
            (
                note["wall"] - at
                for note in first.values()
                if note["wall"] > at
                and note["schedule"].startswith(steady)
                and note["wall"] - micros(note["due"]) / 1e6 > 1
            ),
            default=0.0,
        )

    async def stop(self, name: str, turn: int) -> None:
        """Stop an owner between its read and its commit for longer than its lease, and let it go on."""
        await self.shared()
        process = self._run.cluster.processes[name]
        owned = await self._owned_by(process.pid)
        partitions = {f"alone-{n}": await self._partition(f"alone-{n}") for n in range(ALONE)}
        schedule = next((id_ for id_, part in partitions.items() if part in owned), None)
        if schedule is None:
            raise RuntimeError(f"{name} owns none of the schedules")
        await self._run.load.hold()  # so that its commit holds nothing that others ask for again
        try:
            waiting = await self._stopped_reading(name, schedule, turn)
        finally:
            self._run.load.go()
        at = time.time()

        async def taken() -> bool:
            return not await self._owned_by(process.pid)

        await self._until("the other engine takes over", taken, 20)
        await self._run.client.command(
            "schedule.trigger", {"id": schedule, "key": f"awake-{turn}"}, patience=20
        )
        await asyncio.sleep(max(0.0, ASLEEP - (time.time() - at)))
        refused = self._refusals()
        process.signal(signal.SIGCONT)
        self._run.fault("continued", target=name, asleep=time.time() - at)
        await waiting
        await asyncio.sleep(2)
        self._run.measured("appends of the sleeper refused", self._refusals() - refused)
        self._run.say(f"stopped {name} for {time.time() - at:.1f} s in the midst of {schedule}")

    async def _stopped_reading(self, name: str, schedule: str, turn: int) -> asyncio.Task:
        """Stop it while it reads for a trigger; the trigger's answer is still to come."""
        for attempt in range(60):
            await asyncio.sleep(self._run.rng.uniform(0.1, 0.9))
            connection = await asyncio.to_thread(psycopg.connect, self._url)
            try:
                await asyncio.to_thread(
                    connection.execute, "LOCK TABLE horae_events IN ACCESS EXCLUSIVE MODE"
                )
                body = {"id": schedule, "key": f"asleep-{turn}-{attempt}"}
                # asked once: sent again, the other engine would decide it, and its id be taken
                asked = asyncio.create_task(
                    self._run.client.command("schedule.trigger", body, patience=2)
                )
                if await self._reads(connection, name):
                    self._run.cluster.processes[name].signal(signal.SIGSTOP)
                    self._run.fault("stall", target=name, schedule=schedule)
                    return asked
            finally:
                await asyncio.to_thread(connection.rollback)
                await asyncio.to_thread(connection.close)
            await asked
        raise RuntimeError(f"{name} was never met reading")

    async def _reads(self, connection: psycopg.Connection, name: str) -> bool:
        """Whether the engine waits with a read of streams, and with no append."""
        for _ in range(20):
            await asyncio.sleep(0.02)
            rows = await asyncio.to_thread(
                lambda: connection.execute(
                    "SELECT query FROM pg_stat_activity WHERE application_name = %s"
                    " AND wait_event_type = 'Lock'",
                    (name,),
                ).fetchall()
            )
            if any("horae_append" in query for (query,) in rows):
                return False
            if any("originator_id = ANY" in query for (query,) in rows):
                return True
        return False

    def _refusals(self) -> int:
        text = self._run.cluster.postgres.log_file.read_text(errors="replace")
        return text.count("partitions belong to another owner")

    async def race(self, rounds: int) -> None:
        """One idempotency key for two schedules of different owners at once: one of them wins."""
        pid = self._run.cluster.processes[ENGINES[0]].pid
        owned = await self._owned_by(pid)
        partitions = {f"alone-{n}": await self._partition(f"alone-{n}") for n in range(ALONE)}
        ours = next((id_ for id_, part in partitions.items() if part in owned), None)
        theirs = next((id_ for id_, part in partitions.items() if part not in owned), None)
        if ours is None or theirs is None:
            raise RuntimeError("both engines own some of the schedules")
        lost = 0
        for n in range(rounds):
            key = f"race-{n}"
            replies = await asyncio.gather(
                *(
                    self._run.client.command(
                        "schedule.trigger", {"id": id_, "key": f"{key}-{id_}"}, key=key
                    )
                    for id_ in (ours, theirs)
                )
            )
            won = [reply for reply in replies if reply and reply["ok"]]
            if len(won) > 1:
                self._run.failed(f"{key}: two requests were accepted under one key")
            lost += len(won) == 1
        self._run.measured("races for a key with one winner", f"{lost} of {rounds}")


async def scenario(run: Run, *, kills: int, stops: int, races: int) -> None:
    """Everything in turn, on alternating engines."""
    engines = Engines(run)
    await engines.begin()
    if races:
        await engines.shared()
        await engines.race(races)
    for n in range(kills):
        await engines.kill(ENGINES[n % 2])
    for n in range(stops):
        await engines.stop(ENGINES[n % 2], n)
    await run.end()
