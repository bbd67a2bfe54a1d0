"""What somebody is told who misspells a name, or hands over something of another kind."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from horae import Horae, every, manual, on_condition, on_event, step, steps, testing, wait_for
from horae_domain.errors import InvalidExpression, InvalidField, InvalidTrigger, Unavailable
from horae_infrastructure.nats.connection import connect


def work(context: Any) -> None:
    del context


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    with caplog.at_level(logging.WARNING, logger="horae"):
        yield lambda: [each.msg for each in caplog.records if isinstance(each.msg, dict)]


async def test_names_that_nobody_here_serves_are_told_at_the_start(
    said: Callable[[], list[dict[str, Any]]],
) -> None:
    app = Horae("test")
    app.handler("charge")(work)
    app.declare("saga", manual(), steps(step("charge", compensate="refnd"), step("shp")))
    app.schedule("rescued", manual(), fallback="rescue")(work)
    paid = wait_for("Paid", match="order", fallback="release")
    app.schedule("paid", on_event("Ordered"), wait=paid)(work)
    app.schedule("hot", on_condition("temprature", every="1 day"), requires="opn")(work)
    async with testing.engine(app):
        pass
    told = [each for each in said() if each["event"] == "handler not served here"]
    assert [(each["schedule_id"], each["field"], each["handler"]) for each in told] == [
        ("saga", "action.steps[0].compensate", "refnd"),
        ("saga", "action.steps[1].action", "shp"),
        ("rescued", "fallback", "rescue"),
        ("paid", "wait_for.fallback", "release"),
        ("hot", "requires", "opn"),
        ("hot", "trigger.check", "temprature"),
    ]


async def test_names_that_are_served_are_not_told(
    said: Callable[[], list[dict[str, Any]]], tmp_path: Any
) -> None:
    app = Horae("test")
    app.handler("rescue")(work)
    app.condition("open")(lambda context: True)
    app.schedule("rescued", manual(), fallback="rescue", requires="open")(work)
    async with app.embedded(data_dir=tmp_path):
        pass
    assert [each for each in said() if each["event"] == "handler not served here"] == []


async def test_a_schedule_that_is_refused_at_the_start_is_named() -> None:
    app = Horae("test")
    app.schedule("fine", every("1 hour"))(work)
    app.schedule("trades", on_event("trade.*", filter="data.amount = 3"))(work)
    with pytest.raises(InvalidExpression) as caught:
        async with testing.engine(app):
            pass
    assert str(caught.value).startswith("invalid_expression: schedule 'trades': trigger.filter: ")
    assert "data.amount = 3" not in str(caught.value)
    assert caught.value.value == "data.amount = 3"
    assert caught.value.field == "trigger.filter"


@pytest.mark.parametrize("trigger", ["0 2 * * *", None, ["0 2 * * *"]])
def test_a_trigger_of_another_kind_is_refused_where_it_is_written(trigger: Any) -> None:
    with pytest.raises(InvalidTrigger, match=r"^invalid_trigger: trigger: .*cron\("):
        Horae("test").schedule("job", trigger)(work)


@pytest.mark.parametrize("made", [lambda: steps("a", "b"), lambda: steps([step("a"), step("b")])])  # type: ignore[arg-type, list-item]
def test_steps_of_another_kind_are_refused_where_they_are_written(made: Callable[[], Any]) -> None:
    with pytest.raises(InvalidField, match=r"^invalid_field: action\.steps: .*step\("):
        made()


def test_a_value_that_is_no_json_is_refused_with_its_field() -> None:
    with pytest.raises(InvalidField, match=r"^invalid_field: payload: a JSON value"):
        Horae("test").schedule("job", manual(), payload={"ids": {1, 2}})(work)


async def test_instants_of_the_test_kit_are_texts_or_aware_datetimes() -> None:
    async with testing.engine(start="2026-05-01T00:00:00+02:00") as engine:
        assert engine.now.isoformat() == "2026-04-30T22:00:00+00:00"
        await engine.advance_to("2026-06-01T00:00:00Z")
        assert engine.now.isoformat() == "2026-06-01T00:00:00+00:00"
        with pytest.raises(InvalidField, match="offset"):
            await engine.advance_to(datetime(2027, 1, 1))  # noqa: DTZ001 - that is the mistake
    with pytest.raises(InvalidField, match="offset"):
        async with testing.engine(start="2026-05-01T00:00"):
            pass


async def test_a_server_that_is_not_there_is_told_once_with_the_reason(
    said: Callable[[], list[dict[str, Any]]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        Unavailable, match=rf"cannot connect to 127.0.0.1:{port}: .*refused|.*failed"
    ):
        await connect(f"nats://127.0.0.1:{port}", name="test", timeout=0.5)
    assert [each["event"] for each in said()] == ["nats_error"]
