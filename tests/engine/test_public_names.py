"""What `horae` exports lazily, type checkers see, too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import horae


def test_type_checkers_see_every_public_name() -> None:
    tree = ast.parse(Path(horae.__file__).read_text(encoding="utf-8"))
    (checked,) = (each for each in tree.body if isinstance(each, ast.If))
    imported = {alias.name for each in checked.body for alias in getattr(each, "names", ())}
    assert imported == set(horae.__all__)


@pytest.mark.parametrize("name", horae.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(horae, name).__module__.startswith("horae")
