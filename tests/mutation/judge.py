"""A copy of the domain and its tests, in which mutants are tried."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import msgspec
import pydantic  # noqa: F401 - imported before the forks
import pytest
from hypothesis import Phase, settings
from mutants import PACKAGE, ROOT, Mutant, source_of
from patching import apply, patch_of
from reach import Measure, Reach

TESTS = "tests/domain"
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=no")
OPTIONS += ("-W", "ignore::pytest.PytestAssertRewriteWarning")
OPTIONS += (
    "-k",
    "not runTest",
)  # machines that generate histories take longer than any mutant gets
SURVIVED = frozenset({0, 5})
"""Exit codes of tests: none fails, or there is none."""
UNFIT = 77
"""The exit code of a child that comes to no verdict: no live function takes its mutant."""

Try = Callable[[Mutant], bool | None]
"""Whether a mutant is killed; None if that takes another import of its module."""


class Copy:
    """Where tests run, each time in a child of the process that asks."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.path = Path(self._folder.name)
        leave = shutil.ignore_patterns("__pycache__")
        for folder in ("domain", TESTS, "tests/golden", "tests/cases"):
            shutil.copytree(ROOT / folder, self.path / folder, ignore=leave)
        shutil.copy(ROOT / "pyproject.toml", self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def measure(self) -> Reach:
        """Run all tests without a mutant.

        Raises:
            SystemExit: they fail.
        """
        target = self.path / "reach.json"
        if _in_child(lambda: self._pytest(Measure(self.path / PACKAGE, target))) != 0:
            sys.exit("the tests fail without a mutant")
        return msgspec.json.decode(target.read_bytes(), type=Reach)

    def serve(self, judge: Callable[[Try], None], reach: Reach) -> None:
        """Let `judge` try mutants on functions that are imported, and tests that are collected."""
        self._pytest(_Served(judge, reach))

    def kills(self, mutant: Mutant, reach: Reach) -> bool:
        """Whether a test fails where the module is imported with the mutant."""
        target = self.path / PACKAGE / mutant.module
        target.write_text(mutant.code, "utf-8")
        tests = reach.quickest()
        try:
            code = _in_child(lambda: self._pytest(_Chosen(tests)), 60 + 3 * reach.cost(tests))
        finally:
            target.write_text(source_of(mutant.module), "utf-8")
        return code not in SURVIVED

    def _pytest(self, plugin: object) -> int:
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
        options = [*OPTIONS, "--rootdir", str(self.path), TESTS]
        return int(pytest.main(options, plugins=[_Unshrunk(), plugin]))


class _Unshrunk:
    """A failing example is enough; the least one is not looked for."""

    def pytest_collection(self) -> None:
        settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")


class _Chosen:
    """Some tests, in an order."""

    def __init__(self, tests: list[str]) -> None:
        self._tests = tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = _chosen(items, self._tests)


class _Served:
    """Runs, in place of the tests, what asks for them."""

    def __init__(self, judge: Callable[[Try], None], reach: Reach) -> None:
        self._judge, self._reach = judge, reach

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._judge(lambda mutant: self._try(session, mutant))
        return True

    def _try(self, session: pytest.Session, mutant: Mutant) -> bool | None:
        patch = patch_of(mutant)
        if patch is None:
            return None
        body = range(patch.before.body, patch.before.last + 1)
        tests = self._reach.tests(mutant.module, mutant.lines, body)
        survived = None if self._reach.at_import(mutant.module, body) else False
        if not tests:
            return survived
        items = _chosen(session.items, tests)
        code = _in_child(
            lambda: UNFIT if not apply(mutant, patch) else _failures(session, items),
            10 + 3 * self._reach.cost(tests),
        )
        if code == UNFIT:
            return None
        return survived if code == 0 else True


def _chosen(items: Iterable[pytest.Item], tests: list[str]) -> list[pytest.Item]:
    named = {each.nodeid: each for each in items}
    return [named[each] for each in tests if each in named]


def _failures(session: pytest.Session, items: list[pytest.Item]) -> int:
    """How many tests fail: 1 at most, as no other is begun."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def _in_child(act: Callable[[], int], seconds: float = 0) -> int:
    """The exit code; a child is killed after so many seconds of its processor time, unless 0."""
    child = os.fork()
    if child == 0:
        code = UNFIT
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            code = act()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
