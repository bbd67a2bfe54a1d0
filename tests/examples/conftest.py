"""The worked examples, imported afresh for each test, with a folder of their own."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def saga(monkeypatch, tmp_path):
    """A function that imports a theme's module, and leaves only the schedules named."""
    monkeypatch.setenv("SAGAS_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT)

    def load(theme, *ids):
        module = import_module(f"examples.sagas.{theme}")
        if ids:
            module.app.schedules = {id_: module.app.schedules[id_] for id_ in ids}
        return module

    yield load
    for name in [name for name in sys.modules if name.split(".")[0] == "examples"]:
        del sys.modules[name]
