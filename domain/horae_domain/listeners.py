"""Who waits for which external event: from its type and its data to schedules and executions.

The index is a plain structure in memory. What a listener wants of the data is compared by a digest of the
values, so that one event among 100,000 that wait is found by one look for each set of paths that is in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from horae_domain.identity import PARTITIONS, to_bytes, to_text

OUTCOME = "\0outcome:"
"""What the outcomes of a schedule are listened for as, before its id; no publisher can use it."""

Match = tuple[tuple[str, Any], ...]
"""Dotted paths into an event's data, in order, each with the JSON value that has to stand there."""


class Role(StrEnum):
    """What an event is to its listener, in the order in which listeners learn of it."""

    CANCEL = "cancel"
    """It ends the execution."""
    CONFIRM = "confirm"
    """The execution waits for it."""
    TRIGGER = "trigger"
    """It makes the schedule fire."""
    KEEP = "keep"
    """An execution to come may look back at it: it is recorded, and nothing else."""


ORDER = tuple(Role)


class Listener(NamedTuple):
    """Who listens: a schedule by its stream, or with an id one of its executions."""

    role: Role
    stream: str
    execution_id: str | None = None


class _Interest(NamedTuple):
    tenant: str
    event: str
    listener: Listener
    match: Match = ()


class Interest(_Interest):
    """What a listener wants to hear of: a type, or a pattern of types, with values in the data."""

    @cached_property
    def key(self) -> tuple[Paths, bytes]:
        """The paths that it looks at, and a digest of the values that have to stand there."""
        ordered = sorted(self.match)
        return tuple(path for path, _ in ordered), _digest(tuple(value for _, value in ordered))

    @cached_property
    def packed(self) -> bytes:
        """Its listener, in the form that is held."""
        return _pack(self.listener)


Paths = tuple[str, ...]
Table = dict[bytes, dict[bytes, None]]
"""By the digest of the values, the packed listeners."""
Group = dict[Paths, Table]
"""All that listen for one type or pattern, by the paths that they look at."""


class Node:
    """A token of the patterns of types."""

    __slots__ = ("group", "next")

    def __init__(self) -> None:
        self.next: dict[str, Node] = {}
        self.group: Group = {}


