"""The queries as callers see them."""

from __future__ import annotations

import asyncio
import json

import pytest
from desk import Desk, at, created, execution_id, requested, started, succeeded

from horae.ending import cancel
from horae_domain.errors import (
    ExecutionNotFound,
    InvalidField,
    InvalidTrigger,
    ScheduleNotFound,
    Unavailable,
)
from horae_domain.events import ScheduleCancelled, SchedulePaused
from horae_domain.positions import Position, parse_position
from horae_projections.messages import QUERIES
from horae_projections.queries import Queries

CRON = {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"}


async def a_desk_full(desk: Desk) -> None:
    await desk.tell(
        created("a", when=at(1), name="Nightly report", tags=["x", "y"], trigger=CRON, actor="ann",
                next_due=at(500), priority="low"),
        created("b", when=at(2), name="alerts", tags=["y"], actor="bob", next_due=at(100)),
        created("c", when=at(3), priority="critical", next_due=at(300),
                action={"type": "queue", "queue": "mail"}),
        created("d", when=at(4), name="Zeit", trigger={"type": "manual"}, next_due=None,
                action={"type": "process", "command": ["/bin/ls", "-l"]}),
        created("e", when=at(5), tenant="other", name="Nightly report", tags=["x"]),
        SchedulePaused(at=at(6), schedule_id="b"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, "abcd"),
        ({"order": "desc"}, "dcba"),
        ({"sort": "name"}, "bcad"),
        ({"sort": "next_run"}, "cabd"),
        ({"sort": "next_run", "order": "desc"}, "dbac"),
        ({"sort": "priority"}, "cbda"),
        ({"sort": "priority", "order": "desc"}, "adbc"),
        ({"type": "cron"}, "a"),
        ({"type": ["cron", "manual"]}, "ad"),
        ({"status": "paused"}, "b"),
        ({"status": "active,paused"}, "abcd"),
        ({"tags": ["x", "y"]}, "ab"),
        ({"tags": "x"}, "a"),
        ({"tags_all": ["x", "y"]}, "a"),
        ({"tags": ["*"]}, ""),
        ({"name_contains": "REPORT"}, "a"),
        ({"name_contains": "*"}, ""),
        ({"handler": "mail"}, "c"),
        ({"handler": "/bin/ls"}, "d"),
        ({"handler": "build"}, "ab"),
        ({"created_by": "ann"}, "a"),
        ({"created_from": at(2), "created_to": at(3)}, "bc"),
        ({"created_from": at(3)}, "cd"),
        ({"next_from": at(200)}, "ac"),
        ({"next_to": at(400)}, "c"),
        ({"next_from": at(200), "sort": "name"}, "ca"),
        ({"tags": ["y"], "status": "active", "handler": "build", "created_to": at(9)}, "a"),
    ],
)
async def test_schedules_are_found_by_each_condition(desk: Desk, conditions: dict, found: str):
    await a_desk_full(desk)
    answer = await desk.ask("schedule.list", **conditions)
    assert "".join(each["id"] for each in answer["schedules"]) == found
    assert (answer["total"], answer["cursor"]) == (len(found), None)


async def test_tenants_do_not_see_one_another(desk: Desk):
    await a_desk_full(desk)
    theirs = await desk.ask("schedule.list", tenant="other")
    assert [each["id"] for each in theirs["schedules"]] == ["e"]
    assert theirs["schedules"][0]["tenant"] == "other"
    for name, body in [("schedule.get", {"id": "a"}), ("schedule.history", {"id": "a"})]:
        with pytest.raises(ScheduleNotFound):
            await desk.ask(name, tenant="other", **body)
    assert (await desk.ask("timer.list", tenant="other"))["total"] == 1


async def test_pages_stay_in_place_while_schedules_come_and_go(desk: Desk):
    await desk.tell(*(created(f"s{n:02}", when=at(n)) for n in range(0, 20, 2)))
    first = await desk.ask("schedule.list", limit=4)
    await desk.tell(created("s01", when=at(1)), created("s07", when=at(7)))
    await desk.tell(ScheduleCancelled(at=at(30), schedule_id="s06"))
    second = await desk.ask("schedule.list", limit=4, cursor=first["cursor"])
    assert [each["id"] for each in first["schedules"]] == ["s00", "s02", "s04", "s06"]
    assert [each["id"] for each in second["schedules"]] == ["s07", "s08", "s10", "s12"]
    assert second["total"] == 12


@pytest.mark.parametrize("cursor", ["", "x", "!!!!", "AAAA", "gaRsaXN0", "ä"])
async def test_a_cursor_of_somebody_else_is_refused(desk: Desk, cursor: str):
    await desk.tell(created())
    for name in ("schedule.list", "execution.list", "timer.list"):
        with pytest.raises(InvalidField) as refused:
            await desk.ask(name, cursor=cursor)
        assert refused.value.field == "cursor"


