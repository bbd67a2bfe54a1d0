"""One process of the system under test: `python node.py ROLES`, settings from the environment.

Its handlers note in the ledger when they begin and when they end, and sync it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from journal import Journal, die_with_parent

from horae import Context, Horae
from horae_infrastructure.settings import Settings

app = Horae("faults")
ledger = Journal(os.environ["FAULTS_LEDGER"])
told = os.dup(1)
os.dup2(2, 1)  # logs go where errors go; what is told is one word


async def note(what: str, ctx: Context, nonce: str) -> None:
    fields = {
        "what": what,
        "execution": ctx.execution_id,
        "schedule": ctx.schedule_id,
        "attempt": ctx.attempt,
        "lease": ctx.lease,
        "due": ctx.due.isoformat(),
        "nonce": nonce,
    }
    await asyncio.to_thread(lambda: ledger.note(**fields))


@app.handler("work")
async def work(ctx: Context, payload: dict) -> dict:
    """Sleep, then fail as often as the payload says, then succeed; the nonce says which run it was."""
    nonce = uuid.uuid4().hex
    await note("start", ctx, nonce)
    await asyncio.sleep(payload.get("sleep", 0))
    await note("end", ctx, nonce)
    if ctx.attempt <= payload.get("fail", 0):
        raise RuntimeError(nonce)
    return {"nonce": nonce}


async def main(roles: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app.serve(Settings.read(), roles=roles):
        os.write(told, b"ready\n")
        await stop.wait()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(tuple(sys.argv[1].split(","))))