class Listeners:
    """All listeners of some partitions."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str], Group] = {}
        self._patterns: dict[str, Node] = {}
        self._count = 0
        self.partitions: Counter[int] = Counter()
        """How many listen in each."""
        self.outcomes = 0
        """How many were added that listen for outcomes; those removed are counted, too."""

    def __len__(self) -> int:
        return self._count

    def add(self, interest: Interest) -> None:
        """Let somebody listen from now on."""
        paths, digest = interest.key
        table = self._group(interest.tenant, interest.event).setdefault(paths, {})
        held = table.setdefault(digest, {})
        packed = interest.packed
        if packed not in held:
            held[packed] = None
            self._counted(packed, 1)
            self.outcomes += interest.event.startswith(OUTCOME)

    def remove(self, interest: Interest) -> None:
        """Let it be as if it had not been added."""
        paths, digest = interest.key
        group = self._group(interest.tenant, interest.event)
        held = group.get(paths, {}).get(digest, {})
        packed = interest.packed
        if held.pop(packed, _ABSENT) is _ABSENT:
            return
        self._counted(packed, -1)
        if not held:
            del group[paths][digest]
            if not group[paths]:
                del group[paths]
        self._forget_empty(interest)

    def match(self, tenant: str, type_: str, data: Any) -> list[Listener]:
        """Who listens for an event: cancels first, then confirmations, then triggers."""
        found: dict[bytes, None] = {}
        for group in self._groups(tenant, type_):
            for paths, table in group.items():
                values = tuple(value_at(data, path) for path in paths)
                if MISSING not in values:
                    found |= table.get(_digest(values), _NOBODY)
        return sorted(map(_unpack, found), key=_order)

    def hears(self, tenant: str, type_: str) -> bool:
        """True if anybody listens for a type, whatever its data."""
        return any(self._groups(tenant, type_))

    def drop(self, partitions: Container[int]) -> None:
        """Forget all listeners of some partitions."""
        for partition in [each for each in self.partitions if each in partitions]:
            del self.partitions[partition]
        for group in self._all():
            for paths, table in list(group.items()):
                for digest, held in list(table.items()):
                    kept = {each: None for each in held if each[1] % PARTITIONS not in partitions}
                    self._count -= len(held) - len(kept)
                    if kept:
                        table[digest] = kept
                    else:
                        del table[digest]
                if not table:
                    del group[paths]
        self._types = {key: group for key, group in self._types.items() if group}

    def _counted(self, packed: bytes, by: int) -> None:
        self._count += by
        partition = packed[1] % PARTITIONS
        self.partitions[partition] += by
        if not self.partitions[partition]:
            del self.partitions[partition]

    def _group(self, tenant: str, event: str) -> Group:
        if not is_pattern(event):
            return self._types.setdefault((tenant, event), {})
        node = self._patterns.setdefault(tenant, Node())
        for token in event.split("."):
            node = node.next.setdefault(token, Node())
        return node.group

    def _groups(self, tenant: str, type_: str) -> Iterator[Group]:
        exact = self._types.get((tenant, type_))
        if exact:
            yield exact
        root = self._patterns.get(tenant)
        if root is not None and not type_.startswith(OUTCOME):
            yield from _matching(root, type_.split("."))

    def _all(self) -> Iterator[Group]:
        yield from self._types.values()
        waiting = list(self._patterns.values())
        while waiting:
            node = waiting.pop()
            waiting += node.next.values()
            yield node.group

    def _forget_empty(self, interest: Interest) -> None:
        key = (interest.tenant, interest.event)
        if not self._types.get(key, True):
            del self._types[key]


def is_pattern(event: str) -> bool:
    """True if it stands for several types: `*` for one token, `>` for all that follow."""
    return "*" in event or ">" in event


def _matching(root: Node, tokens: list[str]) -> Iterator[Group]:
    nodes = [root]
    for token in tokens:
        for node in nodes:
            if (rest := node.next.get(">")) is not None:
                yield rest.group
        nodes = [
            found for node in nodes for name in (token, "*")
            if (found := node.next.get(name)) is not None
        ]  # fmt: skip
    for node in nodes:
        yield node.group


# --- values --------------------------------------------------------------------------------------


class _Missing:
    """What stands where a path leads nowhere."""


MISSING = _Missing()
_ABSENT = object()
_NOBODY: dict[bytes, None] = {}
_json = msgspec.json.Encoder(order="sorted").encode


def value_at(data: Any, path: str) -> Any:
    """The value at a dotted path through objects, `MISSING` if it leads nowhere."""
    value = data
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def same_at(data: Any, path: str, value: Any) -> bool:
    """True if a JSON value stands at a dotted path; 1 and 1.0 are one number, and true is none."""
    found = value_at(data, path)
    return found is not MISSING and _digest((found,)) == _digest((value,))


def _digest(values: tuple[Any, ...]) -> bytes:
    """Equal for equal JSON values; 1 and 1.0 are one number, and true is none."""
    return blake2b(_json([_plain(value) for value in values]), digest_size=16).digest()


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# --- packed listeners ----------------------------------------------------------------------------


def _pack(listener: Listener) -> bytes:
    run = b"" if listener.execution_id is None else to_bytes(listener.execution_id)
    return bytes([ORDER.index(listener.role)]) + to_bytes(listener.stream) + run


def _unpack(packed: bytes) -> Listener:
    run = to_text(packed[17:]) if len(packed) > 17 else None  # noqa: PLR2004 - role, stream
    return Listener(ORDER[packed[0]], to_text(packed[1:17]), run)


def _order(listener: Listener) -> int:
    return ORDER.index(listener.role)