async def test_a_cursor_of_another_order_is_refused(desk: Desk):
    await a_desk_full(desk)
    cursor = (await desk.ask("schedule.list", limit=1))["cursor"]
    with pytest.raises(InvalidField):
        await desk.ask("schedule.list", limit=1, cursor=cursor, sort="name")


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("schedule.list", {"limit": 1001}, "limit"),
        ("schedule.list", {"limit": 0}, "limit"),
        ("schedule.list", {"sort": "colour"}, "sort"),
        ("schedule.list", {"status": "asleep"}, "status[0]"),
        ("schedule.list", {"created_from": "2026-01-01T00:00:00"}, "created_from"),
        ("execution.get", {"id": "x"}, "id"),
        ("schedule.get", {"id": "a", "min_position": "x"}, "min_position"),
        ("schedule.get", {"id": "a", "colour": 1}, "colour"),
        ("schedule.nothing", {}, "name"),
    ],
)
async def test_a_wrong_request_names_its_field(desk: Desk, name: str, body: dict, field: str):
    await desk.tell(created())
    with pytest.raises(InvalidField) as refused:
        await desk.ask(name, **body)
    assert refused.value.field == field


async def test_what_does_not_exist_is_not_found(desk: Desk):
    await desk.tell(created())
    with pytest.raises(ScheduleNotFound):
        await desk.ask("schedule.get", id="b")
    with pytest.raises(ExecutionNotFound):
        await desk.ask("execution.get", id=execution_id(1))
    with pytest.raises(ScheduleNotFound):
        await desk.ask("schedule.preview", id="b")


async def test_executions_are_listed_newest_first_by_schedule_status_and_time(desk: Desk):
    await desk.tell(created(), created("b"), requested(1), requested(2, "b"), requested(3))
    await desk.tell(started(1), succeeded(1))

    async def found(**conditions) -> list[int]:
        answer = await desk.ask("execution.list", **conditions)
        assert answer["total"] >= len(answer["executions"])
        return [int(each["id"][-2:], 16) for each in answer["executions"]]

    assert await found() == [3, 2, 1]
    assert await found(schedule_id="a") == [3, 1]
    assert await found(schedule_id="a", status="succeeded") == [1]
    assert await found(status=["pending", "running"]) == [3, 2]
    assert await found(from_=at(120), to=at(180)) == [3, 2]
    assert await found(schedule_id="nobody") == []
    page = await desk.ask("execution.list", limit=2)
    assert page["total"] == 3
    assert await found(limit=2, cursor=page["cursor"]) == [1]


async def test_a_list_leaves_large_parts_of_executions_out(desk: Desk):
    await desk.tell(created(), requested(), started())
    await desk.tell(succeeded(result="x" * 5000, logs=["l"]))
    (listed,) = (await desk.ask("execution.list"))["executions"]
    whole = await desk.ask("execution.get", id=execution_id(1))
    assert "logs" not in listed
    assert listed["result"] is None
    assert whole["result"] == "x" * 5000


async def test_a_schedule_is_answered_with_its_last_executions(desk: Desk):
    await desk.tell(created(), *(requested(n) for n in range(1, 15)))
    answer = await desk.ask("schedule.get", id="a", executions=10, count=0)
    assert [each["due"][14:16] for each in answer["executions"]] == [
        f"{n:02}" for n in range(14, 4, -1)
    ]
    assert answer["next"] == []


