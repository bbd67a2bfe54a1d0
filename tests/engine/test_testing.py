"""The test kit: time moves when it is told, and every instant has exactly one decision."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from horae import Context, Horae, Result, Retry, RetryAfter, cron, every, manual, once, testing
from horae.testing import TestEngine
from horae_domain.codec import decode
from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
)
from horae_domain.policies import Overlap
from horae_domain.recurrence import cron_recurrence

START = datetime(2026, 1, 1, tzinfo=UTC)


def events(engine: TestEngine) -> list[Event]:
    store = engine._runtime.store
    assert store is not None
    return [decode(row.name, row.state) for row in store.read(0, 1_000_000)]


async def test_a_day_passes_in_a_moment_and_every_occurrence_fires() -> None:
    app = Horae("test")
    due: list[datetime] = []

    @app.schedule("hourly", cron("0 * * * *"))
    async def hourly(context: Context) -> None:
        due.append(context.due)
        assert context.late_by == timedelta(0)

    async with testing.engine(app) as engine:
        await engine.advance("24 hours")
        assert engine.now == START + timedelta(days=1)
        answer = await engine.get_schedule("hourly")
    assert due == [START + timedelta(hours=hour) for hour in range(1, 25)]
    assert answer["statistics"]["succeeded"] == 24


async def test_advance_of_nothing_moves_nothing() -> None:
    async with testing.engine() as engine:
        await engine.advance(0)
        assert engine.now == START


async def test_time_stands_still_while_commands_are_answered() -> None:
    app = Horae("test")
    ran: list[str] = []
    app.handler("work")(lambda context: ran.append(context.execution_id))
    async with testing.engine(app) as engine:
        await engine.create_schedule("job", once(after="10 minutes"), "work")
        await engine.advance("9 minutes 59 seconds")
        assert ran == []
        await engine.advance("1 second")
        assert len(ran) == 1
        assert (await engine.list_executions(schedule_id="job"))["total"] == 1


async def test_retries_follow_their_backoff() -> None:
    app = Horae("test")
    tried: list[datetime] = []

    async with testing.engine(app) as engine:

        @app.handler("fail")
        async def fail(context: Context) -> None:
            tried.append(engine.now)
            raise ValueError

        retry = Retry(max_attempts=4, delay="1 minute", backoff=2, jitter=0)
        await engine.create_schedule("job", manual(), "fail", retry=retry)
        run = await engine.trigger_schedule("job")
        await engine.advance("1 hour")
        answer = await engine.get_execution(run["execution_id"])
    gaps = [later - sooner for sooner, later in zip(tried, tried[1:], strict=False)]
    assert gaps == [timedelta(minutes=each) for each in (1, 2, 4)]
    assert answer["status"] == "dead"


async def test_error_that_is_not_retryable_ends_at_once() -> None:
    app = Horae("test")

    @app.handler("fail")
    async def fail(context: Context) -> None:
        raise KeyError("x")

    async with testing.engine(app) as engine:
        retry = Retry(non_retryable=("KeyError",))
        await engine.create_schedule("job", manual(), "fail", retry=retry)
        run = await engine.trigger_schedule("job")
        await engine.advance("1 hour")
        assert len((await engine.get_execution(run["execution_id"]))["attempts"]) == 1


async def test_error_says_when_to_try_again() -> None:
    app = Horae("test")
    tried: list[datetime] = []
    async with testing.engine(app) as engine:

        @app.handler("busy")
        async def busy(context: Context) -> None:
            tried.append(engine.now)
            if context.attempt == 1:
                raise RetryAfter("7 minutes")

        await engine.create_schedule("job", manual(), "busy")
        await engine.trigger_schedule("job")
        await engine.advance("1 hour")
    assert tried[1] - tried[0] == timedelta(minutes=7)


async def test_polling_asks_again_until_it_is_done() -> None:
    app = Horae("test")
    asked: list[datetime] = []
    async with testing.engine(app) as engine:

        @app.handler("poll")
        async def poll(context: Context) -> Result:
            asked.append(engine.now)
            return Result.done("ready") if len(asked) == 3 else Result.again(after="30 seconds")

        await engine.create_schedule("job", manual(), "poll", retry=Retry(max_attempts=1))
        run = await engine.trigger_schedule("job")
        await engine.advance("5 minutes")
        answer = await engine.get_execution(run["execution_id"])
    assert [each - START for each in asked] == [timedelta(seconds=n) for n in (0, 30, 60)]
    assert answer["result"] == "ready"


async def test_handler_is_told_its_polls_and_all_it_answers_is_kept() -> None:
    app = Horae("test")
    answers: list[tuple[int, int, Result]] = []

    @app.schedule("job", manual(), retry=Retry(max_attempts=2, delay="1 minute"))
    async def poll(context: Context) -> Result:
        n = len(answers)
        told: dict[str, Any] = {
            "metadata": {"tried": n, f"try {n}": True},
            "operations": [f"op {n}"],
        }
        by_turn = (Result.again(**told), Result.failed("busy", **told), Result.done(**told))
        answers.append((context.attempt, context.polls, by_turn[n]))
        return by_turn[n]

    async with testing.engine(app) as engine:
        run = await engine.trigger_schedule("job")
        kept = []
        for _ in range(3):
            await engine.settle()
            kept.append((await engine.get_execution(run["execution_id"]))["metadata"])
            await engine.advance("90 seconds")
    assert [(attempt, polls) for attempt, polls, _ in answers] == [(1, 0), (2, 1), (3, 1)]
    assert kept == [
        {"tried": n, "operations": [f"op {n}"]} | {f"try {each}": True for each in range(n + 1)}
        for n in range(3)
    ]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_hung_handler_times_out_and_time_goes_on(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "PATIENCE", 0.1)
    app = Horae("test")
    import threading

    gate = threading.Event()

    async def sleeps(context: Context) -> None:
        await asyncio.sleep(60)

    app.handler("hang")(sleeps if kind == "async" else lambda context: gate.wait(30))
    async with testing.engine(app) as engine:
        await engine.create_schedule(
            "job",
            manual(),
            "hang",
            timeout={"start_to_close": "2 minutes"},
            retry=Retry(max_attempts=1),
        )
        run = await engine.trigger_schedule("job")
        await engine.advance("1 minute")
        assert (await engine.get_execution(run["execution_id"]))["status"] == "running"
        await engine.advance("2 minutes")
        assert (await engine.get_execution(run["execution_id"]))["status"] == "timed_out"
        gate.set()


async def test_cooldown_of_a_result_skips_what_is_due_before_its_end() -> None:
    app = Horae("test")

    @app.schedule("job", every("1 minute"))
    async def job(context: Context) -> Result:
        return Result.done(cooldown="5 minutes")

    async with testing.engine(app) as engine:
        await engine.advance("6 minutes")
        decided = events(engine)
    assert sum(isinstance(event, ExecutionRequested) for event in decided) == 2
    skips = [event for event in decided if isinstance(event, ExecutionSkipped)]
    assert {event.reason for event in skips} == {"cooldown"}
    assert len(skips) == 4


async def test_bounds_of_a_schedule_complete_it() -> None:
    app = Horae("test")
    ran: list[int | None] = []

    @app.schedule("job", every("1 minute"), max_executions=3)
    async def job(context: Context) -> None:
        ran.append(context.run_number)

    async with testing.engine(app) as engine:
        await engine.advance("10 minutes")
        assert (await engine.get_schedule("job"))["status"] == "completed"
    assert ran == [1, 2, 3]


# --- every instant has exactly one decision ------------------------------------------------------

TRIGGERS = st.sampled_from(
    [
        every("7 minutes"),
        every("90 seconds"),
        every("1 hour"),
        cron("*/15 * * * *"),
        cron("5 3 * * *", timezone="Europe/Berlin"),
        cron("30 */10 * * * *"),
    ]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 6 * 3600)),
        st.tuples(st.just("jump"), st.integers(1, 3 * 3600)),
        st.tuples(st.sampled_from(["pause", "resume"]), st.just(0)),
    ),
    min_size=1,
    max_size=6,
)


def expected(trigger: dict[str, Any], until: datetime) -> list[datetime]:
    """The instants of a trigger after START, computed apart from the engine."""
    if trigger["type"] == "interval":
        units = {"7m": 420, "1m30s": 90, "1h": 3600}
        every_ = units[trigger["every"]]
        count = int((until - START).total_seconds() // every_)
        return [START + timedelta(seconds=every_ * n) for n in range(1, count + 1)]
    recurrence = cron_recurrence(
        trigger["expression"], trigger["timezone"], gap="edge", overlap="first"
    )
    found: list[datetime] = []
    occurrence = recurrence.next(START)
    while occurrence is not None and occurrence.due <= until:
        found.append(occurrence.due)
        occurrence = recurrence.next(occurrence.due)
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    triggers=st.lists(TRIGGERS, min_size=1, max_size=3),
    overlap=st.sampled_from(list(Overlap)),
    mode=st.sampled_from(["all", "latest", "skip"]),
    outcome=st.sampled_from(["done", "fail", "again"]),
    steps=STEPS,
)
def test_every_instant_has_exactly_one_decision(
    triggers: list[dict[str, Any]], overlap: str, mode: str, outcome: str, steps: Any
) -> None:
    asyncio.run(simulate(triggers, overlap, mode, outcome, steps))


async def simulate(
    triggers: list[dict[str, Any]], overlap: str, mode: str, outcome: str, steps: Any
) -> None:
    app = Horae("test")

    @app.handler("work")
    async def work(context: Context) -> Result:
        if outcome == "fail":
            raise ValueError
        return Result.again(after="3 minutes", limit=2) if outcome == "again" else Result.done()

    async with testing.engine(app, concurrency=1000) as engine:
        for index, trigger in enumerate(triggers):
            await engine.create_schedule(
                f"s{index}", trigger, "work", overlap=overlap, catch_up={"mode": mode}
            )
        for kind, amount in steps:
            if kind == "advance":
                await engine.advance(amount)
            elif kind == "jump":  # a downtime: nothing looks in between
                engine._clock.move_to(engine.now + timedelta(seconds=amount))
            else:
                await engine.command(f"schedule.{kind}", {"id": "s0"})
        await engine.command("schedule.resume", {"id": "s0"})
        await engine.settle()
        for index in range(len(triggers)):  # ends what is waiting, and records what was skipped
            await engine.cancel_schedule(f"s{index}")
        log, now = events(engine), engine.now
    for index, trigger in enumerate(triggers):
        instants = expected(trigger, now)
        decided: Counter[datetime] = Counter()
        for event in log:
            if event.schedule_id != f"s{index}":
                continue
            if isinstance(event, ExecutionRequested | ExecutionBuffered | ExecutionSkipped):
                decided[event.due] += 1
            elif isinstance(event, OccurrencesDecided):
                inside = [each for each in instants if event.first <= each <= event.last]
                assert event.count in (None, len(inside))
                decided.update(inside)
        assert sorted(decided) == instants, trigger
        assert set(decided.values()) <= {1}, trigger
    versions = Counter(event.execution_id for event in log if isinstance(event, ExecutionRequested))
    assert set(versions.values()) <= {1}


# --- failures in a row ---------------------------------------------------------------------------


async def test_schedule_pauses_itself_after_failures_in_a_row_until_it_is_resumed() -> None:
    app = Horae("test")
    broken = True

    @app.schedule("fragile", every("1 minute"), retry=Retry(max_attempts=1), pause_on_failures=3)
    async def fragile(context: Context) -> None:
        if broken:
            raise LookupError("no such host")

    async with testing.engine(app) as engine:
        await engine.advance("1 hour")
        shown = await engine.get_schedule("fragile")
        assert (shown["status"], shown["tripped"]) == ("paused", True)
        assert shown["paused_at"] == "2026-01-01T00:03:00Z"
        assert shown["note"].endswith("the last one by LookupError: no such host")
        assert shown["statistics"]["failed"] == 3
        broken = False
        resumed = await engine.resume_schedule("fragile", note="host is back")
        assert (resumed["status"], resumed["next_due"]) == ("active", "2026-01-01T01:01:00Z")
        await engine.advance("10 minutes")
        shown = await engine.get_schedule("fragile")
        assert (shown["status"], shown["tripped"], shown["note"]) == ("active", False, "")
        assert shown["statistics"]["succeeded"] == 10


# --- handlers ------------------------------------------------------------------------------------


async def test_handlers_side_by_side_see_what_was_done_before() -> None:
    app = Horae("test")
    seen: list[int] = []

    @app.schedule("count", every("1 minute"), overlap="allow")
    async def count(context: Context) -> None:
        listed = await context.list_schedules(status="active")
        seen.append(listed["total"])

    async with testing.engine(app) as engine:
        for _ in range(3):
            await engine.trigger_schedule("count")
        await engine.settle()
        assert seen == [1, 1, 1]
        await engine.create_schedule("other", every("1 hour"), "count")
        await engine.advance("1 minute")
        assert seen[3:] == [2]
