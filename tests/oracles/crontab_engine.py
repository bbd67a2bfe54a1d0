"""Engines that the crontabs are imported into, asked by the command line as anybody asks them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from launching import environment, start, stop

from horae_infrastructure.nats.announce import Announcement, Announcer
from horae_infrastructure.nats.connection import close, connect

T = TypeVar("T")
Json = dict[str, Any]
PAGE = 1000
"""Rows of one answer."""
SETTLE = 60.0
"""Seconds that what has been done may take to be seen."""
PATIENCE = 600.0
"""Seconds that one command may take, however busy the machine is."""


class Desk:
    """The command line, in processes of its own, pointed at one engine."""

    def __init__(self, nats_url: str, folder: Path) -> None:
        self.nats_url = nats_url
        self._folder = folder

    def horae(self, *arguments: str) -> Json:
        """The document that `horae ARGUMENTS --json` prints.

        Raises:
            RuntimeError: it was refused.
        """
        done = subprocess.run(
            [sys.executable, "-m", "horae", *arguments, "--nats", self.nats_url, "--json"],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"horae {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def import_crontab(self, file: Path, *, system: bool, zone: str, source: str) -> Json:
        """Import a file; lines that cannot be read are reported and left out."""
        style = "--system" if system else "--user"
        told = ("--timezone", zone, "--source", source, "--skip-problems")
        return self.horae("import", "crontab", str(file), style, *told)

    def rows(self, what: str, *, at_least: int = 0) -> list[Json]:
        """All schedules, or all executions; fewer than `at_least` if there are not soon as many."""
        deadline = time.monotonic() + SETTLE
        while True:
            found: list[Json] = []
            page: Json = {"cursor": ""}
            while page["cursor"] is not None:
                more = ("--cursor", page["cursor"]) if page["cursor"] else ()
                page = self.horae(what, "list", "--limit", str(PAGE), *more)
                found += page[f"{what}s"]
            if len(found) >= at_least or time.monotonic() > deadline:
                return found


@contextmanager
def engine(folder: Path, *options: str) -> Iterator[Desk]:
    """A `horae dev`, ended in order.

    Raises:
        RuntimeError: it ended badly.
    """
    running = start(*options, cwd=folder)
    try:
        yield Desk(running.facts["nats_url"], folder)
    finally:
        code = stop(running)
    if code != 0:
        raise RuntimeError(f"horae dev ended with {code}")


def with_idle_engine(folder: Path, work: Callable[[Desk], T]) -> T:
    """Do `work` with an engine that takes commands of crontabs and runs none of them.

    It would refuse them if nobody ran commands; so an executor is announced that asks for no work.
    """

    async def announced(desk: Desk) -> T:
        connection = await connect([desk.nats_url], name="idle")
        said = Announcement(executor="idle", tenant="default", app="idle", processes=True)
        idle = Announcer(connection, said)
        await idle.start()
        try:
            return await asyncio.to_thread(work, desk)
        finally:
            await idle.stop()
            await close(connection)

    with engine(folder, "--ephemeral", "--no-processes") as desk:
        return asyncio.run(announced(desk))
