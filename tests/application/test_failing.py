"""What is told of what fails."""

from __future__ import annotations

import pytest

from horae_application import failing
from horae_application.failing import Failing


def test_a_failure_is_news_when_it_begins_changes_and_ends() -> None:
    known = Failing()
    assert not known.works("a")
    assert [known.fails("a", why) for why in ("x", "x", "y", "y", "x")] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert known.fails("b", "x")
    assert [known.works("a"), known.works("a")] == [True, False]
    assert known.fails("a", "x")


def test_the_failures_longest_not_heard_of_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing, "KEPT", 2)
    known = Failing()
    for name in ("a", "b", "a", "c"):
        known.fails(name, "x")
    assert [known.works(name) for name in ("a", "b", "c")] == [True, False, True]
