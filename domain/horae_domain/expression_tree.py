"""The syntax tree of a compiled expression, as far as its cost and its variables depend on it.

It is read from the library's serialised form: protocol buffers of `cel.expr` (syntax.proto), of
which a few fields are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, assert_never

CHARACTERS = 64
"""Characters of a string that count as one unit of size."""

_CHECKED = b"CheckedExpr"
_TEXTS = frozenset({6, 7})


class Constant(NamedTuple):
    """A literal, with its size in units."""

    size: int


class Variable(NamedTuple):
    """A name, of a variable or of a type."""

    name: str


class Access(NamedTuple):
    """A field of something."""

    operand: Node


class Call(NamedTuple):
    """A function or an operator; the target of a method is its first argument."""

    function: str
    arguments: tuple[Node, ...]


class Collection(NamedTuple):
    """A list, map or message that is written down."""

    elements: tuple[Node, ...]


class Loop(NamedTuple):
    """What a macro such as `all` or `map` becomes."""

    variables: tuple[str, ...]
    over: Node
    accumulator: str
    start: Node
    condition: Node
    step: Node
    result: Node


Node = Constant | Variable | Access | Call | Collection | Loop


def read_tree(serialized: bytes) -> Node:
    """The tree of what the library serialised: a parsed or a checked expression."""
    kind, content = _only(serialized, 1), _only(serialized, 2)
    return _node(_only(content, 4 if kind.endswith(_CHECKED) else 2))


def names(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names that a tree uses and does not bind itself."""
    match node:
        case Constant():
            return
        case Variable(name):
            if name not in bound:
                yield name
        case Access(operand):
            yield from names(operand, bound)
        case Call(_, nodes) | Collection(nodes):
            for each in nodes:
                yield from names(each, bound)
        case Loop():
            inner = bound | {*node.variables, node.accumulator}
            yield from names(node.over, bound)
            yield from names(node.start, bound)
            for each in (node.condition, node.step, node.result):
                yield from names(each, inner)
        case _:
            assert_never(node)


def _node(content: bytes) -> Node:
    number, value = next(
        (number, value)
        for number, value in _fields(content)
        if isinstance(value, bytes) and number in _READERS
    )
    return _READERS[number](value)


def _constant(content: bytes) -> Node:
    size = 1
    for number, value in _fields(content):
        if number in _TEXTS and isinstance(value, bytes):
            size += len(value) // CHARACTERS
    return Constant(size)


def _variable(content: bytes) -> Node:
    return Variable(_only(content, 1).decode())


def _access(content: bytes) -> Node:
    return Access(_node(_only(content, 1)))


def _call(content: bytes) -> Node:
    return Call(_only(content, 2).decode(), tuple(_node(each) for each in _all(content, 1, 3)))


def _list(content: bytes) -> Node:
    return Collection(tuple(_node(each) for each in _all(content, 1)))


def _struct(content: bytes) -> Node:
    entries = _all(content, 2)
    return Collection(tuple(_node(part) for entry in entries for part in _all(entry, 3, 4)))


def _loop(content: bytes) -> Node:
    over, start, condition, step, result = (_node(_only(content, n)) for n in (2, 4, 5, 6, 7))
    variables = tuple(name.decode() for name in _all(content, 1, 8))
    accumulator = _only(content, 3).decode()
    return Loop(variables, over, accumulator, start, condition, step, result)


_READERS = {
    3: _constant,
    4: _variable,
    5: _access,
    6: _call,
    7: _list,
    8: _struct,
    9: _loop,
}


def _only(content: bytes, *numbers: int) -> bytes:
    return next(iter(_all(content, *numbers)), b"")


def _all(content: bytes, *numbers: int) -> list[bytes]:
    return [
        value
        for number, value in _fields(content)
        if number in numbers and isinstance(value, bytes)
    ]


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: numbers of varints, bytes of all else."""
    index = 0
    while index < len(content):
        key, index = _varint(content, index)
        match key & 7:
            case 0:
                value, index = _varint(content, index)
                yield key >> 3, value
            case 2:
                length, index = _varint(content, index)
                yield key >> 3, content[index : index + length]
                index += length
            case _:
                index += 8  # a double; no field of an expression has four bytes


def _varint(content: bytes, index: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[index]
        index += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, index
        shift += 7
