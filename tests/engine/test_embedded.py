"""One object, no servers: what an application sees of its engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, Result, Retry, cron, every, manual, once
from horae.client import Client
from horae_domain.errors import (
    ExecutionNotFound,
    HoraeError,
    InvalidField,
    InvalidTrigger,
    RevisionConflict,
    ScheduleExists,
    ScheduleNotFound,
    Unavailable,
    UnknownHandler,
)


class Order(BaseModel):
    number: int


PATIENCE = 60
"""Seconds until what is waited for must have come."""
WAIT = {"wait_ms": 1000 * PATIENCE}


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for views that are slow."""
    monkeypatch.setattr("horae.app.VIEWS_MS", 1000 * PATIENCE)


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/horae.db"


async def test_work_for_a_handler_that_is_served_later_starts_then() -> None:
    app = Horae("test")
    ran: asyncio.Queue[str] = asyncio.Queue()
    async with app.embedded() as client:
        body = {"id": "late", "trigger": manual(), "action": {"type": "function", "name": "late"}}
        await client.command("schedule.create", {**body, "allow_unknown": True})
        await client.trigger_schedule("late")

        @app.handler("late")
        async def late(context: Context) -> None:
            ran.put_nowait(context.schedule_id)

        assert await asyncio.wait_for(ran.get(), 60) == "late"


@pytest.fixture
async def app() -> Horae:
    made = Horae("desk")

    @made.handler("double")
    async def double(context: Context, order: Order) -> int:
        context.log("doubling", number=order.number)
        return order.number * 2

    @made.handler("fail")
    def fail(context: Context) -> None:
        raise ValueError("no")

    return made


@pytest.fixture
async def client(app: Horae, url: str, tmp_path: Path) -> AsyncIterator[Client]:
    async with app.embedded(url, data_dir=tmp_path) as made:
        yield made


ENDS = {"succeeded", "failed", "timed_out", "cancelled", "skipped", "dead"}


