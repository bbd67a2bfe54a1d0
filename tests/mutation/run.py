"""Mutation testing of the domain: does a test fail when a rule is changed?

    python tests/mutation/run.py [--jobs 2] [--sample N] [--seed 0] [MODULE ...]

Every mutant is written into a copy of the domain and its tests, never into the checkout, and the
tests run until the first failure: the examples first, the generated histories for what is left.
The output is a table by file and the survivors as diffs; the exit code is 1 below `--at-least`.

Mutants are cosmic-ray's, fewer where many say the same (one or two for an operator), and those of
`dropped`: an argument, an entry or a statement that is left out.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import hypothesis  # noqa: F401 - imported before the forks, as are the next
import msgspec  # noqa: F401
import pydantic  # noqa: F401
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
PACKAGE = Path("domain/horae_domain")
SECONDS = 90
"""The most processor time that the tests of one mutant take; more counts as killed."""

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
    """A changed module."""

    module: str
    what: str
    code: str


def mutants(module: str, sample: int | None, seed: int) -> list[Mutant]:
    """Mutants of a module, each different from it and from the others; all, or so many."""
    source = (ROOT / PACKAGE / module).read_text("utf-8")
    places = [*_changes(source), *(("Drop", index) for index in range(_droppable(source)))]
    random.Random(seed).shuffle(places)
    seen = {ast.dump(ast.parse(source))}
    found: list[Mutant] = []
    for what, index in places:
        if len(found) == sample:
            break
        try:
            code = _mutate(source, what, index)
            tree = ast.dump(ast.parse(code))
        except (SyntaxError, AttributeError):  # no program, or more than the operator can read
            continue
        if tree not in seen:
            seen.add(tree)
            found.append(Mutant(module, what, code))
    return found


def _mutate(source: str, what: str, index: int) -> str:
    if what != "Drop":
        return str(mutate_code(source, get_operator(what)(), index))
    tree = ast.parse(source)
    _drop(tree, index)
    return ast.unparse(tree)


def _changes(source: str) -> Iterator[tuple[str, int]]:
    nodes = list(ast_nodes(get_ast(source)))
    for name in filter(OPERATORS.fullmatch, operator_names()):
        operator = get_operator(name)()
        count = sum(1 for node in nodes for _ in operator.mutation_positions(node))
        yield from ((name, index) for index in range(count))


def _droppable(source: str) -> int:
    return _drop(ast.parse(source), None)


def _drop(tree: ast.Module, number: int | None) -> int:
    """Leave out one keyword argument, entry of a dict or statement; how many there were before."""
    places = 0
    for function in [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]:
        for node in ast.walk(function):
            for items in _items_of(node):
                if number is not None and number < places + len(items):
                    _leave_out(node, items, number - places)
                    return number
                places += len(items)
    return places


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
        case _:
            items[index] = ast.Pass()


# --- running -------------------------------------------------------------------------------------


TIME = {"cron", "crontab", "durations", "instants", "recurrence", "walker", "zones"}
GENERATED = "tests/domain/test_properties.py"


def _tests_of(module: str) -> list[list[str]]:
    """What is run for a mutant of a module, the quickest first."""
    if module.removesuffix(".py") in TIME:
        return [["tests/domain/time"]]
    return [["tests/domain", "--ignore=tests/domain/time", f"--ignore={GENERATED}"], [GENERATED]]


class Copy:
    """A copy of the domain and its tests that mutants are written into."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.path = Path(self._folder.name)
        leave = shutil.ignore_patterns("__pycache__")
        for folder in ("domain", "tests/domain", "tests/golden", "tests/cases"):
            shutil.copytree(ROOT / folder, self.path / folder, ignore=leave)
        shutil.copy(ROOT / "pyproject.toml", self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def kills(self, mutant: Mutant) -> bool:
        """Whether a test fails."""
        target = self.path / PACKAGE / mutant.module
        original = target.read_text("utf-8")
        target.write_text(mutant.code, "utf-8")
        try:
            return not all(self._passes(each) for each in _tests_of(mutant.module))
        finally:
            target.write_text(original, "utf-8")

    def _passes(self, arguments: list[str]) -> bool:
        child = os.fork()
        if child == 0:
            self._run(arguments)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == pytest.ExitCode.OK

    def _run(self, arguments: list[str]) -> None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        os.chdir(self.path)
        os.environ["CI"] = "1"
        sys.path[:] = [
            str(self.path / "domain"),
            *(each for each in sys.path if not each.startswith(str(ROOT / "domain"))),
        ]
        sys.dont_write_bytecode = True
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov", "-p", "no:xdist"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = 2
        try:
            code = int(pytest.main([*options, "--rootdir", str(self.path), *arguments]))
        finally:
            os._exit(code)


def _judged(work: list[Mutant], jobs: int) -> Iterator[tuple[int, bool]]:
    """The index of each mutant and whether it was killed, as the jobs find out."""
    context = multiprocessing.get_context("fork")
    following, results = context.Value("i", 0), context.SimpleQueue()

    def judge(mine: Copy) -> None:
        while True:
            with following.get_lock():
                index = following.value
                following.value += 1
            if index >= len(work):
                return
            results.put((index, mine.kills(work[index])))

    with ExitStack() as stack:
        copies = [stack.enter_context(Copy()) for _ in range(jobs)]
        workers = [context.Process(target=judge, args=(each,), daemon=True) for each in copies]
        for worker in workers:
            worker.start()
        for _ in work:
            yield results.get()
        for worker in workers:
            worker.join()


def _diff(mutant: Mutant) -> str:
    before = (ROOT / PACKAGE / mutant.module).read_text("utf-8")
    after = mutant.code
    if mutant.what.startswith("Drop"):
        before, after = (ast.unparse(ast.parse(each)) for each in (before, after))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as decider.py; all unless told")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sample", type=int, help="so many of each file, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-least", type=float, default=85.0, help="per cent killed")
    told = parser.parse_args()
    folder = ROOT / PACKAGE
    modules = told.modules or sorted(str(each.relative_to(folder)) for each in folder.rglob("*.py"))
    work: list[Mutant] = []
    for module in modules:
        work += mutants(module, told.sample, told.seed)
    sound = (ROOT / PACKAGE / "errors.py").read_text("utf-8")
    with Copy() as first:
        if not first.kills(Mutant("errors.py", "Broken", "broken(")):
            sys.exit("the tests do not see the copy")
        if first.kills(Mutant("errors.py", "Sound", sound)):
            sys.exit("the tests fail without a mutant")
    return _report(work, modules, told.jobs, told.at_least)


def _report(work: list[Mutant], modules: list[str], jobs: int, at_least: float) -> int:
    killed: Counter[str] = Counter()
    for index, dead in _judged(work, jobs):
        mutant = work[index]
        killed[mutant.module] += dead
        if not dead:
            print(f"--- survived: {mutant.module} {mutant.what}\n{_diff(mutant)}", flush=True)
    total = Counter(mutant.module for mutant in work)
    print(f"{'file':24}{'mutants':>9}{'killed':>9}{'per cent':>10}")
    for module in modules:
        _line(module, total[module], killed[module])
    _line("all", total.total(), killed.total())
    return int(100 * killed.total() < at_least * total.total())


def _line(name: str, total: int, killed: int) -> None:
    share = f"{100 * killed / total:.1f}" if total else "-"
    print(f"{name:24}{total:>9}{killed:>9}{share:>10}")


if __name__ == "__main__":
    sys.exit(main())
