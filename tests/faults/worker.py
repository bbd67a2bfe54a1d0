"""A worker of a queue that is written against the documented messages alone, with plain nats-py.

Every sixth piece of work is tardy: it is reported, under its first lease, only after its timeout.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
import zlib
from pathlib import Path

import nats
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

sys.path.insert(0, str(Path(__file__).parent))

from journal import Journal, die_with_parent

QUEUE = "reports"
TARDY = 3.0
"""Seconds that a tardy one takes; the schedules allow two."""
SLOTS = 20

ledger = Journal(os.environ["FAULTS_LEDGER"])
intents = Journal(os.environ["FAULTS_INTENTS"])


async def ask(nc, name: str, body: dict) -> dict:
    """Ask until answered; the same request again is harmless by the interface's word."""
    while True:
        try:
            msg = await nc.request(
                f"horae.default.command.{name}", json.dumps(body).encode(), timeout=2
            )
        except (nats.errors.Error, OSError, TimeoutError):
            await asyncio.sleep(0.3)
            continue
        reply = json.loads(msg.data)
        if reply["ok"] or (msg.headers or {}).get("Nats-Service-Error-Code") not in {"503", "429"}:
            return reply
        await asyncio.sleep(0.3)


def fields(work: dict, lease: str, nonce: str) -> dict:
    return {
        "execution": work["execution_id"],
        "schedule": work["schedule_id"],
        "attempt": work["attempt"],
        "lease": lease,
        "due": work["due"],
        "nonce": nonce,
    }


async def do(nc, msg) -> None:
    work = json.loads(msg.data)
    about = {"execution_id": work["execution_id"], "attempt": work["attempt"]}
    taken = await ask(
        nc, "execution.start", about | {"lease": work["lease"], "worker": f"worker-{os.getpid()}"}
    )
    if not taken["ok"]:
        await msg.ack()
        return
    lease, nonce = taken["lease"], uuid.uuid4().hex
    said = fields(work, lease, nonce)
    intents.note(op="start", id=nonce, outcome="ok", reply=taken, **said)
    await asyncio.to_thread(lambda: ledger.note(what="start", **said))
    tardy = work["attempt"] == 1 and zlib.crc32(work["execution_id"].encode()) % 6 == 0
    await asyncio.sleep(TARDY if tardy else 0.3)
    await asyncio.to_thread(lambda: ledger.note(what="end", **said))
    report = about | {"lease": lease, "outcome": "succeeded", "result": {"nonce": nonce}}
    answer = await ask(nc, "execution.report", report)
    intents.note(
        op="report", id=nonce, outcome="ok" if answer["ok"] else "fail", reply=answer, **said
    )
    await msg.ack()


async def pull(nc, slots: asyncio.Semaphore) -> None:
    """Pull one message for each free slot, for ever."""
    js = nc.jetstream()
    config = ConsumerConfig(
        durable_name=f"work=default={QUEUE}",
        filter_subject=f"horae.default.work.{QUEUE}.*",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=10,
    )
    tasks = set()
    while True:
        try:
            await js.add_consumer("HORAE_WORK", config)
            subscription = await js.pull_subscribe_bind(config.durable_name, "HORAE_WORK")
            while True:
                await slots.acquire()
                try:
                    [msg] = await subscription.fetch(1, timeout=2)
                except BaseException:
                    slots.release()
                    raise
                task = asyncio.create_task(do(nc, msg))
                tasks.add(task)
                task.add_done_callback(lambda done: (tasks.discard(done), slots.release()))
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        except (nats.errors.Error, OSError):
            await asyncio.sleep(0.5)


async def quiet(_error: Exception) -> None:
    """Reconnections are the point of the exercise."""


async def main(url: str) -> None:
    nc = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.3, error_cb=quiet, ping_interval=5
    )
    print("ready", flush=True)
    await pull(nc, asyncio.Semaphore(SLOTS))


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(sys.argv[1]))
