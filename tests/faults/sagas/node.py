"""One process of the worked examples: `python node.py ROLES`, settings from the environment.

What handlers do lasts a while, so that a kill can fall into it, and is noted in the ledger.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from journal import Journal, die_with_parent

from examples.sagas import base
from horae import Context, Horae
from horae_application.registry import inspect_handler
from horae_infrastructure.settings import Settings

LASTS = 2.0
"""Seconds that a handler works before what it does is done."""
ledger = Journal(os.environ["FAULTS_LEDGER"])
told = os.dup(1)
os.dup2(2, 1)  # logs go where errors go; what is told is one word
kept = base.keep


def keep(ctx, kind: str, text: str) -> str:
    """Do it as the examples do, and note it."""
    about = {"execution": ctx.execution_id, "lease": ctx.lease, "kind": kind, "text": text}
    ledger.note(what="start", **about)
    time.sleep(LASTS)
    done = kept(ctx, kind, text)
    ledger.note(what="end", **about)
    return done


def market_is_open(ctx: Context) -> bool:
    """By turns: the market's own hours may be far away."""
    return int(ctx.due.timestamp()) // 6 % 2 == 0


def examples() -> Horae:
    """The application, with its effects noted."""
    base.keep = keep
    from examples.sagas.app import app, operations

    operations.CLOSES = operations.OPENS  # so that a migration always has to wait
    app.registry.checks._put(inspect_handler("market-open", market_is_open))
    return app


async def main(roles: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = examples() if "executor" in roles else Horae("engine")
    async with app.serve(Settings.read(), roles=roles):
        os.write(told, b"ready\n")
        await stop.wait()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(tuple(sys.argv[1].split(","))))
