"""How an application insists on its schedules."""

from __future__ import annotations

import logging

import pytest

from horae import Horae, declaring
from horae_domain.errors import (
    HoraeError,
    Internal,
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
    some = [TooManyRequests("busy"), ScheduleExists("just now"), Internal("a fault")]
    left, once = refusing(*some, *[Unavailable("nobody") for _ in range(4)])
    await declaring.insist(once)
    assert not left
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize("kind", [NotPermitted, Unavailable])
async def test_who_may_only_declare_has_declared(
    kind: type[HoraeError], caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf:
        async def list_schedules(self, **_: object) -> None:
            raise kind("no")

    with caplog.at_level(logging.WARNING, logger="horae"):
        await Horae("desk")._review(Deaf(), None)  # type: ignore[arg-type]
    said = [each.msg["event"] for each in caplog.records if isinstance(each.msg, dict)]
    assert said == ["what is no longer declared is not known"]


async def test_refusal_of_a_declaration_names_no_value() -> None:
    class Refusing:
        async def command(self, *_: object, **__: object) -> None:
            raise InvalidField("no such zone", field="timezone", value="a secret")

    with pytest.raises(InvalidField, match="schedule 'nightly': timezone: no such zone") as caught:
        await declaring.declare(Refusing(), {"nightly": {"id": "nightly"}})  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("kind", [InvalidField, NotPermitted, HoraeError])
async def test_what_is_refused_is_not_asked_again(
    kind: type[HoraeError], pauses: list[float]
) -> None:
    left, once = refusing(Unavailable("nobody"), kind("no"), Unavailable("nobody"))
    with pytest.raises(kind, match="no"):
        await declaring.insist(once)
    assert (len(left), pauses) == (1, [1.0])
