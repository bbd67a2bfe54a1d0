"""Changed modules: cosmic-ray's mutants, and those in which something is left out.

Of cosmic-ray's there are fewer where many say the same (one or two for an operator). `Drop` leaves
out an argument, an entry or a statement.
"""

from __future__ import annotations

import ast
import difflib
import random
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
PACKAGE = Path("domain/horae_domain")

OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_FloorDiv|Div_Mul|FloorDiv_Mul|Mod_FloorDiv"
    r"|Pow_Mul|BitAnd_BitXor)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|Eq_GtE|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE"
    r"|GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_(Delete_USub|Delete_Not)"
    r"|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd"
    r"|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ExceptionReplacer|NumberReplacer"
    r"|RemoveDecorator|ZeroIterationForLoop)"
)


class Mutant(NamedTuple):
    """A changed module, and the lines of the sound one that it changes."""

    module: str
    what: str
    code: str
    lines: range


def source_of(module: str) -> str:
    """The sound module."""
    return (ROOT / PACKAGE / module).read_text("utf-8")


def mutants(module: str, sample: int | None, seed: int) -> list[Mutant]:
    """Mutants of a module, each different from it and from the others; all, or so many."""
    source = source_of(module)
    places = [*_changes(source), *(("Drop", index) for index in range(_droppable(source)))]
    random.Random(seed).shuffle(places)
    seen = {ast.dump(ast.parse(source))}
    found: list[Mutant] = []
    for what, index in places:
        if len(found) == sample:
            break
        try:
            code, lines = _mutate(source, what, index)
            tree = ast.dump(ast.parse(code))
        except (SyntaxError, AttributeError):  # no program, or more than the operator can read
            continue
        if tree not in seen:
            seen.add(tree)
            found.append(Mutant(module, what, code, lines))
    return found


def diff(mutant: Mutant) -> str:
    """What it changes, to be read."""
    before, after = source_of(mutant.module), mutant.code
    if mutant.what.startswith("Drop"):
        before, after = (ast.unparse(ast.parse(each)) for each in (before, after))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _mutate(source: str, what: str, index: int) -> tuple[str, range]:
    if what != "Drop":
        code = str(mutate_code(source, get_operator(what)(), index))
        return code, _changed(source, code)
    tree = ast.parse(source)
    _, lines = _drop(tree, index)
    return ast.unparse(tree), lines


def _changed(before: str, after: str) -> range:
    old, new = before.splitlines(), after.splitlines()
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    rest = zip(reversed(old[same:]), reversed(new[same:]), strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))
    return range(same + 1, max(same + 1, len(old) - alike) + 1)


def _changes(source: str) -> Iterator[tuple[str, int]]:
    nodes = list(ast_nodes(get_ast(source)))
    for name in filter(OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        count = sum(1 for node in nodes for _ in operator.mutation_positions(node))
        yield from ((name, index) for index in range(count))


def _droppable(source: str) -> int:
    return _drop(ast.parse(source), None)[0]


def _drop(tree: ast.Module, number: int | None) -> tuple[int, range]:
    """Leave out one keyword argument, entry of a dict or statement; how many, and its lines."""
    places = 0
    for function in [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]:
        for node in ast.walk(function):
            for items in _items_of(node):
                if number is not None and number < places + len(items):
                    gone = items[number - places] or node  # a `**` in a dict has no key
                    _leave_out(node, items, number - places)
                    return number, range(gone.lineno, gone.end_lineno + 1)
                places += len(items)
    return places, range(0)


def _items_of(node: ast.AST) -> Iterator[list[Any]]:
    match node:
        case ast.Call():
            yield node.keywords
        case ast.Dict():
            yield node.keys
        case ast.FunctionDef() if ast.get_docstring(node) is not None:
            yield node.body[1:]
        case _:
            for field in ("body", "orelse", "finalbody"):
                items = getattr(node, field, None)
                if isinstance(items, list):
                    yield items


def _leave_out(node: ast.AST, items: list[Any], index: int) -> None:
    match node:
        case ast.Call():
            del node.keywords[index]
        case ast.Dict():
            del node.keys[index], node.values[index]
        case ast.FunctionDef() if ast.get_docstring(node) is not None:
            node.body[index + 1] = ast.Pass()
        case _ if not _says_nothing(items[index]):
            items[index] = ast.Pass()


def _says_nothing(statement: ast.stmt) -> bool:
    """True of the docstring of an attribute, and of what only a type checker reaches."""
    match statement:
        case ast.Expr(ast.Constant() | ast.Call(ast.Name("assert_never"))):
            return True
    return False
