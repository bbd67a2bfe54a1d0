"""The connection to NATS: it comes back by itself, and its errors are Horae's."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client, Server
from nats.protocol.parser import PERMISSIONS_ERR

from horae_application.log import get_logger
from horae_domain.errors import PayloadTooLarge, Unavailable
from horae_infrastructure.nats.tasks import cancel

_log = get_logger("horae.nats")

Callback = Callable[[], Awaitable[None]]

MAX_PENDING = 8 * 1024 * 1024
"""Bytes that may wait for a connection; what comes beyond is refused at once."""
RECONNECT_WAIT = 0.5
"""Seconds between attempts, plus or minus half, so that a herd does not come back as one."""
FLUSH_TIMEOUT = 5.0
"""Without a limit, a publish that meets a full buffer hangs if the connection breaks (nats-py 2.16)."""


_DENIED = re.compile(re.escape(PERMISSIONS_ERR) + r' for publish to "(?P<subject>[^"]+)"')
_MOST_DENIED = 1_000
"""Subjects that are remembered as refused."""


class Connection(Client):
    """A client that tells whoever asked when it has come back, and what it may not publish."""

    def __init__(self) -> None:
        super().__init__()
        self.on_reconnect: list[Callable[[], None]] = []
        """Called after each reconnection, subscriptions restored; they must not block."""
        self._denied: dict[str, float] = {}
        """When the server refused subjects, monotonic; by their names in lower case, as it is told."""

    def denied(self, subject: str, since: float) -> bool:
        """True if the server has refused to carry a subject since an instant of the monotonic clock."""
        return self._denied.get(subject.lower(), -1.0) >= since

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Drop what is no message: a subject or header that is not UTF-8 ends nats-py's reading."""
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception as error:  # noqa: BLE001 - anybody can publish anything
            _log.warning("nats_message_dropped", subject=repr(subject[:200]), error=repr(error))

    async def _process_err(self, err_msg: str) -> None:
        """Come back after an error that would end nats-py's connection, such as expired credentials.

        Whoever reloads a server's configuration must not leave deaf engines behind.
        """
        if (found := _DENIED.search(err_msg)) is not None:
            if len(self._denied) >= _MOST_DENIED:
                self._denied.clear()
            self._denied[found["subject"]] = time.monotonic()
        if not self.is_connected or PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
        else:
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Drop what waits for a connection that is gone: uvloop refuses to write it there."""
        if not self.is_connected:
            self._pending = []
            self._pending_data_size = 0
        await super()._close(status, do_cbs)


@contextmanager
def driver_errors(what: str) -> Iterator[None]:
    """Translate the driver's errors.

    Raises:
        PayloadTooLarge: the server takes no message of this size.
        Unavailable: anything else; whether it was done is not known.
    """
    try:
        yield
    except nats.errors.MaxPayloadError as error:
        raise PayloadTooLarge(f"{what}: the message is larger than the server allows") from error
    except (nats.errors.Error, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(f"{what}: {reason}", reason=reason) from error


async def connect(
    url: str | list[str],
    *,
    name: str,
    timeout: float = 5.0,  # noqa: ASYNC109 - seconds, as everywhere
    inbox_prefix: str = "_INBOX",
    on_closed: Callback | None = None,
    **options: Any,
) -> Connection:
    """A connection that reconnects for ever, with jitter; `close` ends it.

    Args:
        url: of one server, or of several of a cluster, divided by commas or as a list.
        name: what the server's monitoring shows.
        timeout: seconds for the first connection.
        inbox_prefix: where answers arrive; a tenant with an account of restricted subjects has its own.
        on_closed: called when the connection has ended for good.
        options: of nats-py, such as `user_credentials` or `tls`.

    Raises:
        Unavailable: nobody answered in `timeout` seconds, or the server refused us.
    """
    client = Connection()
    watch = _Watch(client, name, on_closed)
    try:
        with driver_errors(f"cannot connect to {_shown(url)}"):
            await asyncio.wait_for(
                client.connect(
                    url.split(",") if isinstance(url, str) else url,
                    name=name,
                    error_cb=watch.error,
                    disconnected_cb=watch.disconnected,
                    reconnected_cb=watch.reconnected,
                    closed_cb=watch.closed,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds, of any kind
                    reconnect_to_server_handler=_next_server,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    pending_size=MAX_PENDING,
                    flush_timeout=FLUSH_TIMEOUT,
                    inbox_prefix=inbox_prefix,
                    **options,
                ),
                timeout,
            )
    except Unavailable as error:
        await client.close()
        if client.last_error is None:
            raise
        reason = str(client.last_error) or type(client.last_error).__name__
        raise Unavailable(f"cannot connect to {_shown(url)}: {reason}", reason=reason) from error
    watch.established = True
    return client


async def close(client: Client, limit: float = 5.0) -> None:
    """Let subscriptions finish what they hold, send what waits, and end the connection.

    Not under `wait_for`: the driver's drain swallows a cancellation and goes on to wait.
    """
    if client.is_closed:
        return
    draining = asyncio.create_task(client.drain())
    await asyncio.wait({draining}, timeout=limit)
    if not client.is_closed:
        await client.close()
    await cancel(draining)
    if not draining.cancelled() and (error := draining.exception()) is not None:
        _log.info("nats_not_drained", error=str(error))


def _next_server(servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
    """Any server of the pool, after a jittered wait."""
    return random.choice(servers), RECONNECT_WAIT * random.uniform(0.5, 1.5)  # noqa: S311


def _shown(url: str | list[str]) -> str:
    """URLs without their secrets."""
    urls = [url] if isinstance(url, str) else url
    return ", ".join(each.rsplit("@", 1)[-1].removeprefix("nats://") for each in urls)


class _Watch:
    """Logs what happens to a connection."""

    def __init__(self, client: Connection, name: str, on_closed: Callback | None) -> None:
        self.established = False
        self._client = client
        self._log = _log.bind(connection=name)
        self._on_closed = on_closed
        self._last = ""

    async def error(self, error: Exception) -> None:
        """Without a connection each attempt fails alike: the same reason is told once."""
        reason = str(error) or type(error).__name__
        if self._client.is_connected or reason != self._last:
            self._log.warning("nats_error", error=reason)
        self._last = reason

    async def disconnected(self) -> None:
        if not self._client.is_closed:
            self._log.warning("nats_disconnected")

    async def reconnected(self) -> None:
        self._log.info("nats_reconnected")
        self._last = ""
        for listener in self._client.on_reconnect:
            listener()

    async def closed(self) -> None:
        reason = self._client.last_error
        self._log.info("nats_closed", error=None if reason is None else str(reason))
        if self.established and self._on_closed is not None:
            await self._on_closed()
