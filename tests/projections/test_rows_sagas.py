"""What the views tell of waits, steps and fallbacks."""

from __future__ import annotations

import pytest
from desk import Desk, at, attempt_failed, created, execution_id, requested, started, succeeded

from horae_domain.events import (
    AwaitingConfirmation,
    Because,
    CompensationStarted,
    Confirmation,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    ExecutionConfirmed,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionTimedOut,
    FallbackStarted,
    StageCompleted,
)
from horae_infrastructure.views.memory import MemoryViews

RUN = {"schedule_id": "a", "execution_id": execution_id(1)}
PAID = Confirmation(index=0, event_id="e-1", type="Paid", source="shop", data={"order": 1})
NOT_RECEIVED = Because(end="timed_out", reason="confirmation_not_received", error={"type": "T"})


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def waits(seconds: float = 62, deadline: float | None = 600) -> AwaitingConfirmation:
    wait = {"event": "Paid", "match": {"order": 1}}
    until = None if deadline is None else at(deadline)
    return AwaitingConfirmation(at=at(seconds), waits=[wait], need=1, deadline=until, **RUN)


def completed(stage: str, next_: str, seconds: float = 61, **told) -> StageCompleted:
    return StageCompleted(at=at(seconds), attempt=1, stage=stage, next=next_, **told, **RUN)


async def run_of(desk: Desk) -> dict:
    return await desk.ask("execution.get", id=execution_id(1))


async def timers(desk: Desk) -> list[tuple[str, str]]:
    found = (await desk.ask("timer.list"))["timers"]
    return [(each["kind"], each["due"]) for each in found if each["execution_id"]]


async def test_what_waits_says_for_what_and_until_when(desk: Desk):
    done = completed("", "wait", result=7)
    await desk.tell(created(), requested(), started(), done, waits())
    answer = await run_of(desk)
    assert (answer["status"], answer["still_waiting"], answer["stage"]) == ("waiting", True, "wait")
    assert answer["wait"]["events"] == [{"event": "Paid", "match": {"order": 1}}]
    assert answer["wait"]["until"] == "2026-01-01T00:10:00Z"
    assert answer["attempts"][0]["outcome"] == "succeeded"
    assert await timers(desk) == [("confirmation", "2026-01-01T00:10:00Z")]
    shown = await desk.ask("schedule.get", id="a")
    assert (shown["waiting"], shown["running"]) == (1, 0)
    assert (await desk.ask("execution.list", status=["waiting"]))["total"] == 1


async def test_confirmed_one_says_by_what_and_how_long_it_waited(desk: Desk):
    first = ConfirmationReceived(at=at(63), confirmation=PAID, **RUN)
    last = ExecutionConfirmed(at=at(64), confirmation=PAID, **RUN)
    await desk.tell(created(), requested(), waits(), first, last)
    answer = await run_of(desk)
    assert (answer["status"], answer["stage"], answer["still_waiting"]) == (
        "pending",
        "then",
        False,
    )
    assert answer["wait"]["duration_ms"] == 2000
    told = [(each["event_id"], each["at"]) for each in answer["wait"]["confirmations"]]
    assert told == [("e-1", "2026-01-01T00:01:03Z"), ("e-1", "2026-01-01T00:01:04Z")]
    assert await timers(desk) == []
    await desk.tell(started(), succeeded())
    answer = await run_of(desk)
    assert (answer["status"], answer["timed_out"], answer["fallback"]) == ("succeeded", False, None)


async def test_fallback_is_shown_with_its_reason(desk: Desk):
    await desk.tell(
        created(),
        requested(),
        waits(),
        ConfirmationTimedOut(at=at(600), **RUN),
        FallbackStarted(at=at(600), stage="unconfirmed", because=NOT_RECEIVED, **RUN),
    )
    answer = await run_of(desk)
    assert (answer["timed_out"], answer["fallback_executed"]) == (True, False)
    assert answer["fallback"]["reason"] == "confirmation_not_received"
    await desk.tell(started(), succeeded())
    answer = await run_of(desk)
    assert (answer["timed_out"], answer["fallback_executed"]) == (True, True)
    assert [each["event"] for each in answer["timeline"]][-4:-2] == [
        "confirmation_timed_out",
        "fallback_started",
    ]


async def test_late_confirmation_is_counted_and_changes_nothing(desk: Desk):
    error = {"type": "ConfirmationTimeout", "reason": "confirmation_not_received", "message": "m"}
    await desk.tell(
        created(),
        requested(),
        waits(deadline=None),
        ConfirmationTimedOut(at=at(600), **RUN),
        ExecutionTimedOut(at=at(600), attempt=0, error=error, **RUN),
        ConfirmationLate(at=at(700), event_id="e-1", type="Paid", **RUN),
    )
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == ("timed_out", "confirmation_not_received")
    assert answer["wait"]["late"] == 1
    assert answer["wait"]["duration_ms"] == 538_000


async def test_steps_show_what_is_done_and_what_was_taken_back(desk: Desk):
    because = Because(end="failed", reason="failed", error={"type": "Boom"})
    await desk.tell(
        created(),
        requested(),
        started(),
        completed("step:reserve", "step:charge", result=1),
        started(),
        attempt_failed(),
        CompensationStarted(
            at=at(64), next="undo:reserve", done=["reserve"], because=because, **RUN
        ),
    )
    answer = await run_of(desk)
    assert answer["steps"] == {"done": ["reserve"], "undone": [], "results": {"reserve": 1}}
    await desk.tell(
        started(),
        completed("undo:reserve", "end", 66),
        ExecutionFailed(at=at(66), attempt=1, error={"message": "no"}, **RUN),
    )
    answer = await run_of(desk)
    assert answer["steps"] == {"done": [], "undone": ["reserve"], "results": {"reserve": 1}}
    assert (answer["status"], answer["fallback_executed"]) == ("failed", False)


async def test_polls_are_counted_with_their_limit(desk: Desk):
    again = ExecutionDelayed(at=at(62), attempt=1, until=at(90), limit=3, **RUN)
    await desk.tell(created(), requested(), started(), again)
    answer = await run_of(desk)
    assert (answer["status"], answer["polls"], answer["poll_limit"]) == ("delayed", 1, 3)
    assert await timers(desk) == [("poll", "2026-01-01T00:01:30Z")]
