"""A mutant put into a function of a module that is imported already, which takes no time."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from types import CodeType, FunctionType
from typing import NamedTuple

from mutants import Mutant, source_of

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Place(NamedTuple):
    """Where a function stands: its name with those of its classes, and its lines."""

    name: str
    first: int
    body: int
    last: int


class Patch(NamedTuple):
    """A function that no other one encloses, before and after the change of its body."""

    before: Place
    after: Place


def patch_of(mutant: Mutant) -> Patch | None:
    """What to patch; None if the mutant changes more than one body."""
    before, after = ast.parse(source_of(mutant.module)), ast.parse(mutant.code)
    pairs = list(zip(_functions(before), _functions(after), strict=False))
    changed = [pair for pair in pairs if ast.dump(pair[0][1]) != ast.dump(pair[1][1])]
    if len(changed) != 1:
        return None
    patch = Patch(*(_place(name, function) for name, function in changed[0]))
    for _, function in changed[0]:
        function.body = []
    return patch if ast.dump(before) == ast.dump(after) else None


def apply(mutant: Mutant, patch: Patch) -> bool:
    """Give the live functions the mutant's code; False if there are none that it fits."""
    name = mutant.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    path = str(sys.modules[f"horae_domain.{name}"].__file__)
    code = _code(compile(mutant.code, path, "exec"), patch.after)
    live = [
        each
        for each in gc.get_objects()
        if type(each) is FunctionType
        and each.__code__.co_filename == path
        and each.__code__.co_qualname == patch.before.name
        and each.__code__.co_firstlineno == patch.before.first
    ]
    if not live or any(each.__code__.co_freevars != code.co_freevars for each in live):
        return False
    for function in live:
        function.__code__ = code
    for each in caches():
        each.cache_clear()
    return True


def caches() -> list[_lru_cache_wrapper[object]]:
    """What remembers the results of functions."""
    return [each for each in gc.get_objects() if isinstance(each, _lru_cache_wrapper)]


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + child.name, child
            case ast.ClassDef():
                yield from _functions(child, f"{prefix}{child.name}.")
            case ast.stmt():
                yield from _functions(child, prefix)


def _place(name: str, function: Function) -> Place:
    first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
    return Place(name, first, function.body[0].lineno, function.end_lineno or first)


def _code(code: CodeType, place: Place) -> CodeType:
    """The code of a function within that of its module."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    for each in inner:
        if (each.co_qualname, each.co_firstlineno) == (place.name, place.first):
            return each
    (around,) = (each for each in inner if place.name.startswith(f"{each.co_qualname}."))
    return _code(around, place)
