"""The view store in Redis or Valkey.

Every version has a hash tag of its own, so that all its keys are on one shard, and the name of a
key tells its type:

```
horae:{views}:live                                    the name of the live version
horae:{views}:versions                                set of the names of all
horae:{views.VERSION}:position
horae:{views.VERSION}:rTABLE:TENANT                   hash, id → text NUL row
horae:{views.VERSION}:oTABLE:LENGTH:TENANT:ORDER:CELL sorted set
horae:{views.VERSION}:sTABLE:LENGTH:TENANT:SET        set of ids
```

Rows of an order by number are its members, with the number as the score; members of an order by
text are `text NUL id`, or the id alone where it is the text, with score 0. The tenant's length keeps a tenant with a colon in its name
from reading another one's index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files
from typing import Any

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from horae_projections.ports import (
    INFINITY,
    Change,
    Key,
    Listing,
    Mark,
    Page,
    Rows,
    StaleProjector,
    Step,
    ViewMisconfigured,
    ViewUnavailable,
)

BUDGET = 20_000
"""Index entries that one call looks at: about 10 ms of the server; a longer walk is several calls."""
TIMEOUT = 5.0
"""Seconds until a silent server counts as gone."""

LIVE = "horae:{views}:live"
VERSIONS = "horae:{views}:versions"

_pack = msgspec.msgpack.encode


def _script(name: str) -> str:
    return files("horae_infrastructure.views").joinpath(name).read_text(encoding="utf-8")


_APPLY = _script("apply.lua")
_PAGE = _script("page.lua")
_ROWS = _script("rows.lua")
_SWAP = _script("swap.lua")


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise ViewUnavailable(f"the view store: {type(error).__name__}: {error}") from error


class RedisViews:
    """A `ViewStore` in Redis or Valkey.

    Args:
        url: `redis://…`, `rediss://…`, `unix://…`; `valkey://` means `redis://`.
    """

    def __init__(self, url: str) -> None:
        if url.startswith("valkey"):
            url = "redis" + url.removeprefix("valkey")
        self._redis: Any = redis.asyncio.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            # A connection that the server's restart broke is tried once more on a new one; an
            # applied step that is sent again is refused as stale.
            retry=Retry(NoBackoff(), 1),
        )
        self._cached: str | None = None

    # --- versions ---------------------------------------------------------------------------------

    async def check(self) -> None:
        """See that the server answers and never evicts; see the port."""
        async with _translated():
            memory = await self._redis.info("memory")
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise ViewMisconfigured(
                f"maxmemory-policy is {policy}, which would evict rows; it has to be noeviction"
            )

    async def live(self) -> str | None:
        """The name of the live version."""
        async with _translated():
            name = await self._redis.get(LIVE)
        self._cached = None if name is None else name.decode()
        return self._cached

    async def publish(self, version: str | None, *, instead_of: str | None) -> bool:
        """Make a version the live one and forget all others; see the port."""
        async with _translated():
            arguments = (instead_of or "", version or "")
            if not await self._redis.eval(_SWAP, 1, LIVE, *arguments):
                return False
            self._cached = version
            names = [name.decode() for name in await self._redis.smembers(VERSIONS)]
        for name in names:
            if name != version:
                await self.drop(name)
        return True

    async def drop(self, version: str) -> None:
        """Forget a version, its position first, the rest a few keys at a time."""
        prefix = _prefix(version)
        async with _translated():
            await self._redis.delete(prefix + "position")
            cursor = 0
            while True:
                cursor, keys = await self._redis.scan(cursor, match=prefix + "*", count=1000)
                if keys:
                    await self._redis.unlink(*keys)
                if cursor == 0:
                    break
            await self._redis.srem(VERSIONS, version)

    async def position(self, version: str) -> str | None:
        """Where a version stands."""
        async with _translated():
            position = await self._redis.get(_prefix(version) + "position")
        return None if position is None else str(position.decode())

    # --- writing ----------------------------------------------------------------------------------

    async def apply(self, version: str, steps: Sequence[Step]) -> None:
        """Take steps in one round trip; see the port."""
        prefix = _prefix(version)
        async with _translated():
            pipeline = self._redis.pipeline(transaction=False)
            for step in steps:
                if step.expected is None:
                    pipeline.sadd(VERSIONS, version)
                operations = _pack(_operations(prefix, step.changes))
                arguments = (step.expected or "", step.position, operations)
                pipeline.eval(_APPLY, 1, prefix + "position", *arguments)
            replies = await pipeline.execute()
        for reply in replies:
            if isinstance(reply, list) and not reply[0]:
                raise StaleProjector(reply[1].decode() or None)

    async def load(self, version: str, keys: Sequence[Key]) -> list[bytes | None]:
        """Rows of a version."""
        prefix = _prefix(version)
        wanted: dict[str, list[str]] = {}
        for key in keys:
            wanted.setdefault(_hash(prefix, key.table, key.tenant), []).append(key.id)
        found: dict[tuple[str, str], bytes | None] = {}
        async with _translated():
            pipeline = self._redis.pipeline(transaction=False)
            for name, ids in wanted.items():
                pipeline.hmget(name, ids)
            replies = await pipeline.execute() if wanted else []
        for (name, ids), reply in zip(wanted.items(), replies, strict=True):
            found.update(zip(((name, id_) for id_ in ids), map(_row, reply), strict=True))
        return [found[_hash(prefix, key.table, key.tenant), key.id] for key in keys]

    # --- reading ----------------------------------------------------------------------------------

    async def rows(self, keys: Sequence[Key]) -> Rows:
        """Rows of the live version."""

        def arguments(prefix: str) -> list[Any]:
            return [part for key in keys for part in (_hash(prefix, key.table, key.tenant), key.id)]

        position, rows = await self._read(_ROWS, arguments)
        return Rows(position.decode(), [_row(row) for row in rows])

    async def page(self, listing: Listing) -> Page:
        """A page of the live version; a long walk takes several calls."""
        rows: list[tuple[str, bytes]] = []
        first, after, left = None, listing.after, listing.limit
        while True:
            asked = listing._replace(after=after, limit=left)
            totals = listing.totals and first is None
            reply = await self._read(
                _PAGE,
                lambda prefix, asked=asked, totals=totals: [
                    _question(prefix, asked, totals=totals)
                ],
            )
            first = first or reply
            marks, more, stopped = reply[2], reply[3], reply[4]
            rows += [
                (marks[at + 2].decode(), _row(marks[at + 3]) or b"")
                for at in range(0, len(marks), 4)
            ]
            if marks:
                after = _mark(listing, marks[-4:-1])
            if more or not stopped:
                return Page(first[0].decode(), first[1], rows, after if more else None)
            after, left = _mark(listing, stopped), listing.limit - len(rows)

    async def _read(self, script: str, arguments: Any) -> Any:
        """The reply of a script about the live version, which another projector may replace."""
        for version in (self._cached, None):
            name = version or await self.live()
            if name is None:
                break
            prefix = _prefix(name)
            async with _translated():
                reply = await self._redis.eval(script, 1, prefix + "position", *arguments(prefix))
            if reply:
                return reply
        raise ViewUnavailable("the view is being built")

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()


# --- names ---------------------------------------------------------------------------------------


def _prefix(version: str) -> str:
    return f"horae:{{views.{version}}}:"


def _hash(prefix: str, table: str, tenant: str) -> str:
    return f"{prefix}r{table}:{tenant}"


def _orders(prefix: str, table: str, tenant: str) -> str:
    return f"{prefix}o{table}:{len(tenant)}:{tenant}:"


def _sets(prefix: str, table: str, tenant: str) -> str:
    return f"{prefix}s{table}:{len(tenant)}:{tenant}:"


@lru_cache(1024)
def _names(prefix: str, table: str, tenant: str) -> tuple[str, str, str]:
    """Of the rows of a table, and what those of its orders and of its sets begin with."""
    return (
        _hash(prefix, table, tenant),
        _orders(prefix, table, tenant),
        _sets(prefix, table, tenant),
    )


def _row(stored: bytes | None) -> bytes | None:
    return None if stored is None else stored[stored.index(b"\0") + 1 :]


# --- operations ----------------------------------------------------------------------------------


_COMMANDS = ("HDEL", "SREM", "ZREM", "HSET", "SADD", "ZADD")
"""Of a step, in this order: a place that a row keeps with another key is dropped and added."""
PIECE = 4_000
"""Arguments of one command, some of which are pairs; Lua passes no more than 8,000."""


def _operations(prefix: str, changes: Sequence[Change]) -> list[list[Any]]:
    """The commands of a step, those on one key as one, or as few as `PIECE` allows."""
    grouped: list[defaultdict[str, list[Any]]] = [defaultdict(list) for _ in _COMMANDS]
    hdel, srem, zrem, hset, sadd, zadd = grouped
    for (table, tenant, id_), row, text, added, dropped in changes:
        rows, orders, sets = _names(prefix, table, tenant)
        if row is None:
            hdel[rows].append(id_)
        else:
            hset[rows] += (id_, _text(text.encode() + b"\0" + row))
        for place, key in dropped.items():
            if key is None:
                srem[sets + place].append(id_)
            else:
                zrem[orders + place].append(_member(key, id_))
        for place, key in added.items():
            if key is None:
                sadd[sets + place].append(id_)
            elif isinstance(key, str):
                zadd[orders + place] += ("0", _member(key, id_))
            else:
                zadd[orders + place] += (_number(key), id_)
    return [
        [command, name, *arguments[start : start + PIECE]]
        for command, names in zip(_COMMANDS, grouped, strict=True)
        for name, arguments in names.items()
        for start in range(0, len(arguments), PIECE)
    ]


def _member(key: float | str, id_: str) -> str:
    """A row in an order; where the text is the id, it stands once."""
    if not isinstance(key, str) or key == id_:
        return id_
    return f"{key}\0{id_}"


def _text(content: bytes) -> msgspec.Raw:
    """Bytes as a MessagePack string: the server's decoder is older than the binary type."""
    size = len(content)
    if size < 1 << 8:
        return msgspec.Raw(b"\xd9" + size.to_bytes(1, "big") + content)
    if size < 1 << 16:
        return msgspec.Raw(b"\xda" + size.to_bytes(2, "big") + content)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + content)


