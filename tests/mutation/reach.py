"""Which tests reach which lines of the domain, and how long each takes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import coverage
import msgspec
import pytest
from patching import caches

BUDGET = 20.0
"""Seconds of tests that are tried on a mutant, as they take without one: the quickest of them."""


class Reach(msgspec.Struct):
    """Of every test: its seconds; of every line of every module: the tests that reach it.

    A line that is run as the module is imported, or as the tests are collected, is reached by ''.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    def tests(self, module: str, lines: Iterable[int], around: Iterable[int]) -> list[str]:
        """Those that reach the lines or, where no line is known, those around; the quickest first."""
        found = self._at(module, lines) or self._at(module, around)
        return self._quickest(found - {""})

    def quickest(self) -> list[str]:
        """Of all, whatever they reach."""
        return self._quickest(self.seconds)

    def at_import(self, module: str, lines: Iterable[int]) -> bool:
        """Whether one of the lines is run before the tests are."""
        return "" in self._at(module, lines)

    def cost(self, tests: Iterable[str]) -> float:
        """Seconds of tests."""
        return sum(self.seconds[each] for each in tests)

    def _at(self, module: str, lines: Iterable[int]) -> set[str]:
        known = self.lines.get(module, {})
        return {test for line in lines for test in known.get(line, ())}

    def _quickest(self, tests: Iterable[str]) -> list[str]:
        ordered = sorted(tests, key=lambda each: (self.seconds[each], each))
        spent = accumulate(self.seconds[each] for each in ordered)
        return [test for test, sum_ in zip(ordered, spent, strict=True) if sum_ <= BUDGET]


class Measure:
    """A plugin of pytest that writes what each test reaches; coverage is on since the imports."""

    def __init__(self, package: Path, target: Path) -> None:
        self.package, self.target = package, target
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[f"{package}/*"], messages=False
        )
        self.coverage.start()

    def pytest_collection_finish(self) -> None:
        """Find the caches, once all is imported."""
        self.caches = caches()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Name what follows by the test, which finds nothing remembered by those before."""
        for each in self.caches:
            each.cache_clear()
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the phases of a test."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Write."""
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {
            Path(file).relative_to(self.package).as_posix(): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
        self.target.write_bytes(msgspec.json.encode(Reach(self.seconds, lines)))
