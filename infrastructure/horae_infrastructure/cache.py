"""Redis or Valkey for handlers: one client of a process, made when one first asks for it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from horae_application.errands import NoCache

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT = 5.0
"""Seconds that a connection, or an answer, may take."""


class RedisCache:
    """The client of one server.

    Args:
        url: `redis://…`, `rediss://…`, `unix://…`, `valkey://…`; None or `memory://` is no server.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._client: Redis | None = None

    def client(self) -> Redis:
        """The client, for the application's event loop.

        Raises:
            NoCache: no server is configured, or the extra `redis` is not installed.
        """
        if self._client is None:
            self._client = self._connected()
        return self._client

    def _connected(self) -> Redis:
        if self._url is None or self._url.startswith("memory://"):
            raise NoCache("no cache: HORAE_CACHE_URL and HORAE_REDIS_URL name no server")
        if find_spec("redis") is None:
            raise NoCache("no cache: it needs the extra horae[redis]")
        from redis.asyncio import Redis  # noqa: PLC0415 - of an extra

        url = self._url
        if url.startswith("valkey"):
            url = "redis" + url.removeprefix("valkey")
        return Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
