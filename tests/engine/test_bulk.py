"""One operation on all schedules that match (G13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from horae import Horae, every, manual, testing
from horae.testing import TestEngine
from horae_application import bulk
from horae_domain.errors import IdempotencyConflict, InvalidField

TAGGED = {"tags": ["x"]}


@pytest.fixture
async def engine() -> AsyncIterator[TestEngine]:
    """Ten schedules, the even ones with a tag; one of those is paused, one cancelled."""
    app = Horae("test")

    @app.handler("work")
    def work() -> None: ...

    async with testing.engine(app) as kit:
        for number in range(10):
            tags = ["x", f"n{number}"] if number % 2 == 0 else []
            await kit.create_schedule(f"s{number}", every("1 hour"), "work", tags=tags)
        await kit.pause_schedule("s2")
        await kit.cancel_schedule("s4")
        yield kit


def counts(answer: dict) -> tuple[int, ...]:
    return tuple(answer[name] for name in ("matched", "changed", "unchanged", "failed"))


async def statuses(engine: TestEngine) -> dict[str, str]:
    answer = await engine.list_schedules()
    return {each["id"]: each["status"] for each in answer["schedules"]}


async def test_all_that_match_are_paused_and_again_changes_nothing(engine: TestEngine) -> None:
    answer = await engine.bulk_schedules("pause", TAGGED, note="audit")
    assert counts(answer) == (5, 3, 2, 0)
    assert answer["ids"] == ["s0", "s6", "s8"]
    shown = await engine.get_schedule("s6", min_position=answer["position"])
    assert (shown["status"], shown["note"]) == ("paused", "audit")
    assert [id_ for id_, status in (await statuses(engine)).items() if status == "active"] == [
        "s1", "s3", "s5", "s7", "s9",
    ]  # fmt: skip
    again = await engine.bulk_schedules("pause", TAGGED, note="audit")
    assert counts(again) == (5, 0, 5, 0)


async def test_dry_run_says_what_would_change_and_changes_nothing(engine: TestEngine) -> None:
    before = await statuses(engine)
    for operation in ("pause", "resume", "cancel"):
        told = await engine.bulk_schedules(operation, TAGGED, dry_run=True)
        assert await statuses(engine) == before
        done = await engine.bulk_schedules(operation, TAGGED)
        assert (counts(told), told["ids"]) == (counts(done), done["ids"])
        before = await statuses(engine)
    assert {before[f"s{number}"] for number in range(0, 10, 2)} == {"cancelled"}


async def test_tags_are_added_and_taken_away(engine: TestEngine) -> None:
    change = {"add": ["y"], "remove": ["x", "n0"]}
    answer = await engine.bulk_schedules("retag", TAGGED, tags=change)
    assert counts(answer) == (5, 4, 1, 0)
    shown = await engine.get_schedule("s8")
    assert (shown["tags"], shown["revision"]) == (["n8", "y"], 2)
    again = await engine.bulk_schedules("retag", {"tags": ["y"]}, tags=change)
    assert counts(again) == (4, 0, 4, 0)


async def test_what_was_just_committed_is_seen(engine: TestEngine) -> None:
    await engine.create_schedule("late", manual(), "work", tags=["late"])
    assert (await engine.bulk_schedules("cancel", {"tags": ["late"]}))["ids"] == ["late"]


async def test_more_than_a_page_is_changed_whole(
    engine: TestEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "PAGE", 2)
    monkeypatch.setattr(bulk, "LANES", 3)
    monkeypatch.setattr(bulk, "MAX_IDS", 4)
    answer = await engine.bulk_schedules("cancel", all=True)
    assert counts(answer) == (10, 9, 1, 0)
    assert len(answer["ids"]) == 4
    assert set((await statuses(engine)).values()) == {"cancelled"}


async def test_refusals_are_counted_and_named(engine: TestEngine) -> None:
    many = {"add": [f"t{number}" for number in range(63)]}
    answer = await engine.bulk_schedules(
        "retag", {"tags": ["n0", "n1"], "status": "active"}, tags=many
    )
    assert counts(answer) == (1, 0, 0, 1)
    (failure,) = answer["failures"]
    assert (failure["id"], failure["error"]["code"], failure["error"]["field"]) == (
        "s0",
        "invalid_field",
        "tags",
    )


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"operation": "erase", "all": True}, "operation"),
        ({"operation": "pause"}, "filter"),
        ({"operation": "pause", "filter": {}}, "filter"),
        ({"operation": "pause", "filter": {"tags": []}}, "filter"),
        ({"operation": "pause", "filter": {"type": None, "name_contains": ""}}, "filter"),
        ({"operation": "pause", "filter": {}, "dry_run": True}, "filter"),
        ({"operation": "pause", "filter": {"tags": ["x"]}, "all": True}, "all"),
        ({"operation": "pause", "filter": {"colour": "red"}}, "filter.colour"),
        ({"operation": "pause", "filter": {"status": "asleep"}}, "filter.status[0]"),
        ({"operation": "pause", "filter": {"limit": 3}}, "filter.limit"),
        ({"operation": "retag", "all": True}, None),
        ({"operation": "pause", "all": True, "tags": {"add": ["x"]}}, None),
    ],
)
async def test_request_that_says_something_else_is_refused(
    engine: TestEngine, told: dict, field: str | None
) -> None:
    before = await statuses(engine)
    with pytest.raises(InvalidField) as caught:
        await engine.command("schedule.bulk", told)
    assert caught.value.field == field
    assert await statuses(engine) == before


async def test_more_than_the_largest_number_is_refused(
    engine: TestEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "LARGEST", 9)
    with pytest.raises(InvalidField) as caught:
        await engine.bulk_schedules("cancel", all=True)
    assert caught.value.field == "filter"
    assert "active" in (await statuses(engine)).values()


# --- under a key ---------------------------------------------------------------------------------


def paused(engine: TestEngine) -> int:
    return sum(each.name == "schedule.paused.v1" for each in engine.log())


async def test_same_key_gives_the_same_answer_and_acts_once(engine: TestEngine) -> None:
    first = await engine.bulk_schedules("pause", TAGGED, idempotency_key="audit")
    assert first["changed"] == 3
    await engine.resume_schedule("s6")
    assert await engine.bulk_schedules("pause", TAGGED, idempotency_key="audit") == first
    assert (await statuses(engine))["s6"] == "active"
    again = await engine.bulk_schedules("pause", TAGGED, idempotency_key="another")
    assert (again["changed"], again["ids"]) == (1, ["s6"])
    shown = await engine.get_schedule("s6", min_position=again["position"])
    assert shown["status"] == "paused"


async def test_same_key_at_the_same_time_acts_once(engine: TestEngine) -> None:
    before = paused(engine)
    one, two = await asyncio.gather(
        *(engine.bulk_schedules("pause", TAGGED, idempotency_key="audit") for _ in range(2))
    )
    assert one == two
    assert (one["changed"], paused(engine) - before) == (3, 3)


async def test_key_of_another_bulk_is_refused(engine: TestEngine) -> None:
    await engine.bulk_schedules("resume", TAGGED, idempotency_key="audit")
    before = await statuses(engine)
    with pytest.raises(IdempotencyConflict):
        await engine.bulk_schedules("cancel", TAGGED, idempotency_key="audit")
    assert await statuses(engine) == before


async def test_neither_a_dry_run_nor_a_refusal_is_remembered(engine: TestEngine) -> None:
    told = await engine.bulk_schedules("pause", TAGGED, dry_run=True, idempotency_key="audit")
    with pytest.raises(InvalidField):
        await engine.bulk_schedules("pause", {"colour": "red"}, idempotency_key="audit")
    done = await engine.bulk_schedules("pause", TAGGED, idempotency_key="audit")
    assert (done["ids"], done["dry_run"]) == (told["ids"], False)
    assert paused(engine) == 1 + 3
