"""PostgreSQL's binary arrays, packed without a dumper's call for each element.

The driver's own list dumper takes several times as long, and an append has up to ten arrays. The
format is that of `array_recv`: number of dimensions, whether there are nulls, the element's type,
length and lower bound, then for each element its length (-1 for null) and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from psycopg import Connection
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

from horae_domain.identity import to_bytes, to_text

_HEAD = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_BIGINT = struct.Struct("!iq")
_NULL = _LENGTH.pack(-1)


class _Packed:
    """An array ready to be sent."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Bigints(_Packed):
    """A `bigint[]`."""

    __slots__ = ()

    def __init__(self, numbers: Iterable[int | None]) -> None:
        pack = _BIGINT.pack
        super().__init__(_array(20, [_NULL if n is None else pack(8, n) for n in numbers]))


class Uuids(_Packed):
    """A `uuid[]`."""

    __slots__ = ()

    def __init__(self, uuids: Iterable[str]) -> None:
        length = _LENGTH.pack(16)
        super().__init__(_array(2950, [length + to_bytes(uuid) for uuid in uuids]))


class Texts(_Packed):
    """A `text[]`, for a server whose encoding for this client is UTF-8."""

    __slots__ = ()

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__(_array(25, _sized(text.encode() for text in texts)))


class Byteas(_Packed):
    """A `bytea[]`."""

    __slots__ = ()

    def __init__(self, values: Iterable[bytes]) -> None:
        super().__init__(_array(17, _sized(values)))


def register(connection: Connection[tuple[object, ...]]) -> None:
    """Teach a connection to send the arrays of this module, and to read ids as texts."""
    connection.adapters.register_loader("uuid", _Text)
    for kind, oid in ((Bigints, 1016), (Uuids, 2951), (Texts, 1009), (Byteas, 1001)):
        dumper = type(f"{kind.__name__}Dumper", (_Dumper,), {"oid": oid})
        connection.adapters.register_dumper(kind, dumper)


class _Text(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return to_text(bytes(data))


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Packed) -> Buffer:
        return obj.data


def _sized(values: Iterable[bytes]) -> list[bytes]:
    pack = _LENGTH.pack
    return [pack(len(value)) + value for value in values]


def _array(element: int, items: Sequence[bytes]) -> bytes:
    if not items:
        return _HEAD.pack(0, 0, element, 0, 0)[:12]
    nulls = _NULL in items
    return _HEAD.pack(1, nulls, element, len(items), 1) + b"".join(items)
