"""The pages of worked examples say what their files say, in Python and in JSON."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module

import pytest
from documents import ROOT, blocks

PAGES = sorted((ROOT / "docs/howto").glob("example-*.md"))


@pytest.fixture
def declared(monkeypatch):
    """What the examples declare, by theme, with the partner where the pages have it."""
    monkeypatch.syspath_prepend(ROOT)

    def load(theme):
        import_module(f"examples.sagas.{theme}")
        url = sys.modules["examples.sagas.partner"].partner_url()
        schedules = sys.modules["examples.sagas.base"].app.schedules
        return json.loads(json.dumps(schedules).replace(url, "http://127.0.0.1:8080"))

    yield load
    for name in [name for name in sys.modules if name.split(".")[0] == "examples"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_is_all_of_the_file(page):
    file = ROOT / "examples/sagas" / f"{page.stem.removeprefix('example-')}.py"
    _, text = file.read_text().split("from __future__ import annotations\n")
    code = re.split(r"^# --- .* -+$\n", text, flags=re.MULTILINE)
    assert [each.strip() for each in blocks(page, "python")] == [each.strip() for each in code]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_json_of_the_page_is_what_the_code_declares(page, declared):
    shown = {each["id"]: each for each in map(json.loads, blocks(page, "json"))}
    schedules = declared(page.stem.removeprefix("example-"))
    assert shown == {id_: schedules[id_] for id_ in shown}
    others = schedules.keys() - shown.keys()
    assert {id_ for id_ in others if not id_.startswith("sync-")} == set()
