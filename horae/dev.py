"""`horae dev`: an engine with its servers embedded, and the loop around any serving process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from horae import interpreter
from horae.ending import cancel
from horae_application.log import get_logger
from horae_domain.errors import InvalidField
from horae_infrastructure.settings import EMBEDDED_POSTGRES, SHORT_STORES, Settings

if TYPE_CHECKING:
    from horae.runtime import Runtime
    from horae_infrastructure.embedded import EmbeddedServer

LOOK = 0.5
"""Seconds between looks at the embedded servers."""

_log = get_logger("horae.dev")


# --- surroundings --------------------------------------------------------------------------------


@contextlib.contextmanager
def working_directory(data_dir: Path, *, ephemeral: bool) -> Any:
    """Where the data goes: as told, or to a directory that is removed at the end."""
    if not ephemeral:
        yield data_dir.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="horae-dev-") as temporary:
        yield Path(temporary)


@asynccontextmanager
async def embedded(settings: Settings, *, ephemeral: bool) -> AsyncIterator[Settings]:
    """Settings completed by embedded servers for every URL that was not given.

    The servers are started again if they end, and stopped on leaving.

    Raises:
        EmbeddedServerMissing, EmbeddedServerFailed: one of them does not run.
    """
    from horae_infrastructure.embedded import Nats, Postgres, Valkey

    def data(name: str) -> Path | None:
        return None if ephemeral else settings.data_dir / name

    needed: dict[str, EmbeddedServer] = {}
    if settings.nats_url is None:
        needed["nats_url"] = Nats(data("nats"))
    if settings.redis_url is None:
        needed["redis_url"] = Valkey(data("valkey"))
    if settings.store_url in EMBEDDED_POSTGRES:
        needed["store_url"] = Postgres(data("postgres"))
    try:
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in needed.values()))
        urls = {name: each.url for name, each in needed.items()}
        watching = asyncio.create_task(_keep_alive(list(needed.values())))
        try:
            yield settings.model_copy(update=urls)
        finally:
            await cancel(watching)
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.stop) for each in needed.values()))


def located(settings: Settings) -> Settings:
    """Settings with a store's URL that means the same in every directory."""
    url = SHORT_STORES.get(settings.store_url, settings.store_url)
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        url = f"sqlite:///{settings.data_dir.absolute() / (rest.removeprefix('/') or 'horae.db')}"
    return settings.model_copy(update={"store_url": url})


async def _keep_alive(servers: list[EmbeddedServer]) -> None:
    """Start what has ended again, at the same address and with the same data."""
    while True:
        await asyncio.sleep(LOOK)
        for server in servers:
            if server.alive:
                continue
            _log.warning("embedded server ended, starting it again", server=server.name)
            try:
                await asyncio.to_thread(server.start)
            except Exception as error:  # noqa: BLE001 - it is tried again, and the log says why
                _log.error("embedded server does not start", server=server.name, error=str(error))


# --- the loop of a process -----------------------------------------------------------------------


class Signals:
    """The first SIGINT or SIGTERM asks for an orderly end within a limit, the second ends at once.

    SIGHUP reads the settings again; in a terminal, which has then closed, it is an end, too.

    Args:
        limit: seconds that the orderly end may take.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._reload: Callable[[], None] = _nothing
        self._asked = asyncio.Event()
        self._ready = False
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._heard, number)
        if sys.stderr.isatty():
            loop.add_signal_handler(signal.SIGHUP, self._heard, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def serve(self, runtime: Runtime, configure: Callable[[str], None]) -> None:
        """Have a process that runs take new settings; `configure` takes those of the log."""
        self._reload = Reload(runtime, configure)
        runtime.on_change.append(self._change)

    def _change(self, settings: Settings) -> None:
        self._limit = settings.stop_limit

    async def wait(self) -> None:
        """From now on signals end this wait; before, they cancelled the start."""
        self._ready = True
        await self._asked.wait()

    def _hung_up(self) -> None:
        self._reload()

    def _heard(self, number: int) -> None:
        if self._asked.is_set():
            _end(128 + number)
        self._asked.set()
        _log.info("stopping", within_seconds=self._limit)
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\nhorae: stopping, within {self._limit:g} s; Ctrl-C again ends it at once\n"
            )
        timer = threading.Timer(self._limit, _end, [1])
        timer.daemon = True
        timer.start()
        if not self._ready and self._main is not None:
            self._main.cancel()


def _nothing() -> None:
    """It is too early for new settings: those of the start have just been read."""


class Reload:
    """Reads settings again, and has a running process take those that may change.

    Args:
        runtime: whose settings they are.
        configure: takes what the log is to be.
    """

    def __init__(self, runtime: Runtime, configure: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._configure = configure

    def __call__(self) -> None:
        """Take what the sources say now; nothing of it if one value is out of bounds."""
        before = self._runtime.settings
        try:
            again = before.again()
        except InvalidField as error:
            _log.error("settings not changed", setting=error.field, reason=str(error))
            return
        changed = before.changed(again)
        if "log" in changed:
            self._configure(again.log)
        self._runtime.change(changed)
        _log.warning(
            "settings read again", changed=changed, need_restart=before.needing_restart(again)
        )


def _end(code: int) -> None:
    """End this process; guards end its children when it is gone."""
    sys.stderr.write("horae: ended at once\n")
    sys.stderr.flush()
    os._exit(code)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on uvloop if that is installed, else on asyncio's loop."""
    interpreter.tune()
    try:
        from uvloop import new_event_loop
    except ImportError:
        with asyncio.Runner() as runner:
            runner.run(main())
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
