"""The examples, imported afresh for each test, with folders of their own."""

from __future__ import annotations

import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from horae import testing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch, tmp_path):
    """A function that imports a module of the examples."""
    for name in ("SAGAS_DIR", "DESK_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.syspath_prepend(ROOT)
    yield lambda name: import_module(f"examples.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "examples"]:
        del sys.modules[name]


@pytest.fixture
def saga(example):
    """A function that imports a theme's module, and leaves only the schedules named."""

    def load(theme, *ids):
        module = example(f"sagas.{theme}")
        if ids:
            module.app.schedules = {id_: module.app.schedules[id_] for id_ in ids}
        return module

    return load


@pytest.fixture
def kept(example):
    """A function that says what the sagas have written down of a kind."""
    return lambda kind: example("sagas.base").kept(kind)


@pytest.fixture
def partner(example):
    """The world outside of the sagas."""
    return example("sagas.partner")


@pytest.fixture
def delayed(saga, kept):
    """A function that begins two of a delayed work, ends one just before its time, and says what was done."""

    async def done(theme, id_, events, of, delay, kind):
        module = saga(theme, id_)
        begins, ends = events
        async with testing.engine(module.app) as engine:
            for number in (1, 2):
                await engine.publish_event(begins, {of: number})
            await engine.advance(delay - timedelta(seconds=1))
            await engine.publish_event(ends, {of: 1})
            assert kept(kind) == []
            await engine.advance("1 second")
        return kept(kind)

    return done