def _number(value: float) -> str:
    return "+inf" if value == INFINITY else str(int(value))


# --- listings ------------------------------------------------------------------------------------


def _question(prefix: str, listing: Listing, *, totals: bool) -> bytes:
    sets = _sets(prefix, listing.table, listing.tenant)
    after = listing.after
    return _pack(
        {
            "prefix": _orders(prefix, listing.table, listing.tenant),
            "rows": _hash(prefix, listing.table, listing.tenant),
            "scratch": prefix + "scratch",
            "order": listing.order,
            "base": listing.base,
            "text": listing.text,
            "groups": listing.groups,
            "within": [
                (each.order, _number(each.low), _number(each.high)) for each in listing.within
            ],
            "all_of": [sets + name for name in listing.all_of],
            "any_of": [sets + name for name in listing.any_of],
            "only": listing.only,
            "contains": listing.contains,
            "descending": listing.descending,
            "after": after and (after.group, _key(after.key), after.id),
            "limit": listing.limit,
            "budget": BUDGET,
            "totals": totals,
        }
    )


def _key(key: float | str) -> str:
    return key if isinstance(key, str) else _number(key)


def _mark(listing: Listing, parts: Sequence[bytes]) -> Mark:
    group, key, id_ = parts
    value: float | str = key.decode()
    if not listing.text:
        number = float(key)
        value = number if number == INFINITY else int(number)
    return Mark(int(group), value, id_.decode())
