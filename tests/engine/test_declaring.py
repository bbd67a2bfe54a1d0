"""How an application insists on its schedules."""

from __future__ import annotations

import pytest

from horae import declaring
from horae_domain.errors import (
    HoraeError,
    InvalidField,
    NotPermitted,
    ScheduleExists,
    TooManyRequests,
    Unavailable,
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(declaring.asyncio, "sleep", sleep)
    return slept


def refusing(*errors: HoraeError) -> tuple[list[HoraeError], object]:
    left = list(errors)

    async def once() -> None:
        if left:
            raise left.pop(0)

    return left, once


async def test_what_is_unavailable_is_asked_again_more_and_more_rarely(pauses: list[float]) -> None:
    some = [TooManyRequests("busy"), ScheduleExists("just now")]
    left, once = refusing(*some, *[Unavailable("nobody") for _ in range(5)])
    await declaring.insist(once)
    assert not left
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("kind", [InvalidField, NotPermitted, HoraeError])
async def test_what_is_refused_is_not_asked_again(
    kind: type[HoraeError], pauses: list[float]
) -> None:
    left, once = refusing(Unavailable("nobody"), kind("no"), Unavailable("nobody"))
    with pytest.raises(kind, match="no"):
        await declaring.insist(once)
    assert (len(left), pauses) == (1, [1.0])