async def ended(client: Client, id_: str) -> dict[str, Any]:
    """An execution when it has ended."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(ExecutionNotFound, Unavailable):  # the views follow
                answer = await client.get_execution(id_)
                if answer["status"] in ENDS:
                    return answer
            await asyncio.sleep(0.01)


async def settled(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():
            await asyncio.sleep(0.01)


async def test_triggered_handler_runs_and_its_result_can_be_read(client: Client) -> None:
    await client.create_schedule("job", manual(), "double", payload={"number": 4})
    run = await client.trigger_schedule("job", payload={"number": 21}, key="k")
    assert (await client.trigger_schedule("job", payload={"number": 21}, key="k"))[
        "execution_id"
    ] == run["execution_id"]
    answer = await ended(client, run["execution_id"])
    assert answer["status"] == "succeeded"
    assert answer["result"] == 42
    assert len(answer["attempts"]) == 1


async def test_query_reads_what_the_command_wrote(client: Client) -> None:
    for turn in range(20):
        reply = await client.create_schedule(f"s{turn}", manual(), "double")
        answer = await client.get_schedule(f"s{turn}", min_position=reply["position"], **WAIT)
        assert answer["id"] == f"s{turn}"


async def test_failures_are_retried_and_then_recorded(client: Client) -> None:
    retry = Retry(max_attempts=3, delay="10ms", jitter=0)
    await client.create_schedule("job", manual(), "fail", retry=retry)
    answer = await ended(client, (await client.trigger_schedule("job"))["execution_id"])
    assert answer["status"] == "dead"
    assert [each["number"] for each in answer["attempts"]] == [1, 2, 3]
    assert answer["attempts"][0]["error"]["type"] == "ValueError"


async def test_hung_handlers_time_out_and_give_their_slots_back(app: Horae, tmp_path: Path) -> None:
    @app.handler("hang")
    async def hang(context: Context) -> None:
        await asyncio.sleep(60)

    async with app.embedded("memory://", data_dir=tmp_path, concurrency=1) as client:
        policies: dict[str, Any] = {
            "timeout": {"start_to_close": "200ms"},
            "retry": {"max_attempts": 1},
        }
        await client.create_schedule("hung", manual(), "hang", **policies)
        await client.create_schedule("next", manual(), "double", payload={"number": 1})
        hung = await client.trigger_schedule("hung")
        following = await client.trigger_schedule("next")
        assert (await ended(client, hung["execution_id"]))["status"] == "timed_out"
        answer = await ended(client, following["execution_id"])
        assert answer["status"] == "succeeded"


async def test_recurring_schedule_fires_on_its_own(app: Horae, tmp_path: Path) -> None:
    fired: list[datetime] = []

    @app.schedule("tick", every("100ms"))
    async def tick(context: Context) -> None:
        fired.append(context.due)

    async with app.embedded("memory://", data_dir=tmp_path):
        await settled(lambda: len(fired) >= 3)
    gaps = {later - sooner for sooner, later in zip(fired, fired[1:], strict=False)}
    assert all(gap % timedelta(milliseconds=100) == timedelta(0) for gap in gaps)


async def test_many_are_created_at_once_right_after_the_start(
    app: Horae, url: str, tmp_path: Path
) -> None:
    definitions: list[dict[str, Any]] = [
        {"id": f"s{n}", "trigger": manual(), "action": {"type": "function", "name": "double"}}
        for n in range(100)
    ]
    definitions[7] = {"id": "bad id", "trigger": manual(), "action": {"type": "function"}}
    definitions[8]["action"] = {"type": "function", "name": "nobody"}
    async with app.embedded(url, data_dir=tmp_path) as client:
        answer = await client.create_schedules(definitions, idempotency_key="bulk")
        again = await client.create_schedules(definitions, idempotency_key="bulk")
    assert (answer["created"], answer["refused"], answer["ok"]) == (98, 2, False)
    assert answer["results"][7]["error"]["field"].startswith("schedules[7]")
    assert answer["results"][8]["error"]["code"] == "unknown_handler"
    assert answer["results"][9]["position"] == again["results"][9]["position"]


async def test_every_call_of_the_client_has_its_command_or_query(client: Client) -> None:
    definition = {
        "id": "job",
        "trigger": cron("0 2 * * *", timezone="Europe/Berlin"),
        "action": {"type": "function", "name": "double"},
    }
    created = await client.command("schedule.create", definition)
    updated = await client.update_schedule(
        "job",
        cron("0 2 * * *", timezone="Europe/Berlin"),
        "double",
        description="later",
        expected_revision=created["revision"],
    )
    assert updated["revision"] == 2
    patched = await client.patch_schedule(
        "job", retry=Retry(max_attempts=2), description=None, expected_revision=2
    )
    assert patched["revision"] == 3
    shown = await client.get_schedule("job", min_position=patched["position"])
    assert (shown["retry"]["max_attempts"], shown["description"]) == (2, "")
    assert (await client.pause_schedule("job", note="n"))["status"] == "paused"
    assert (await client.resume_schedule("job"))["status"] == "active"
    preview = await client.preview_schedule(id="job", count=2)
    assert len(preview["next"]) == 2
    run = await client.trigger_schedule("job", payload={"number": 1})
    await ended(client, run["execution_id"])
    at = {"min_position": run["position"], **WAIT}
    assert (await client.list_schedules(**at))["total"] == 1
    assert (await client.list_executions(schedule_id="job", **at))["total"] == 1
    assert (await client.schedule_history("job", **at))["ok"]
    assert (await client.list_timers(**at))["ok"]
    assert (await client.health())["status"] in {"healthy", "degraded"}
    assert (await client.cancel_schedule("job"))["status"] == "cancelled"


async def test_refusals_are_the_errors_of_the_tree(client: Client) -> None:
    with pytest.raises(UnknownHandler) as unknown:
        await client.create_schedule("job", manual(), "nobody")
    assert "double, fail" in unknown.value.message
    await client.create_schedule("job", manual(), "double")
    await client.create_schedule("later", manual(), "nobody", allow_unknown=True)
    with pytest.raises(ScheduleExists):
        await client.create_schedule("job", every("1 minute"), "double")
    with pytest.raises(ScheduleNotFound):
        await client.pause_schedule("nobody")
    with pytest.raises(InvalidField) as field:
        await client.create_schedule("x", manual(), "double", priority="urgent")
    assert field.value.field == "priority"
    with pytest.raises(InvalidTrigger):
        await client.create_schedule("x", once("2020-01-01T00:00:00Z"), "double")
    with pytest.raises(InvalidField):
        once(datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose
    with pytest.raises(RevisionConflict):
        await client.update_schedule("job", manual(), "fail", expected_revision=9)
    with pytest.raises(RevisionConflict):
        await client.patch_schedule("job", tags=["x"], expected_revision=9)
    for action in ({"name": "nobody"}, {"type": "process", "command": ["true"], "name": None}):
        with pytest.raises(UnknownHandler):
            await client.patch_schedule("job", action=action)
    later = await client.patch_schedule("job", action={"name": "nobody"}, allow_unknown=True)
    assert later["revision"] == 2
    assert (await client.patch_schedule("job", tags=["x"]))["revision"] == 3


async def test_cancelled_execution_ends_its_handler(app: Horae, tmp_path: Path) -> None:
    began, ending = asyncio.Event(), asyncio.Event()

    @app.handler("long")
    async def long(context: Context) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ending.set()

    async with app.embedded("memory://", data_dir=tmp_path) as client:
        await client.create_schedule("job", manual(), "long")
        run = await client.trigger_schedule("job")
        await asyncio.wait_for(began.wait(), PATIENCE)
        await client.cancel_execution(run["execution_id"], reason="enough")
        await asyncio.wait_for(ending.wait(), PATIENCE)
        assert (await ended(client, run["execution_id"]))["status"] == "cancelled"


async def test_results_that_cannot_be_kept_are_recorded_as_failures(
    app: Horae, tmp_path: Path
) -> None:
    values: dict[str, Any] = {
        "object": object(),
        "nan": float("nan"),
        "large": "x" * 2_000_000,
        "broken": "\ud800",
        "limit": Result.again(after=1, limit=-1),
    }

    @app.handler("any")
    async def give(context: Context, which: str) -> Any:
        return values[which]

    @app.handler("shout")
    async def shout(context: Context) -> None:
        raise ValueError("\ud800 half a character")

    async with app.embedded("memory://", data_dir=tmp_path) as client:
        policies: dict[str, Any] = {"retry": {"max_attempts": 1}}
        runs = []
        for which in values:
            await client.create_schedule(which, manual(), "any", payload=which, **policies)
            runs.append(await client.trigger_schedule(which))
        await client.create_schedule("shout", manual(), "shout", **policies)
        runs.append(await client.trigger_schedule("shout"))
        for run in runs:
            assert (await ended(client, run["execution_id"]))["status"] == "failed", run


async def test_work_that_ends_within_the_drain_is_recorded(app: Horae, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    count: list[int] = []

    @app.handler("slow")
    async def slow(context: Context) -> str:
        count.append(context.attempt)
        await asyncio.sleep(0.2)
        return "done"

    async with app.embedded(url, data_dir=tmp_path) as client:
        await client.create_schedule("job", manual(), "slow")
        run = await client.trigger_schedule("job")
        await settled(lambda: bool(count))
    async with app.embedded(url, data_dir=tmp_path) as client:
        answer = await ended(client, run["execution_id"])
    assert answer["status"] == "succeeded"
    assert count == [1]


# --- decorators ----------------------------------------------------------------------------------


def declared(trigger: dict[str, Any], runs: list[str], **policies: Any) -> Horae:
    app = Horae("desk")

    @app.schedule("job", trigger, **policies)
    async def job(context: Context) -> None:
        runs.append(context.execution_id)

    return app


async def test_declared_schedule_is_brought_up_to_date_and_its_pause_survives(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    async with declared(every("1 hour"), []).embedded(url, data_dir=tmp_path) as client:
        await client.pause_schedule("job", note="operator")
    async with declared(every("1 hour"), []).embedded(url, data_dir=tmp_path) as client:
        answer = await client.pause_schedule("job")
        assert (answer["revision"], answer["status"]) == (1, "paused")
    async with declared(every("2 hours"), []).embedded(url, data_dir=tmp_path) as client:
        answer = await client.pause_schedule("job")
        assert (answer["revision"], answer["status"]) == (2, "paused")
    async with declared(every("1 hour"), []).embedded(url, data_dir=tmp_path) as client:
        assert (await client.pause_schedule("job"))["revision"] == 3, "back to what it was"


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_declared_schedule_that_has_ended_is_not_begun_again(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        url = f"sqlite:///{tmp_path}/horae.db"
        runs: list[str] = []
        trigger = once(after="0s") if how == "completed" else every("1 hour")
        async with declared(trigger, runs).embedded(url, data_dir=tmp_path) as client:
            if how == "completed":
                await settled(lambda: bool(runs))
            else:
                await client.cancel_schedule("job")
        async with declared(trigger, runs).embedded(url, data_dir=tmp_path) as client:
            with pytest.raises(HoraeError) as ended_:
                await client.pause_schedule("job")
            assert ended_.value.code == "illegal_state"
        assert len(runs) == (how == "completed")

    asyncio.run(scenario())


async def test_declared_schedule_changed_after_its_end_is_begun_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    async with declared(every("1 hour"), []).embedded(url, data_dir=tmp_path) as client:
        await client.cancel_schedule("job")
    async with declared(every("2 hours"), []).embedded(url, data_dir=tmp_path) as client:
        assert (await client.pause_schedule("job"))["status"] == "paused"


async def test_declared_instant_that_has_passed_does_not_keep_the_application_from_starting(
    tmp_path: Path,
) -> None:
    runs: list[str] = []
    app = declared(once("2020-01-01T00:00:00Z"), runs)
    async with app.embedded("memory://", data_dir=tmp_path) as client:
        with pytest.raises(ScheduleNotFound):
            await client.pause_schedule("job")
    assert runs == []


async def test_what_is_declared_is_found_at_once(url: str, tmp_path: Path) -> None:
    app = Horae("test")
    for number in range(50):

        @app.schedule(f"s{number}", manual())
        async def work(context: Context) -> None:
            del context

    async with app.embedded(url, data_dir=tmp_path) as client:
        listed = await client.list_schedules(limit=1000)
        assert len(listed["schedules"]) == 50


@pytest.mark.parametrize("prune", [False, True])
async def test_schedule_that_left_the_code_is_reported_and_cancelled_if_asked(
    tmp_path: Path, prune: bool, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"

    def make(*ids: str, name: str = "test") -> Horae:
        app = Horae(name, prune=prune)
        for id_ in ids:

            @app.schedule(id_, manual())
            async def work(context: Context) -> None:
                del context

        return app

    async with make("kept", "left").embedded(url, data_dir=tmp_path) as client:
        await client.create_schedule("by-hand", manual(), "kept")
    async with make("theirs", name="other").embedded(url, data_dir=tmp_path):
        pass
    with caplog.at_level(logging.WARNING, logger="horae"):
        async with make("kept").embedded(url, data_dir=tmp_path) as client:
            states = {
                id_: (await client.get_schedule(id_))["status"]
                for id_ in ("kept", "by-hand", "theirs")
            }
            assert set(states.values()) == {"active"}
            async with asyncio.timeout(PATIENCE):
                wanted = "cancelled" if prune else "active"
                while (await client.get_schedule("left"))["status"] != wanted:
                    await asyncio.sleep(0.01)
    logs = [each.msg for each in caplog.records if isinstance(each.msg, dict)]
    (said,) = [each for each in logs if each["event"] == "schedules no longer declared"]
    assert said["schedules"] == ["left"]
    assert said["cancelled"] is prune


def test_schedule_declared_twice_is_refused_where_it_is_written() -> None:
    app = declared(every("1 hour"), [])
    with pytest.raises(ValueError, match="twice"):
        app.schedule("job", every("1 hour"))(lambda context: None)


def test_declaration_that_is_wrong_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidTrigger):
        declared(cron("61 * * * *"), [])
    with pytest.raises(InvalidField):
        declared(every("1 hour"), [], priority="urgent")
    with pytest.raises(HoraeError):
        every("10ms") and declared(every("10ms"), [])


def test_decorators_return_the_function_unchanged() -> None:
    async def function(context: Context) -> None:
        """Never called."""

    app = Horae("desk")
    assert app.handler("one")(function) is function
    assert app.schedule("two", every("1 hour"), isolation="thread")(function) is function
    assert app.schedules["two"]["action"]["isolation"] == "thread"


# --- ASGI ----------------------------------------------------------------------------------------


async def test_lifespan_runs_an_engine_beside_an_asgi_application(
    app: Horae, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORAE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HORAE_STORE_URL", "sqlite:///embedded.db")
    state: dict[str, Any] = {}
    sent: list[str] = []

    async def asgi(receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """The least that a framework does of the lifespan protocol."""
        async with app.lifespan(object()) as given:
            assert (await receive())["type"] == "lifespan.startup"
            state.update(given)
            sent.append("lifespan.startup.complete")
            assert (await receive())["type"] == "lifespan.shutdown"
        sent.append("lifespan.shutdown.complete")

    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    server = asyncio.create_task(asgi(messages.get))
    await messages.put({"type": "lifespan.startup"})
    await settled(lambda: "horae" in state)
    client: Client = state["horae"]
    await client.create_schedule("job", manual(), "double", payload={"number": 2})
    run = await client.trigger_schedule("job")
    assert (await ended(client, run["execution_id"]))["result"] == 4
    await messages.put({"type": "lifespan.shutdown"})
    await asyncio.wait_for(server, PATIENCE)
    assert sent[-1] == "lifespan.shutdown.complete"
    assert (tmp_path / "embedded.db").exists()


async def test_unknown_setting_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidField) as caught:
        async with Horae("odd").embedded(nonsense=1, data_dir=tmp_path):
            pass
    assert caught.value.field == "nonsense"
    assert "concurrency" in caught.value.message


async def test_store_that_is_in_use_is_refused_as_an_error_of_the_tree(tmp_path: Path) -> None:
    app = Horae("twice")
    async with app.embedded("sqlite:///horae.db", data_dir=tmp_path):
        with pytest.raises(HoraeError) as caught:
            async with app.embedded("sqlite:///horae.db", data_dir=tmp_path):
                pass
    assert (caught.value.code, caught.value.status) == ("store_locked", 503)


async def test_who_asks_again_and_again_lets_others_on_the_loop_run() -> None:
    app = Horae("test")
    async with app.embedded() as client:
        made = await client.create_schedule("job", manual(), action={"type": "queue", "queue": "q"})
        await client.get_schedule("job", min_position=made["position"], **WAIT)
        other = asyncio.create_task(asyncio.sleep(0))
        for _ in range(3):
            await client.get_schedule("job")
        assert other.done()
