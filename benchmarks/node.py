"""A process under test in some roles, and a handler that notes when it was due and when it began."""

from __future__ import annotations

import array
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from horae import Context, Horae, interpreter
from horae_infrastructure.settings import Settings

app = Horae("bench")
records = array.array("d")


@app.handler("note")
async def note(ctx: Context) -> None:
    sent = ctx.confirmations[-1]["data"]["sent"] if ctx.confirmations else ctx.due.timestamp()
    records.append(sent)
    records.append(time.time())


def dump() -> None:
    path = Path(os.environ["BENCH_RECORDS"])
    path.with_suffix(".new").write_bytes(records.tobytes())
    path.with_suffix(".new").replace(path)


def forget() -> None:
    records.clear() if hasattr(records, "clear") else records.__delitem__(slice(None))
    dump()


async def main(roles: tuple[str, ...]) -> None:
    interpreter.tune()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, dump)
    loop.add_signal_handler(signal.SIGUSR2, forget)
    async with app.serve(Settings.read(), roles=roles):
        print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
        await stopped.wait()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main(tuple(sys.argv[1].split(","))))
    except ImportError:
        asyncio.run(main(tuple(sys.argv[1].split(","))))
