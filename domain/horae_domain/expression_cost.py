"""How much an expression may cost: a bound from above, as a function of the size of its data.

One unit of size is a value or 64 characters; one unit of cost is about what comparing or copying a
unit takes. Loops over nested data can cost the square of the size, and loops in loops more, in time
and in memory, which the library itself does not bound; so an expression has a capacity, the largest
data for which its cost stays within `MAX_COST`, and is not evaluated on more.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple, assert_never

from horae_domain.expression_tree import (
    Access,
    Call,
    Collection,
    Constant,
    Loop,
    Node,
    Variable,
)

MAX_COST = 1_000_000
"""Units that one evaluation may cost: tenths of a second at the very most."""

MAX_SIZE = 32_768
"""Units of data that any expression may be given."""

MAX_LENGTH = 500
"""Elements of a list or map of the data."""

MAX_LOOPS = 3
"""How deep loops may lie in one another."""

_SAME = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_TRUTH = frozenset({"_&&_", "_||_", "!_", "@not_strictly_false"})
_SEARCHED = frozenset({"@in", "size", "contains", "startsWith", "endsWith"})
_PATTERN = 8_000
"""Compiling a unit of a regular expression costs as many units; a literal is compiled once."""

_COPIED = 16
"""So many units of a string are copied at the cost of one."""


class Weight(NamedTuple):
    """Bounds from above: of what evaluating a tree costs, and of what it gives."""

    cost: float
    size: float
    length: float
    """Elements of the value."""
    inner: float
    """Elements of any list or map in the value."""

    @property
    def part(self) -> Weight:
        """A field or an element of it, any of which may be nearly all of it."""
        return self._replace(length=self.inner)


_NOTHING = Weight(0, 0, 0, 0)


def capacity(tree: Node) -> int:
    """The largest size of data on which a tree costs at most `MAX_COST`; 0 if there is none."""
    if depth(tree) > MAX_LOOPS:
        return 0
    return bisect_left(range(1, MAX_SIZE + 1), True, key=lambda size: _too_costly(tree, size))


def _too_costly(tree: Node, size: int) -> bool:
    return weigh(tree, size).cost > MAX_COST


def depth(node: Node) -> int:
    """How deep loops lie in one another."""
    match node:
        case Constant() | Variable():
            return 0
        case Access(operand):
            return depth(operand)
        case Call(_, nodes) | Collection(nodes):
            return max(map(depth, nodes), default=0)
        case Loop():
            inner = max(depth(node.condition), depth(node.step), depth(node.result))
            return max(1 + inner, depth(node.over), depth(node.start))
        case _:
            assert_never(node)


def weigh(node: Node, data: float) -> Weight:
    """The weight of a tree whose variables are no larger than the data."""
    length = min(data, MAX_LENGTH)
    return _weigh(node, {}, Weight(0, data, length, length))


def _weigh(node: Node, bound: dict[str, Weight], data: Weight) -> Weight:
    match node:
        case Constant(size):
            return Weight(0, size, 1, 1)
        case Variable(name):
            return bound.get(name, data)
        case Access(operand):
            part = _weigh(operand, bound, data).part
            return part._replace(cost=part.cost + 1)
        case Collection(elements):
            return _collection([_weigh(each, bound, data) for each in elements])
        case Call(function, arguments):
            weights = [_weigh(each, bound, data) for each in arguments]
            weight = _call(function, weights)
            if function == "matches" and not isinstance(arguments[-1], Constant):
                return weight._replace(cost=weight.cost + _PATTERN * weights[-1].size)
            return weight
        case Loop():
            return _loop(node, bound, data)
        case _:
            assert_never(node)


def _collection(parts: list[Weight]) -> Weight:
    inner = max((max(part.length, part.inner) for part in parts), default=0)
    size = 1 + sum(part.size for part in parts)
    return Weight(sum(part.cost for part in parts) + 1 + len(parts), size, len(parts), inner)


def _call(function: str, arguments: list[Weight]) -> Weight:
    cost = 1 + sum(each.cost for each in arguments)
    sizes = [each.size for each in arguments]
    size, length = sum(sizes), sum(each.length for each in arguments)
    inner = max(each.inner for each in arguments)
    if function in _TRUTH:
        return Weight(cost, 1, 1, 1)
    if function in _SAME:
        return Weight(cost + min(sizes), 1, 1, 1)
    if function in _SEARCHED:
        return Weight(cost + size, 1, 1, 1)
    if function == "matches":
        return Weight(cost + size, 1, 1, 1)
    if function == "_[_]":
        return arguments[0].part._replace(cost=cost)
    if function == "_?_:_":
        return Weight(cost, max(sizes), max(each.length for each in arguments), inner)
    if function == "_+_":
        return Weight(cost + length + size / _COPIED, size, length, inner)
    return Weight(cost + size, 1 + size, length, max(length, inner))


def _loop(loop: Loop, bound: dict[str, Weight], data: Weight) -> Weight:
    """All steps together cost at most as if one element were all of it, and all others were tiny.

    The elements are disjoint parts of what is looped over, and costs grow at least linearly.
    """
    over, start = _weigh(loop.over, bound, data), _weigh(loop.start, bound, data)
    largest = bound | dict.fromkeys(loop.variables, over.part._replace(cost=0))
    smallest = bound | dict.fromkeys(loop.variables, Weight(0, 1, 1, 1))

    def all_steps(node: Node, accumulated: Weight) -> Weight:
        names = {loop.accumulator: accumulated}
        one, many = _weigh(node, largest | names, data), _weigh(node, smallest | names, data)
        return Weight(
            one.cost + over.length * many.cost,
            one.size + over.length * many.size,
            one.length + over.length * many.length,
            max(one.inner, many.inner),
        )

    added = all_steps(loop.step, _NOTHING)
    grown = Weight(
        0, start.size + added.size, start.length + added.length, max(start.inner, added.inner)
    )
    steps = all_steps(loop.step, grown).cost + all_steps(loop.condition, grown).cost
    result = _weigh(loop.result, bound | {loop.accumulator: grown}, data)
    return result._replace(cost=over.cost + start.cost + steps + result.cost)