async def test_timers_of_all_kinds_are_one_list_in_pages(desk: Desk):
    await desk.tell(*(created(f"s{n}", next_due=at(n * 10)) for n in range(5)))
    await desk.tell(requested(1, "s0", when=at(5), worker="w", deadline=at(25), next_due=at(65)))
    found, cursor = [], None
    while True:
        page = await desk.ask("timer.list", limit=2, cursor=cursor)
        assert page["total"] == 6
        found += [(each["kind"], each["due"][17:19]) for each in page["timers"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    schedules = [
        ("schedule", "10"),
        ("schedule", "20"),
        ("start_to_close", "25"),
        ("schedule", "30"),
    ]
    assert found == [*schedules, ("schedule", "40"), ("schedule", "05")]
    only = await desk.ask("timer.list", schedule_id="s0")
    assert [each["kind"] for each in only["timers"]] == ["start_to_close", "schedule"]
    assert (await desk.ask("timer.list", kind="schedule"))["total"] == 5


class TestPreview:
    async def test_of_a_schedule_in_its_own_zone(self, desk: Desk):
        await desk.tell(created(trigger=CRON))
        answer = await desk.ask("schedule.preview", id="a", from_="2026-03-27T12:00:00Z", count=3)
        assert answer["next"] == [
            "2026-03-28T02:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00",
        ]  # fmt: skip

    async def test_of_a_bare_trigger(self, desk: Desk):
        await desk.tell(created())
        answer = await desk.ask(
            "schedule.preview", trigger={"type": "cron", "expression": "0 9 * * 1"},
            from_="2026-01-05T09:00:00Z", count=1,
        )  # fmt: skip
        assert answer["next"] == ["2026-01-12T09:00:00+00:00"]

    async def test_needs_one_of_both(self, desk: Desk):
        await desk.tell(created())
        for body in ({}, {"id": "a", "trigger": {"type": "manual"}}):
            with pytest.raises(InvalidField):
                await desk.ask("schedule.preview", **body)
        with pytest.raises(InvalidTrigger):
            await desk.ask("schedule.preview", trigger={"type": "cron", "expression": "nonsense"})


class TestReadingYourWrites:
    async def test_a_query_waits_for_its_position(self, desk: Desk):
        await desk.tell(created())
        task = asyncio.create_task(desk.projector.run())
        position = Position(desk.log.identity, 0, desk.write(requested()))
        answer = await desk.ask("execution.get", id=execution_id(1), min_position=str(position))
        assert position.reached_by(parse_position(answer["position"]))
        await cancel(task)

    async def test_without_a_projector_here_the_view_is_watched(self, desk: Desk):
        await desk.tell(created())
        desk.queries = Queries(desk.views, desk.log)
        number = desk.write(requested())
        body = {"id": execution_id(1), "min_position": f"{desk.log.identity}.0.{number}"}
        asked = asyncio.create_task(desk.ask("execution.get", **body))
        await desk.projector.catch_up()
        assert (await asked)["status"] == "pending"

    async def test_a_position_that_is_not_reached_is_unavailable_and_says_where_it_is(self, desk):
        await desk.tell(created())
        wanted = f"{desk.log.identity}.0.7"
        with pytest.raises(Unavailable) as refused:
            await desk.ask("schedule.list", min_position=wanted, wait_ms=20)
        assert refused.value.details["position"] == f"{desk.log.identity}.0.1"

    async def test_a_position_of_another_store_is_never_reached(self, desk: Desk):
        await desk.tell(created())
        with pytest.raises(Unavailable):
            await desk.ask("schedule.list", min_position="beef.0.1", wait_ms=0)


@pytest.mark.parametrize("name", sorted(QUERIES))
async def test_the_past_is_not_offered_yet_and_refused_by_name(desk: Desk, name: str):
    with pytest.raises(InvalidField) as refused:
        await desk.ask(name, as_of="2026-01-01T00:00:00Z")
    assert refused.value.field == "as_of"
    assert "does not offer it" in refused.value.message


async def test_null_asks_for_the_present(desk: Desk):
    await desk.tell(created())
    assert (await desk.ask("schedule.list", as_of=None))["total"] == 1


class TestHealth:
    async def test_without_issues_it_is_healthy(self, desk: Desk):
        await desk.tell(created())
        answer = await desk.ask("health")
        assert (answer["ok"], answer["status"], answer["issues"]) == (True, "healthy", [])
        assert answer["components"]["views"]["position"] == str(desk.projector.position)
        assert answer["components"]["views"]["latency_ms"] >= 0

    @pytest.mark.parametrize(
        ("state", "status"),
        [
            ({"status": "up", "issues": [{"severity": "warning", "message": "m"}]}, "degraded"),
            ({"status": "up", "issues": [{"severity": "critical", "message": "m"}]}, "unhealthy"),
            ({"status": "up", "latency_ms": 1500.0}, "degraded"),
            ({"status": "down"}, "unhealthy"),
        ],
    )
    async def test_the_worst_issue_decides(self, desk: Desk, state: dict, status: str):
        queries = Queries(
            desk.views,
            desk.log,
            probes=lambda _: {"well": lambda: {"status": "up"}, "x": lambda: state},
        )
        answer = await queries.answer("default", "health", b"")
        assert answer["status"] == status
        assert [issue["component"] for issue in answer["issues"]] == ["x"]

    async def test_a_probe_that_fails_or_hangs_is_a_component_that_is_down(self, desk, monkeypatch):
        monkeypatch.setattr("horae_projections.health.PATIENCE", 0.01)

        def fails():
            raise OSError("gone")

        async def hangs():
            await asyncio.Event().wait()

        queries = Queries(desk.views, desk.log, probes=lambda _: {"fails": fails, "hangs": hangs})
        answer = await queries.answer("default", "health", b"")
        assert answer["status"] == "unhealthy"
        assert {each["status"] for each in answer["components"].values()} == {"down"}
        assert "gone" in json.dumps(answer["issues"])


def test_positions_compare_within_one_log_only():
    here = parse_position("abc.0.5")
    assert here == Position("abc", 0, 5)
    assert str(here) == "abc.0.5"
    assert here.reached_by(Position("abc", 0, 5))
    assert not here.reached_by(Position("abc", 0, 4))
    assert not here.reached_by(Position("abd", 0, 9))
    assert not here.reached_by(Position("abc", 1, 9))
    for text in ("", "abc", "abc.0", "abc.0.x", "abc.0.5\n", "..", "a.0.-1", f"a.0.{'9' * 19}"):
        with pytest.raises(InvalidField):
            parse_position(text)
