"""A relay in a process of its own, for tests that kill it.

`python relaying.py DATABASE STORE HOW` delivers the outbox of a database into an engine of its own
on a store. With `stall` it stands still when the engine has answered, before anything is marked, and
says so on standard output; with `once` it ends after one pass.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from outboxes import app, outbox
from sqlalchemy import create_engine

from horae.client import Client
from horae.outbox import Relay


class Stalling(Client):
    """Stands still once the second command has been answered."""

    answered = 0

    async def command(self, name: str, body: Mapping[str, Any], **told: Any) -> dict[str, Any]:
        answer = await super().command(name, body, **told)
        self.answered += 1
        if self.answered == 2:
            print("answered", flush=True)
            await asyncio.Event().wait()
        return answer


async def main(database: str, store: str, how: str) -> None:
    async with app.embedded(store) as engine:
        client = Stalling(engine._caller) if how == "stall" else engine
        print(await Relay(outbox, create_engine(database), client).run_once(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
