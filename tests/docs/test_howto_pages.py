"""The pages on tests, conditions and crontabs do what they say."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks, run
from test_howto import names, results

from horae import Horae, testing
from horae_domain.crontab import CrontabLine, Problem, parse_crontab, to_definition

TESTING = names("testing.md")


@pytest.mark.parametrize("name", [each for each in TESTING if each.startswith("test_")])
async def test_the_tests_of_the_page_on_tests_pass(name: str) -> None:
    await TESTING[name]()


def test_the_page_on_tests_has_some() -> None:
    assert sum(each.startswith("test_") for each in TESTING) == 2


async def test_conditions() -> None:
    page = names("conditions.md")
    async with testing.engine(page["app"]) as engine:
        await engine.advance("5 minutes")
        assert await results(engine, "volatility-response") == []
        page["market"]["volatility"] = 0.06
        await engine.advance("20 minutes")
        assert await results(engine, "volatility-response") == ["hedged at 0.06"] * 2
        assert await results(engine, "rebalance") == ["rebalanced"]
        shown = await engine.get_schedule("rebalance")
        assert shown["cooldown_until"] == "2026-01-01T01:06:00Z"
        kinds = (await engine.list_timers(kind="look,cooldown"))["total"]
        assert kinds == 4


async def test_crontab() -> None:
    (text,) = blocks("docs/howto/crontab.md", "crontab")
    found = parse_crontab(text, style="user")
    jobs = [each for each in found if isinstance(each, CrontabLine)]
    assert [each.text for each in found if isinstance(each, Problem)] == ["@reboot echo hello"]
    definitions = [to_definition(each, "desk", timezone="Europe/Berlin") for each in jobs]
    monday = "2026-01-05T00:00:00+01:00"
    async with testing.engine(Horae("none"), start=monday, allow_processes=True) as engine:
        for each in definitions:
            await engine.command("schedule.create", each)
        await engine.advance("8 hours")
        said = [await results(engine, each["id"]) for each in definitions]
        assert [[one["stdout"] for one in each] for each in said] == [["closing\n"], ["quotes\n"]]


async def test_crontab_is_shown_before_it_is_imported(tmp_path: Path) -> None:
    (text,) = blocks("docs/howto/crontab.md", "crontab")
    (tmp_path / "desk.crontab").write_text(text)
    command = [sys.executable, "-m", "horae", "import", "crontab", "desk.crontab", "--dry-run"]
    command += ["--timezone", "Europe/Berlin", "--skip-problems"]
    shown = await asyncio.to_thread(run, *command, cwd=tmp_path)
    assert "`@reboot` is not supported" in shown
    assert shown.count("not imported") == 2


def test_the_readme_names_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = sorted(each.name for each in (ROOT / "docs" / "howto").glob("*.md"))
    assert [each for each in pages if f"docs/howto/{each}" not in readme] == []
