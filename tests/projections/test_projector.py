"""The projector: catching up, living on, and building anew by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random

import msgspec
import pytest
from desk import Desk, at, created, execution_id, requested, started, succeeded

from horae.ending import cancel
from horae_application.ports import StoreUnavailable
from horae_domain.errors import Unavailable
from horae_domain.events import ExecutionSkipped, ScheduleCancelled, SchedulePaused, ScheduleResumed
from horae_domain.positions import Position
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.views import open_views
from horae_projections import pacing
from horae_projections import projector as module
from horae_projections.ports import StaleProjector, Step
from horae_projections.projector import Projector


def history(count: int, seed: int = 1) -> list:
    """Events of several schedules, mixed."""
    chance = random.Random(seed)
    events = [created(f"s{n}", when=at(n), tags=[f"t{n % 3}"], name=f"N{n}") for n in range(5)]
    for number in range(count):
        id_ = f"s{chance.randrange(5)}"
        run = [requested(number, id_), started(number, 1, id_, seconds=60 * number + 1)]
        if chance.random() < 0.7:
            run.append(succeeded(number, 1, id_, seconds=60 * number + 2))
        if chance.random() < 0.1:
            run.append(SchedulePaused(at=at(number), schedule_id=id_))
            run.append(ScheduleResumed(at=at(number), schedule_id=id_, next_due=at(number + 60)))
        if chance.random() < 0.2:
            run.append(
                ExecutionSkipped(
                    at=at(number), schedule_id=id_, execution_id=execution_id(10_000 + number),
                    kind="interval", due=at(number), nominal=str(number), revision=1, reason="r",
                )
            )  # fmt: skip
        events += run
    return events


async def everything(desk: Desk) -> dict:
    """All that the queries tell, without positions."""
    told = {
        "schedules": await desk.ask("schedule.list", limit=1000),
        "executions": await desk.ask("execution.list", limit=1000),
        "timers": await desk.ask("timer.list", limit=1000),
    }
    runs = [each["id"] for each in told["executions"]["executions"]]
    told["whole"] = [await desk.ask("execution.get", id=id_) for id_ in runs]
    return _without_position(told)


def _without_position(value):
    if isinstance(value, dict):
        return {k: _without_position(v) for k, v in value.items() if k != "position"}
    return [_without_position(each) for each in value] if isinstance(value, list) else value


@contextlib.asynccontextmanager
async def running(projector: Projector):
    task = asyncio.create_task(projector.run())
    try:
        yield
    finally:
        await cancel(task)


async def until(desk: Desk, number: int, projector: Projector | None = None) -> None:
    position = Position(desk.log.identity, 0, number)
    assert await (projector or desk.projector).reached(position, 100)


async def test_replay_equals_live(views):
    live, replayed = Desk(views), Desk(open_views("memory://"))
    replayed.log = live.log
    replayed.projector = Projector(live.log, replayed.views)
    events = history(150)
    while events:
        size = random.Random(len(events)).randrange(1, 40)
        await live.tell(*events[:size])
        events = events[size:]
    await replayed.projector.catch_up()
    assert await everything(live) == await everything(replayed)


async def test_rows_that_were_forgotten_are_loaded_again(views, monkeypatch):
    desk = Desk(views)
    desk.projector._sheet._keep = 3
    for event in history(40):
        await desk.tell(event)
    other = Desk(open_views("memory://"), desk.log)
    await other.projector.catch_up()
    assert await everything(desk) == await everything(other)


async def test_a_schedule_made_anew_leaves_its_former_places_though_its_row_was_forgotten(views):
    desk = Desk(views)
    desk.projector._sheet._keep = 0
    await desk.tell(created(tags=["former"]))
    await desk.tell(ScheduleCancelled(at=at(1), schedule_id="a"))
    again = msgspec.structs.replace(created(tags=["new"], when=at(2)), incarnation=2, revision=2)
    await desk.tell(again)
    assert (await desk.ask("schedule.list", tags=["former"]))["total"] == 0
    assert [each["id"] for each in (await desk.ask("schedule.list"))["schedules"]] == ["a"]


async def test_a_projector_goes_on_where_the_former_one_stopped(desk: Desk):
    await desk.tell(created())
    desk.write(requested())
    other = Projector(desk.log, desk.views)
    assert (await other.catch_up()).number == 2
    assert other.rebuilds == 0
    assert (await desk.ask("execution.get", id=execution_id(1)))["status"] == "pending"


async def test_two_projectors_do_not_count_twice(desk: Desk):
    other = Projector(desk.log, desk.views)
    await desk.tell(created())
    for number in range(1, 6):
        desk.write(requested(number))
        await asyncio.gather(desk.projector.catch_up(), other.catch_up())
    assert (await desk.ask("schedule.get", id="a"))["statistics"]["fired"] == 5


async def test_news_are_projected_as_they_are_written(desk: Desk):
    async with running(desk.projector):
        last = desk.write(created(), requested())
        await until(desk, last)
        assert (await desk.ask("schedule.get", id="a"))["statistics"]["fired"] == 1


async def test_events_handed_over_are_not_read_again(desk: Desk):
    await desk.tell(created())
    desk.projector._log = NoReading(desk.log)
    async with running(desk.projector):
        await wait_for_begin(desk.projector)
        events = [requested(), started(), succeeded()]
        last = desk.write(*events)
        desk.projector.hint(range(last - 2, last + 1), events)
        await until(desk, last)
    assert (await desk.ask("execution.get", id=execution_id(1)))["status"] == "succeeded"


class NoReading:
    """A log of which only the first look may read."""

    def __init__(self, log: MemoryStore) -> None:
        self.identity = log.identity
        self.head = log.head
        self.looks = 0

    def read(self, after: int, limit: int) -> list:
        self.looks += 1
        return []

    def wait(self, after: int, timeout: float) -> bool:
        return False


async def wait_for_begin(projector: Projector) -> None:
    while projector._waiting is None:
        await asyncio.sleep(0.001)


async def test_a_gap_in_what_is_handed_over_is_read_from_the_log(desk: Desk):
    await desk.tell(created())
    async with running(desk.projector):
        events = [requested(), started(), succeeded()]
        last = desk.write(*events)
        desk.projector.hint([last], events[2:])
        await until(desk, last)
    assert (await desk.ask("schedule.get", id="a"))["statistics"]["succeeded"] == 1


async def test_positions_pass_over_events_that_concern_nobody(desk: Desk):
    desk.write_raw("gone.v1", b"{}")
    desk.write_raw("gone.v1", b"{}")
    assert (await desk.projector.catch_up()).number == 2
    assert desk.projector.health()["lag"] == 0


class TestRebuilding:
    async def wiped(self, desk: Desk) -> None:
        await desk.views.drop(await desk.views.live())

    async def test_a_wiped_view_is_built_anew_by_itself(self, desk: Desk):
        await desk.tell(*history(20))
        before = await everything(desk)
        async with running(desk.projector):
            await self.wiped(desk)
            while desk.projector.rebuilds < 2 or desk.projector._building:
                await asyncio.sleep(0.005)
            assert await everything(desk) == before
            last = desk.write(created("later"))
            await until(desk, last)

    async def test_while_there_is_no_view_queries_are_unavailable_not_empty(self, desk: Desk):
        await desk.tell(created())
        await self.wiped(desk)
        for name, body in [
            ("schedule.get", {"id": "a"}),
            ("schedule.list", {}),
            ("execution.get", {"id": execution_id(1)}),
            ("execution.list", {}),
            ("schedule.history", {"id": "a"}),
            ("timer.list", {}),
        ]:
            with pytest.raises(Unavailable):
                await desk.ask(name, **body)

    async def test_a_view_of_another_store_is_not_answered_from(self, views):
        await Desk(views).tell(created("theirs"))
        desk = Desk(views)
        await desk.tell(created("ours"))
        found = (await desk.ask("schedule.list"))["schedules"]
        assert [each["id"] for each in found] == ["ours"]

    async def test_a_view_ahead_of_its_log_is_built_anew(self, desk: Desk):
        await desk.tell(created())
        live = await desk.views.live()
        ahead = Position(desk.log.identity, 0, 99)
        await desk.views.apply(live, [Step(str(desk.projector.position), str(ahead), ())])
        other = Projector(desk.log, desk.views)
        assert (await other.catch_up()).number == 1
        assert other.rebuilds == 1

    async def test_the_old_view_answers_while_a_new_one_is_built(self, desk: Desk, monkeypatch):
        await desk.tell(created())
        seen = []
        apply = desk.views.apply

        async def watched(version, steps):
            seen.append((await desk.ask("schedule.list"))["total"])
            await apply(version, steps)

        monkeypatch.setattr(desk.views, "apply", watched)
        old = await desk.views.live()
        desk.projector.rebuild()
        assert not desk.projector.rebuilding
        await desk.projector.catch_up()
        assert await desk.views.live() != old
        assert seen == [1, 1]
        assert await desk.views.position(old) is None

    async def test_a_view_of_another_format_is_replaced(self, desk: Desk, monkeypatch):
        await desk.tell(created())
        old = await desk.views.live()
        newer = module.FORMAT + 1
        monkeypatch.setattr(module, "FORMAT", newer)
        other = Projector(desk.log, desk.views)
        await other.catch_up()
        assert (await desk.views.live()).startswith(f"{newer}-")
        assert await desk.views.position(old) is None
        assert (await desk.ask("schedule.get", id="a"))["status"] == "active"

    async def test_of_two_builders_one_wins_and_both_go_on(self, views):
        desk = Desk(views)
        desk.write(*history(30))
        other = Projector(desk.log, views)
        await asyncio.gather(desk.projector.catch_up(), other.catch_up())
        desk.write(created("last"))
        await asyncio.gather(desk.projector.catch_up(), other.catch_up())
        assert (await desk.ask("schedule.list"))["total"] == 6

    async def test_what_a_stale_projector_folded_is_not_kept(self, desk: Desk):
        await desk.tell(created())
        other = Projector(desk.log, desk.views)
        await other.catch_up()
        desk.write(requested(1))
        await other.catch_up()
        with pytest.raises(StaleProjector):
            await desk.projector._advance()
        desk.write(requested(2))
        await desk.projector.catch_up()
        assert (await desk.ask("schedule.get", id="a"))["statistics"]["fired"] == 2


class Failing:
    """A log that cannot be read the first few times."""

    def __init__(self, log: MemoryStore, failures: int) -> None:
        self._log = log
        self.identity = log.identity
        self.failures = failures
        self.wait = log.wait
        self.head = log.head

    def read(self, after: int, limit: int):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("gone")
        return self._log.read(after, limit)


async def test_a_log_that_fails_is_reported_and_tried_again(desk: Desk):
    desk.write(created())
    projector = Projector(Failing(desk.log, 2), desk.views, idle=0.05)
    async with running(projector):
        while not projector.health()["issues"] or projector.health()["status"] != "down":
            await asyncio.sleep(0.001)
        await until(desk, 1, projector)
        while projector.health()["status"] == "down":
            await asyncio.sleep(0.001)
    assert (await desk.ask("schedule.list"))["total"] == 1


class TestValkey:
    """What only a server can do: die, and come back empty or with old data."""

    async def test_a_server_killed_and_back_empty_is_filled_again(self, valkey_server, valkey_url):
        views = open_views(valkey_url)
        desk = Desk(views)
        async with running(desk.projector):
            await until(desk, desk.write(*history(20)))
            before = await everything(desk)
            valkey_server.kill()
            desk.write(created("meanwhile"))
            with pytest.raises(Unavailable):
                await desk.ask("schedule.list")
            valkey_server.start()
            last = desk.write(succeeded(9999))
            await until(desk, last)
            after = await everything(desk)
            assert after["schedules"]["total"] == before["schedules"]["total"] + 1
            assert after["whole"] == before["whole"]
            assert desk.projector.rebuilds == 2
        await views.close()

    async def test_a_server_flushed_under_it_is_filled_again(self, valkey_url):
        import redis

        views = open_views(valkey_url)
        desk = Desk(views)
        async with running(desk.projector):
            await until(desk, desk.write(*history(20)))
            before = await everything(desk)
            with redis.Redis.from_url(valkey_url) as client:
                client.flushall()
            while desk.projector.rebuilds < 2 or desk.projector._building:
                await asyncio.sleep(0.005)
            assert await everything(desk) == before
        await views.close()

    async def test_nothing_of_a_former_version_stays_behind(self, valkey_url):
        import redis

        views = open_views(valkey_url)
        desk = Desk(views)
        await desk.tell(*history(50))
        with redis.Redis.from_url(valkey_url) as client:
            before = client.dbsize()
            desk.projector.rebuild()
            await desk.projector.catch_up()
            assert client.dbsize() == before
        await views.close()


@pytest.mark.parametrize("alone", [True, False])
async def test_whoever_waits_for_a_position_does_not_wait_for_others_to_come(monkeypatch, alone):
    monkeypatch.setattr(pacing, "PACE", 1e9)
    desk = Desk(open_views("memory://"))
    projector = Projector(desk.log, desk.views, alone=alone)
    running = asyncio.create_task(projector.run())
    while projector.position is None:
        await asyncio.sleep(0)
    for number in range(1, 4):
        event = created(f"s{number}")
        desk.write(event)
        projector.hint([number], [event])
        assert await projector.reached(Position(desk.log.identity, 0, number), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_view_rests_between_what_others_write_until_somebody_waits_for_it(monkeypatch):
    monkeypatch.setattr(pacing, "PACE", 1e9)
    desk = Desk(open_views("memory://"))
    async with running(desk.projector), asyncio.timeout(30):
        await until(desk, desk.write(created("s0")))
        while desk.log.head() - desk.projector.position.number < 5:
            desk.write(created(f"s{desk.log.head()}"))
            await asyncio.sleep(0.005)
        await until(desk, desk.log.head())


async def test_while_the_engine_is_behind_a_view_rests_until_somebody_waits_for_it(
    views, monkeypatch
):
    monkeypatch.setattr(pacing, "SHARE", 1e9)
    monkeypatch.setattr(pacing, "LONGEST", 1e9)
    desk = Desk(views)
    desk.write(*history(3 * module.STEP * module.BURST))
    projector = Projector(desk.log, desk.views, behind=lambda: True)
    head = desk.log.head()
    async with running(projector):
        first = Position(desk.log.identity, 0, 1)
        while projector.position is None or not first.reached_by(projector.position):
            await asyncio.sleep(0.001)
        assert projector.lag > 0
        await until(desk, head, projector)
    assert projector.lag == 0


async def test_while_the_engine_is_behind_a_view_goes_on_all_the_same(views, monkeypatch):
    monkeypatch.setattr(pacing, "LONGEST", 0.001)
    desk = Desk(views)
    desk.write(*history(module.STEP * module.BURST))
    projector = Projector(desk.log, desk.views, behind=lambda: True)
    assert (await projector.catch_up()).number == desk.log.head()
