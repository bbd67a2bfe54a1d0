"""Expressions in CEL: filters of events, conditions over a check's data (O8).

The library is an optional dependency and is imported when the first expression is compiled. What an
expression may be is bounded: its text, its result (a boolean), the lists that it sees, and its cost
(`horae_domain.expression_cost`). A failed evaluation is an error, never false.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from horae_domain.errors import ExpressionFailed, InvalidExpression
from horae_domain.expression_cost import MAX_LENGTH, MAX_LOOPS, MAX_SIZE, capacity, depth
from horae_domain.expression_tree import CHARACTERS, names, read_tree

MAX_TEXT = 2000
"""Characters of an expression."""

MAX_DEPTH = 64
"""How deep lists and maps of the data may lie in one another."""

MIN_CAPACITY = 64
"""An expression that could not be evaluated on data of this size is refused."""

EXTRA = "expressions"
"""The extra of the distribution that brings the library."""

NUL = "\0"

_INTEGERS = range(-(2**63), 2**64)
_TYPES = frozenset(
    [
        "bool",
        "bytes",
        "double",
        "dyn",
        "google",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
    ]
)


class Facts(NamedTuple):
    """The variables of an evaluation, found to be within bounds; made by `facts_of`."""

    values: Mapping[str, Any]
    size: int


class Expression:
    """A compiled expression; made by `compile_expression`, immutable, for any thread."""

    def __init__(self, text: str, program: Any, limit: int) -> None:
        self.text = text
        self.capacity = limit
        """The size of the largest facts on which it is evaluated."""
        self._program = program

    def holds(self, facts: Facts) -> bool:
        """Whether it is true of the facts.

        Raises:
            ExpressionFailed: it cannot be evaluated on these facts, or gives no boolean.
        """
        if facts.size > self.capacity:
            raise ExpressionFailed(
                f"the data is too large for this expression: {facts.size} units, "
                f"of which it may see {self.capacity}",
                value=self.text,
            )
        result = _evaluate(self._program, facts, self.text)
        if not isinstance(result, bool):
            raise ExpressionFailed(
                f"the expression gave {type(result).__name__}, not a boolean", value=self.text
            )
        return result


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Variables and their JSON values, checked against the bounds.

    Raises:
        ExpressionFailed: a list, an integer, the depth or the whole is over its bound, or a text
            has a NUL character.
    """
    return Facts(values, _measure(values))


def holds(text: str, values: Mapping[str, Any], variables: frozenset[str] | None = None) -> bool:
    """Whether an expression is true of variables; both errors of the above."""
    return compile_expression(text, variables).holds(facts_of(values))


def compile_expression(
    text: str, variables: frozenset[str] | None = None, *, field: str | None = None
) -> Expression:
    """Compile an expression whose variables have any type; kept for the next time.

    Args:
        text: the expression, at most 2,000 characters.
        variables: the names that it may use; None is any name, and one that has no value then
            fails at the evaluation.
        field: where the text stands in the request, for the error.

    Raises:
        InvalidExpression: it is none, is too long or too costly, or cannot be a boolean; or the
            library is not installed.
    """
    try:
        return _compile(text, variables)
    except InvalidExpression as error:
        raise InvalidExpression(error.message, field=field, value=text) from error


@lru_cache(maxsize=4096)
def _compile(text: str, variables: frozenset[str] | None) -> Expression:
    if len(text) > MAX_TEXT:
        raise InvalidExpression(f"an expression has at most {MAX_TEXT:,} characters")
    if variables is None:
        parsed = _program(text, frozenset(), checked=False)
        variables = frozenset(names(read_tree(parsed.serialize()))) - _TYPES
    program = _program(text, variables)
    if str(program.return_type()) not in {"BOOL", "DYN"}:
        raise InvalidExpression(
            f"an expression gives a boolean; this one gives {program.return_type()}"
        )
    tree = read_tree(program.serialize())
    limit = capacity(tree)
    if depth(tree) > MAX_LOOPS:
        raise InvalidExpression(f"loops lie at most {MAX_LOOPS} deep in one another")
    if limit < MIN_CAPACITY:
        raise InvalidExpression("the expression could take too long or too much memory")
    return Expression(text, program, limit)


def _program(text: str, variables: frozenset[str], *, checked: bool = True) -> Any:
    try:
        return _environment(variables).compile(text, disable_check=not checked)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InvalidExpression(_complaint(error)) from error


@lru_cache(maxsize=256)
def _environment(variables: frozenset[str]) -> Any:
    cel = _library()
    return cel.NewEnv(variables=dict.fromkeys(sorted(variables), cel.Type.DYN))


def _library() -> Any:
    try:
        return import_module("cel_expr_python.cel")
    except ImportError as error:
        raise InvalidExpression(
            f"expressions need the library of the extra `{EXTRA}`: pip install 'horae[{EXTRA}]'"
        ) from error


def _evaluate(program: Any, facts: Facts, text: str) -> object:
    try:
        result = program.eval(data=facts.values)
        value: object = result.value()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExpressionFailed(_complaint(error), value=text) from error
    if result.type() == _library().Type.ERROR:
        raise ExpressionFailed(str(value), value=text)
    return value


def _complaint(error: Exception) -> str:
    """The first line of what the library says, without the codes around it."""
    first = str(error).partition("\n")[0]
    return first.removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: ")[:300]


def _measure(value: Any, level: int = 0) -> int:
    """The size of a value in units."""
    match value:
        case None | bool() | float():
            return 1
        case int():
            if value not in _INTEGERS:
                raise ExpressionFailed("an integer of the data has more than 64 bits")
            return 1
        case str():
            return 1 + _length(value) // CHARACTERS
        case list() | dict():
            return _measure_parts(value, level + 1)
        case _:
            raise ExpressionFailed(f"the data has a value that is not JSON: {type(value).__name__}")


def _measure_parts(value: list[Any] | dict[str, Any], level: int) -> int:
    if len(value) > MAX_LENGTH:
        raise ExpressionFailed(
            f"a list or map of the data has {len(value):,} elements; "
            f"an expression sees at most {MAX_LENGTH}"
        )
    if level > MAX_DEPTH:
        raise ExpressionFailed(f"the data is nested deeper than {MAX_DEPTH}")
    total = 1
    if isinstance(value, dict):
        total += sum(_length(key) // CHARACTERS for key in value)
    for part in value.values() if isinstance(value, dict) else value:
        total += _measure(part, level)
        if total > MAX_SIZE:
            raise ExpressionFailed(f"the data has more than {MAX_SIZE:,} values")
    return total


def _length(text: str) -> int:
    if NUL in text:  # the library reads a text as far as there
        raise ExpressionFailed("a text of the data has a NUL character")
    return len(text)
