"""One process: `python node.py ROLES`, settings from the environment.

Its handler notes in the file `LEDGER` when it begins and when it ends; lines of all processes are in
one order, because each is one write to a file opened for appending.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys

from horae import Context, Horae
from horae_infrastructure.settings import Settings

app = Horae("limits")
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
told = os.dup(1)
os.dup2(2, 1)
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with whoever started it


def note(what: str, ctx: Context) -> None:
    line = {"what": what, "run": f"{ctx.execution_id} {ctx.lease}", "pid": os.getpid()}
    os.write(ledger, json.dumps(line).encode() + b"\n")


@app.handler("work")
async def work(ctx: Context) -> None:
    note("start", ctx)
    await asyncio.sleep(0.05)
    note("end", ctx)


async def main(roles: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app.serve(Settings.read(), roles=roles):
        os.write(told, b"ready\n")
        await stop.wait()


asyncio.run(main(tuple(sys.argv[1].split(","))))
