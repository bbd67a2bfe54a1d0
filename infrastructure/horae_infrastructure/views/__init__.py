"""The view stores: in memory, and in Redis or Valkey."""

from __future__ import annotations

from horae_projections.ports import ViewStore

__all__ = ["open_views"]


def open_views(url: str) -> ViewStore:
    """The view store that a URL names; nothing is connected before it is used.

    Args:
        url: `memory://`, `redis://…`, `rediss://…` or `unix://…` (a socket's path).

    Raises:
        ValueError: the URL's scheme is not one of these.
    """
    scheme = url.partition("://")[0]
    match scheme:
        case "memory":
            from horae_infrastructure.views.memory import MemoryViews  # noqa: PLC0415

            return MemoryViews()
        case "redis" | "rediss" | "unix" | "valkey" | "valkeys":
            from horae_infrastructure.views.redis import RedisViews  # noqa: PLC0415

            return RedisViews(url)
        case _:
            raise ValueError(f"{url!r}: views are in redis://, rediss://, unix:// or memory://")
