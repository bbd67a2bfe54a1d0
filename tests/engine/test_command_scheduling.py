"""Commands of the application: scheduled, withdrawn, carried out, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from horae import Context, Horae, Retry, RetryAfter, testing
from horae.testing import TestEngine
from horae_domain.codec import decode
from horae_domain.errors import (
    CommandNotFound,
    IdempotencyConflict,
    InvalidField,
    InvalidTrigger,
    UnknownCommand,
)
from horae_domain.events import Event

START = datetime(2026, 1, 1, tzinfo=UTC)


class SendReminder(BaseModel):
    order_id: str


class Refund(BaseModel):
    """Types that JSON does not have."""

    model_config = ConfigDict(strict=True)

    amount: Decimal
    account: UUID
    at: datetime
    tags: tuple[str, ...] = ()
    to: str = Field(default="", alias="recipient")


class Desk:
    """An application that notes what it has carried out."""

    def __init__(self) -> None:
        self.app = Horae("desk")
        self.taken: list[Any] = []
        self.contexts: list[Context] = []
        self.failing: list[Exception] = []

        @self.app.command
        async def send_reminder(ctx: Context, command: SendReminder) -> dict[str, str]:
            if self.failing:
                raise self.failing.pop()
            self.contexts.append(ctx)
            self.taken.append(command)
            return {"sent": command.order_id}

        @self.app.command("refunds.refund")
        def refund(command: Refund) -> Decimal:
            self.taken.append(command)
            return command.amount


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def engine(desk: Desk) -> AsyncIterator[TestEngine]:
    async with testing.engine(desk.app, start=START) as made:
        yield made


def events(engine: TestEngine) -> list[Event]:
    store = engine._runtime.store
    assert store is not None
    return [decode(row.name, row.state) for row in store.read(0, 1_000_000)]


async def test_command_is_carried_out_once_at_its_instant(engine: TestEngine, desk: Desk) -> None:
    id_ = await engine.schedule(SendReminder(order_id="o-1"), START + timedelta(hours=1))
    await engine.advance("59 minutes 59 seconds")
    assert desk.taken == []
    await engine.advance("1 second")
    assert desk.taken == [SendReminder(order_id="o-1")]
    await engine.advance("10 days")
    assert len(desk.taken) == 1
    found = await engine.get(id_)
    assert found.status == "succeeded"
    assert found.result == {"sent": "o-1"}
    assert found.attempts == 1
    assert found.error is None


@pytest.mark.parametrize(
    "when",
    [
        {"at": START + timedelta(minutes=10)},
        {"at": "2026-01-01T01:10:00+01:00"},
        {"after": "10 minutes"},
        {"after": timedelta(minutes=10)},
        {"after": 600},
        {"execute_at": START + timedelta(minutes=10)},
    ],
)
async def test_when_is_said_by_an_instant_or_a_delay(
    engine: TestEngine, desk: Desk, when: dict[str, Any]
) -> None:
    id_ = await engine.schedule(SendReminder(order_id="o-1"), **when)
    waiting = await engine.get(id_)
    assert waiting.status == "scheduled"
    assert waiting.execute_at == START + timedelta(minutes=10)
    assert waiting.command == SendReminder(order_id="o-1")
    assert waiting.type == "SendReminder"
    assert waiting.scheduled_at == START
    await engine.advance("10 minutes")
    assert len(desk.taken) == 1
    assert (await engine.get(id_)).execute_at == START + timedelta(minutes=10)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"at": START + timedelta(hours=1), "after": "1h"},
        {"execute_at": START + timedelta(hours=1), "at": START + timedelta(hours=1)},
        {"at": START - timedelta(seconds=1)},
    ],
)
async def test_no_instant_several_or_a_past_one_is_refused(
    engine: TestEngine, when: dict[str, Any]
) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        await engine.schedule(SendReminder(order_id="o-1"), **when)
    assert refused.value.field in {"at", "after"}


async def test_past_instant_is_due_at_once_where_it_is_allowed(
    engine: TestEngine, desk: Desk
) -> None:
    await engine.schedule(
        SendReminder(order_id="o-1"), START - timedelta(days=400), allow_past=True
    )
    await engine.settle()
    assert len(desk.taken) == 1


async def test_naive_instant_is_refused(engine: TestEngine) -> None:
    with pytest.raises(InvalidField, match="offset"):
        await engine.schedule(SendReminder(order_id="o-1"), "2026-02-01T00:00:00")
    with pytest.raises(InvalidField, match="offset"):
        await engine.schedule(SendReminder(order_id="o-1"), datetime(2026, 2, 1))  # noqa: DTZ001


async def test_command_keeps_what_belongs_to_it(engine: TestEngine, desk: Desk) -> None:
    id_ = await engine.schedule(
        SendReminder(order_id="o-1"),
        after="1m",
        metadata={"team": "mail"},
        correlation_id="order-1",
    )
    found = await engine.get(id_)
    assert found.metadata == {"team": "mail"}
    assert found.correlation_id == "order-1"
    assert found.tenant == "default"
    await engine.advance("1m")
    (ctx,) = desk.contexts
    assert ctx.correlation_id == "order-1"
    assert ctx.metadata == {"team": "mail"}
    assert ctx.schedule_id == id_
    assert ctx.due == START + timedelta(minutes=1)
    assert {event.correlation_id for event in events(engine) if event.schedule_id == id_} == {
        "order-1",
        None,  # the schedule's own end
    }


async def test_same_key_is_the_same_command_even_after_it_was_done(
    engine: TestEngine, desk: Desk
) -> None:
    told: dict[str, Any] = {"after": "1m", "idempotency_key": "reminder:o-1"}
    first = await engine.schedule(SendReminder(order_id="o-1"), **told)
    assert await engine.schedule(SendReminder(order_id="o-1"), **told) == first
    await engine.advance("1h")
    assert await engine.schedule(SendReminder(order_id="o-1"), **told) == first
    await engine.advance("1h")
    assert len(desk.taken) == 1
    other = await engine.schedule(
        SendReminder(order_id="o-1"), after="1m", idempotency_key="reminder:o-2"
    )
    assert other != first
    assert len({first, other, await engine.schedule(SendReminder(order_id="o-1"), after="1m")}) == 3


async def test_another_command_under_a_key_is_a_conflict(engine: TestEngine) -> None:
    told: dict[str, Any] = {"after": "1m", "idempotency_key": "reminder:o-1"}
    await engine.schedule(SendReminder(order_id="o-1"), **told)
    with pytest.raises(IdempotencyConflict):
        await engine.schedule(SendReminder(order_id="o-2"), **told)
    with pytest.raises(IdempotencyConflict):
        await engine.schedule(SendReminder(order_id="o-1"), **(told | {"after": "2m"}))


async def test_cancel_says_whether_it_withdrew_the_command(engine: TestEngine, desk: Desk) -> None:
    id_ = await engine.schedule(SendReminder(order_id="o-1"), after="1m")
    assert await engine.cancel(id_) is True
    assert await engine.cancel(id_) is False
    assert (await engine.get(id_)).status == "cancelled"
    await engine.advance("1h")
    assert desk.taken == []
    done = await engine.schedule(SendReminder(order_id="o-2"), after="1m")
    await engine.advance("1m")
    assert await engine.cancel(done) is False
    assert await engine.cancel("nobody") is False
    assert (await engine.get(done)).status == "succeeded"


async def test_command_waiting_for_its_next_attempt_can_be_cancelled(
    engine: TestEngine, desk: Desk
) -> None:
    desk.failing = [RetryAfter("1h", "busy")]
    id_ = await engine.schedule(SendReminder(order_id="o-1"), after="1m")
    await engine.advance("2m")
    delayed = await engine.get(id_)
    assert delayed.status == "delayed"
    assert delayed.error is not None
    assert delayed.error["message"] == "busy"
    assert await engine.cancel(id_) is True
    await engine.advance("1d")
    assert desk.taken == []
    assert (await engine.get(id_)).status == "cancelled"


async def test_schedule_that_is_no_command_is_neither_found_nor_cancelled(
    engine: TestEngine, desk: Desk
) -> None:
    desk.app.handler("work")(lambda: None)
    await engine.create_schedule("job", {"type": "once", "after": "1h"}, "work")
    assert await engine.cancel("job") is False
    for id_ in ("job", "nobody"):
        with pytest.raises(CommandNotFound):
            await engine.get(id_)


async def test_failed_command_is_tried_again_by_its_policy(engine: TestEngine, desk: Desk) -> None:
    desk.failing = [ValueError("b"), ValueError("a")]
    retry = Retry(3, delay="10s", backoff=1, jitter=0)
    id_ = await engine.schedule(SendReminder(order_id="o-1"), after="1m", retry=retry)
    await engine.advance("1m 20s")
    assert len(desk.taken) == 1
    assert (await engine.get(id_)).attempts == 3
    desk.failing = [ValueError("c")]
    once = await engine.schedule(SendReminder(order_id="o-2"), after="1m", retry=Retry(1))
    await engine.advance("1d")
    failed = await engine.get(once)
    assert (failed.status, failed.attempts) == ("failed", 1)
    assert failed.error is not None
    assert failed.error["type"] == "ValueError"


async def test_unknown_type_is_refused_with_those_that_are_known(engine: TestEngine) -> None:
    class Vanish(BaseModel):
        pass

    with pytest.raises(UnknownCommand) as refused:
        await engine.schedule(Vanish(), after="1m")
    assert refused.value.details["known"] == ["SendReminder", "refunds.refund"]
    assert "SendReminder" in refused.value.message
    id_ = await engine.schedule(Vanish(), after="1m", allow_unknown=True)
    found = await engine.get(id_)
    assert (found.type, found.command) == ("Vanish", {})


async def test_command_comes_back_as_the_same_type(engine: TestEngine, desk: Desk) -> None:
    command = Refund(
        amount=Decimal("12.30"), account=uuid4(), at=START, tags=("a", "b"), recipient="ann"
    )
    id_ = await engine.schedule(command, after="1m")
    assert (await engine.get(id_)).command == command
    await engine.advance("1m")
    assert desk.taken == [command]
    found = await engine.get(id_)
    assert (found.type, found.result) == ("refunds.refund", "12.30")


async def test_model_that_would_not_come_back_is_refused_when_it_is_scheduled(
    engine: TestEngine,
) -> None:
    class Lossy(BaseModel):
        number: int

        @field_serializer("number")
        def _lose(self, _: int) -> str:
            return "a number"

    with pytest.raises(InvalidField) as refused:
        await engine.schedule(Lossy(number=1), after="1m", allow_unknown=True)
    assert refused.value.field == "data.number"
    with pytest.raises(InvalidField, match="pydantic model"):
        await engine.schedule({"number": 1}, after="1m")  # type: ignore[arg-type]


async def test_model_that_no_longer_fits_fails_for_good_and_names_the_field(
    engine: TestEngine, desk: Desk
) -> None:
    answer = await engine.command(
        "command.schedule",
        {"command": "SendReminder", "data": {"order": "o-1"}, "after": "1m", "key": "k"},
    )
    await engine.advance("1d")
    found = await engine.get(answer["id"])
    assert (found.status, found.attempts) == ("failed", 1)
    assert found.error is not None
    assert found.error["type"] == "PayloadInvalid"
    assert "order_id" in found.error["message"]
    assert found.command == {"order": "o-1"}
    assert desk.taken == []


async def test_commands_have_a_list_of_their_own(engine: TestEngine, desk: Desk) -> None:
    desk.app.handler("work")(lambda: None)
    await engine.create_schedule("job", {"type": "once", "after": "1h"}, "work")
    ids = [
        await engine.schedule(SendReminder(order_id=str(number)), after=60 - number)
        for number in range(3)
    ]
    assert [each["id"] for each in (await engine.list_schedules())["schedules"]] == ["job"]
    listed = await engine.list_schedules(type="command", sort="next_run")
    assert [each["id"] for each in listed["schedules"]] == ids[::-1]
    assert listed["total"] == 3
    timers = await engine.list_timers()
    assert [each["schedule_id"] for each in timers["timers"]] == [*ids[::-1], "job"]
    await engine.cancel(ids[0])
    assert (await engine.list_schedules(type="command", status="active"))["total"] == 2


async def test_operators_move_a_command_and_its_key_still_stands_for_it(
    engine: TestEngine, desk: Desk
) -> None:
    told: dict[str, Any] = {"after": "1h", "idempotency_key": "k"}
    id_ = await engine.schedule(SendReminder(order_id="o-1"), **told)
    definition = {
        name: value
        for name, value in (await engine.get_schedule(id_)).items()
        if name in {"id", "action", "payload", "catch_up"}
    }
    moved = definition | {"trigger": {"type": "once", "at": "2026-01-01T05:00:00Z"}}
    await engine.command("schedule.update", moved)
    assert await engine.schedule(SendReminder(order_id="o-1"), **told) == id_
    assert (await engine.get(id_)).execute_at == START + timedelta(hours=5)
    await engine.advance("4h")
    assert desk.taken == []
    await engine.pause_schedule(id_)
    assert (await engine.get(id_)).status == "paused"
    await engine.advance("2h")
    await engine.resume_schedule(id_)
    assert (await engine.get(id_)).status == "skipped"
    assert desk.taken == []
