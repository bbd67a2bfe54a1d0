"""What the clients of a run do: schedules of every kind, and commands while the faults happen.

Every command is noted with its outcome: `ok` or `fail` by the engine's word, `unknown` if it never
answered. A command that got no answer is sent again, the same, under the same key.
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta

import nats
import nats.errors

from tests.faults.journal import Journal

CRONS = (
    ("* * * * * *", "UTC"),
    ("*/2 * * * * *", "Europe/Berlin"),
    ("*/5 * * * * *", "America/New_York"),
    ("1-59/3 * * * * *", "UTC"),
    ("0,7,15,30,45 * * * * *", "Asia/Kathmandu"),
    ("*/10 * * * * *", "Australia/Lord_Howe"),
    ("* * * * *", "Europe/Berlin"),
)
PLANNED = 3
"""Seconds between the occurrences that are planned one by one."""
PATIENCE = 60.0
"""Seconds after which the outcome of a command counts as unknown."""


def definition(id_: str, trigger: dict, payload: dict | None = None, **policies) -> dict:
    """The body of a creation."""
    base = {
        "id": id_,
        "trigger": trigger,
        "action": {"type": "function", "name": "work"},
        "payload": payload or {},
        "allow_unknown": True,
        "retry": {"max_attempts": 9, "delay": "300ms", "backoff": 1.0, "jitter": 0.1},
        "timeout": {"start_to_close": "12 seconds"},
        "catch_up": {"mode": "all", "window": "2 minutes"},
    }
    return base | policies


def every(seconds: float) -> dict:
    return {"type": "interval", "every": f"{seconds} seconds"}


def standing(slow: int) -> list[dict]:
    """The schedules that run from the beginning to the end."""
    latest = {"catch_up": {"mode": "latest", "window": "2 minutes"}}
    allow = {"overlap": "allow"}
    return [
        *(
            definition(f"slow-{n}", every(1), {"sleep": 4.5}, **allow, **(latest if n % 2 else {}))
            for n in range(slow)
        ),
        *(definition(f"quick-{n}", every(1), {"sleep": 0.02}) for n in range(4)),
        *(definition(f"blocked-{n}", every(1), {"sleep": 2.5}) for n in range(3)),
        *(
            definition(f"three-{n}", every(2), {"sleep": 4}, overlap="allow", concurrency=3)
            for n in range(2)
        ),
        *(
            definition(f"{policy}-{n}", every(2), {"sleep": seconds}, overlap=policy)
            for policy, seconds in (
                ("buffer_one", 2.5),
                ("buffer_all", 1),
                ("cancel_other", 1.5),
                ("terminate_other", 1.5),
            )
            for n in range(2)
        ),
        *(definition(f"twelve-{n}", every(1), {"sleep": 0.1}, max_executions=12) for n in range(3)),
        *(definition(f"flaky-{n}", every(2), {"sleep": 0.1, "fail": 2}, **allow) for n in range(3)),
        *(
            definition(
                f"queued-{n}",
                every(1),
                action={"type": "queue", "queue": "reports"},
                timeout={"start_to_close": "2 seconds"},
                **allow,
            )
            for n in range(4)
        ),
        *(
            definition(
                f"cron-{n}",
                {"type": "cron", "expression": expression, "timezone": zone},
                {"sleep": 0.05},
                **allow,
                **(latest if n % 2 else {}),
            )
            for n, (expression, zone) in enumerate(CRONS)
        ),
        *(
            definition(
                f"planned-{n}",
                {"type": "cron", "expression": f"*/{PLANNED} * * * * *", "timezone": "UTC"},
                {"sleep": 0.05},
                **allow,
            )
            for n in range(2)
        ),
        definition("backfilled", every(1), {"sleep": 0.05}, **allow),
        *(definition(f"paused-{n}", every(1), {"sleep": 0.05}) for n in range(3)),
        *(definition(f"edited-{n}", every(1), {"sleep": 0.05}) for n in range(2)),
        *(definition(f"manual-{n}", {"type": "manual"}, {"sleep": 0.1}, **allow) for n in range(3)),
        definition("manual-alone", {"type": "manual"}, {"sleep": 1.0}),
    ]


def shown(second: float) -> str:
    """The wire form of a time since the epoch."""
    return datetime.fromtimestamp(second, UTC).isoformat()


class Client:
    """Sends commands and notes them."""

    def __init__(self, intents: Journal) -> None:
        self._intents = intents
        self._nc = nats.aio.client.Client()
        self._count = 0
        self.unknown = 0

    async def connect(self, url: str) -> None:
        async def quiet(_error: Exception) -> None:
            """Reconnections are the point of the exercise."""

        await self._nc.connect(
            url, max_reconnect_attempts=-1, reconnect_time_wait=0.3, error_cb=quiet
        )

    async def close(self) -> None:
        await self._nc.close()

    async def command(
        self,
        name: str,
        body: dict,
        *,
        key: str | None = None,
        patience: float = PATIENCE,
        tenant: str = "default",
        **about,
    ) -> dict | None:
        """The answer, None if its outcome stays unknown."""
        self._count += 1
        id_ = f"i{self._count}"
        if "note" in body:
            body = body | {"note": id_}
        headers = {"Horae-Idempotency-Key": key or id_}
        fields = {"op": name, "id": id_, "schedule": body.get("id"), "key": body.get("key")}
        fields |= {"header": headers["Horae-Idempotency-Key"], **about}
        self._intents.note(**fields, outcome="sent")
        reply, tries = None, 0
        deadline = asyncio.get_running_loop().time() + patience
        while reply is None and asyncio.get_running_loop().time() < deadline:
            tries += 1
            reply = await self._ask(f"{tenant}.command.{name}", body, headers, min(3.0, patience))
            if reply is None:
                await asyncio.sleep(0.2)
        outcome = "unknown" if reply is None else "ok" if reply["ok"] else "fail"
        self.unknown += tries > 1
        self._intents.note(**fields, outcome=outcome, reply=reply, tries=tries)
        return reply

    async def total(self, name: str) -> int | None:
        """How many rows a list has; None without an answer."""
        try:
            msg = await self._nc.request(f"horae.default.query.{name}", b'{"limit": 1}', timeout=5)
        except (nats.errors.Error, OSError, TimeoutError):
            return None
        return json.loads(msg.data).get("total")

    async def _ask(self, subject: str, body: dict, headers: dict, timeout: float) -> dict | None:
        try:
            msg = await self._nc.request(
                f"horae.{subject}",
                json.dumps(body).encode(),
                timeout=timeout,
                headers=dict(headers),
            )
        except (nats.errors.Error, OSError, TimeoutError):
            return None
        if (msg.headers or {}).get("Nats-Service-Error-Code") in {"503", "429", "500"}:
            return None
        return json.loads(msg.data)


class Load:
    """Commands that go on until they are told to stop."""

    def __init__(self, client: Client, rng: random.Random, *, pace: float = 1.0) -> None:
        self._client = client
        self._rng = rng
        self._pace = pace
        self._ending = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._tasks: list[asyncio.Task] = []

    async def start(self, slow: int) -> None:
        for each in standing(slow):
            await self._client.command("schedule.create", each)
        loops = [self._trigger(), self._once(), self._alone()]
        loops += [self._pause(n) for n in range(3)] + [self._edit(n) for n in range(2)]
        loops += [self._cycle(n) for n in range(2)] + [self._plan(n) for n in range(2)]
        loops += [self._backfill()]
        self._tasks = [asyncio.create_task(each) for each in loops]

    async def stop(self) -> None:
        """Let every command come to its end."""
        self._ending.set()
        await asyncio.gather(*self._tasks)

    async def hold(self) -> None:
        """Send no more until `go`; what was sent has a moment to be answered."""
        self._going.clear()
        await asyncio.sleep(1)

    def go(self) -> None:
        """Send again."""
        self._going.set()

    async def _wait(self, low: float, high: float) -> None:
        try:
            await asyncio.wait_for(self._ending.wait(), self._rng.uniform(low, high) * self._pace)
        except TimeoutError:
            await self._going.wait()

    async def _trigger(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            body = {"id": f"manual-{number % 3}", "key": f"key-{number}"}
            await self._client.command("schedule.trigger", body)
            if self._rng.random() < 0.3:
                await self._client.command("schedule.trigger", body)
            await self._wait(0.1, 0.5)

    async def _alone(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            await self._client.command(
                "schedule.trigger", {"id": "manual-alone", "key": f"alone-{number}"}
            )
            await self._wait(0.2, 1.2)

    async def _once(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            trigger: dict = {"type": "once", "after": f"{self._rng.choice((0, 1, 4, 9))} seconds"}
            if number % 2:
                at = datetime.now(UTC) + timedelta(seconds=self._rng.uniform(0.5, 15))
                trigger = {"type": "once", "at": at.isoformat(), "allow_past": True}
            body = definition(f"once-{number}", trigger, {"sleep": 0.05})
            await self._client.command("schedule.create", body)
            await self._wait(0.2, 1.0)

    async def _pause(self, number: int) -> None:
        id_ = f"paused-{number}"
        while not self._ending.is_set():
            await self._wait(0.5, 4)
            await self._client.command("schedule.pause", {"id": id_, "note": ""})
            await self._wait(0.1, 5)
            await self._client.command("schedule.resume", {"id": id_, "note": ""})

    async def _edit(self, number: int) -> None:
        edits = 0
        while not self._ending.is_set():
            edits += 1
            await self._wait(0.5, 3)
            marker = f"edit-{number}-{edits}"
            trigger = every(self._rng.choice((1, 1.5, 2)))
            if edits % 3 == 0:
                trigger = {"type": "cron", "expression": "*/2 * * * * *", "timezone": "UTC"}
            body = definition(f"edited-{number}", trigger, {"sleep": 0.05}, description=marker)
            await self._client.command("schedule.update", body, marker=marker)

    async def _plan(self, number: int) -> None:
        """Say something of each occurrence some seconds before it comes, and approve what is held."""
        id_, last = f"planned-{number}", 0
        while not self._ending.is_set():
            await self._wait(0.2, 1.5)
            due = int(datetime.now(UTC).timestamp() / PLANNED + 2) * PLANNED
            if due <= last:
                continue
            last = due
            body: dict = {"id": id_, "at": shown(due), "note": ""}
            what = self._rng.choice(("skip", "move", "move", "hold", "set_payload"))
            if what == "move":
                body["to"] = shown(due + self._rng.choice((-1.5, 0.5, 7)))
            if what == "set_payload":
                body["payload"] = {"sleep": 0.02, "mark": due}
            answer = await self._client.command(f"occurrence.{what}", body)
            if what == "hold" and answer is not None and answer["ok"]:
                await self._wait(3, 9)
                told = {"id": id_, "at": shown(due), "note": ""}
                told["reject"] = self._rng.random() < 0.3
                await self._client.command("occurrence.approve", told)

    async def _backfill(self) -> None:
        begun = datetime.now(UTC)
        while not self._ending.is_set():
            await self._wait(4, 8)
            until = datetime.now(UTC) - timedelta(seconds=1)
            first = max(begun, until - timedelta(seconds=self._rng.uniform(2, 12)))
            body = {"id": "backfilled", "from": first.isoformat(), "to": until.isoformat()}
            await self._client.command("schedule.backfill", body | {"note": ""})

    async def _cycle(self, number: int) -> None:
        """Made, cancelled and made again under the same id."""
        while not self._ending.is_set():
            id_ = f"cycle-{number}"
            limit = {"max_executions": 3} if number else {}
            body = definition(id_, every(1), {"sleep": 0.3}, overlap="allow", **limit)
            await self._client.command("schedule.create", body)
            await self._wait(1, 6)
            await self._client.command("schedule.cancel", {"id": id_, "note": ""})


async def end_all(client: Client, ids: list[str]) -> None:
    """Cancel schedules, so that each has an exact end up to which all must be decided."""
    for id_ in ids:
        await client.command("schedule.cancel", {"id": id_, "note": ""})
