"""The page of policies is what the engine does, cell by cell."""

from __future__ import annotations

import pytest

from tests.policies.cells import CATCH_UPS, LIMITS, OVERLAPS, PAGE, PAUSES, Cell, cells, page, play


@pytest.mark.no_cover  # tracing would take as long again; examples cover the lines
async def test_page_of_policies_is_what_the_engine_does() -> None:
    assert PAGE.read_text() == await page(), "python -m tests.policies.cells"


def test_page_has_every_combination() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    shown = [row for row in rows if row.count("|") == 6]
    assert len(shown) == len(PAUSES) * len(OVERLAPS) * len(LIMITS)
    assert len(list(cells())) == len(shown) * len(CATCH_UPS)


@pytest.mark.parametrize("overlap", OVERLAPS)
async def test_a_schedule_fires_as_often_as_it_may(overlap: str) -> None:
    """What the limit says, counted from the letters."""
    cell = Cell("Not paused", overlap, "`max_executions: 4`", "all")
    letters = (await play([cell]))[cell]
    assert sum(letter in "RBC" for letter in letters) == 4
    assert letters.endswith("-")
