"""A file of schedules, compared with an engine and carried out (I5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horae import Context, Horae
from horae.client import Client
from horae.manifest import Plan, carry_out, check, compare, details, read_manifest
from horae.runtime import Runtime
from horae_domain.errors import InvalidField
from horae_domain.instants import format_instant
from horae_infrastructure.settings import Settings

Json = dict[str, Any]


def job(id_: str, **more: Any) -> Json:
    trigger = {"type": "cron", "expression": "0 2 * * *"}
    return {"id": id_, "trigger": trigger, "action": {"type": "queue", "queue": "q"}, **more}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    app = Horae("tested")

    @app.handler("known")
    async def known(ctx: Context) -> None: ...

    settings = Settings.read(store_url="memory://", redis_url="memory://")
    async with app.serve(settings.model_copy(update={"nats_url": None})) as running:
        yield running


@pytest.fixture
def ours(runtime: Runtime) -> Client:
    return runtime.client(actor="set:desk")


async def applied(client: Client, *definitions: Json, **how: bool) -> Plan:
    """Apply a file; the plan that it had."""
    manifest = read_manifest("desk", definitions)
    plan = await compare(client, manifest)
    await check(client, manifest, plan)
    outcome = await carry_out(client, manifest, plan, **how)
    assert not outcome.refused
    return plan


async def test_what_a_file_wants_is_created_and_again_nothing_is_changed(ours: Client) -> None:
    first = await applied(ours, job("a"), job("b"))
    assert first.create == ["a", "b"]
    again = await applied(ours, job("b"), job("a"))
    assert again.empty
    assert again.unchanged == 2
    assert (await ours.get_schedule("a"))["revision"] == 1


async def test_what_differs_is_changed_at_the_revision_that_was_compared(ours: Client) -> None:
    await applied(ours, job("a"), job("b"))
    manifest = read_manifest("desk", [job("a", priority="high"), job("b", payload=1)])
    plan = await compare(ours, manifest)
    assert plan.update == {"a": 1, "b": 1}
    await ours.command("schedule.update", job("b", payload=2))
    outcome = await carry_out(ours, manifest, plan)
    assert outcome.updated == 1
    assert outcome.refused["b"]["code"] == "revision_conflict"
    assert (await ours.get_schedule("a"))["priority"] == "high"


async def test_a_pause_survives(ours: Client) -> None:
    await applied(ours, job("a"))
    await ours.pause_schedule("a")
    plan = await applied(ours, job("a"))
    assert plan.empty
    await applied(ours, job("a", payload=1))
    assert (await ours.get_schedule("a"))["status"] == "paused"


async def test_what_the_set_made_is_pruned_only_if_asked(ours: Client, runtime: Runtime) -> None:
    await runtime.client(actor="ann").create_schedules([job("of-ann")])
    await applied(ours, job("a"), job("b"))
    assert (await applied(ours, job("a"))).gone == ["b"]
    assert (await ours.get_schedule("b"))["status"] == "active"
    await applied(ours, job("a"), prune=True)
    assert (await ours.get_schedule("b"))["status"] == "cancelled"
    assert (await ours.get_schedule("of-ann"))["status"] == "active"
    assert (await applied(ours, job("a"), prune=True)).empty


async def test_what_was_pruned_comes_back_with_the_file(ours: Client) -> None:
    await applied(ours, job("a"))
    await applied(ours, prune=True)
    assert (await applied(ours, job("a"))).create == ["a"]
    assert (await ours.get_schedule("a"))["status"] == "active"


async def test_what_has_completed_stays_so_until_it_changes(ours: Client) -> None:
    done = job("a", trigger={"type": "once", "after": 0})
    await applied(ours, done)
    position = (await ours.get_schedule("a"))["position"]
    while (await ours.get_schedule("a"))["status"] != "completed":
        position = (await ours.get_schedule("a", min_position=position))["position"]
    assert (await applied(ours, done)).empty
    changed = job("a", trigger={"type": "once", "after": 3600})
    assert (await applied(ours, changed)).create == ["a"]


async def test_what_somebody_else_made_is_left_alone_unless_adopted(
    ours: Client, runtime: Runtime
) -> None:
    answer = await runtime.client(actor="ann").create_schedules([job("a"), job("b")])
    await ours.get_schedule("a", min_position=answer["position"])
    plan = await applied(ours, job("a"), job("b", payload=1))
    assert (plan.unchanged, plan.foreign) == (1, {"b": "ann"})
    assert (await ours.get_schedule("b"))["revision"] == 1
    await applied(ours, job("a"), job("b", payload=1), adopt=True)
    assert (await ours.get_schedule("b"))["payload"] == 1
    assert (await applied(ours, prune=True)).gone == []


async def test_differences_are_told_by_path(ours: Client) -> None:
    await applied(ours, job("a", retry={"max_attempts": 2}))
    manifest = read_manifest("desk", [job("a", retry={"max_attempts": 3}, tags=["x"])])
    assert await details(ours, manifest, ["a"]) == {
        "a": {"retry.max_attempts": {"from": 2, "to": 3}, "tags": {"from": None, "to": ["x"]}}
    }


def test_all_problems_of_a_file_are_told_with_their_places() -> None:
    bad = job("c", trigger={"type": "cron", "expression": "61 * * * *"})
    with pytest.raises(InvalidField) as refused:
        read_manifest("desk", [job("a"), job("a"), bad, {"id": "d"}])
    fields = [each["field"] for each in refused.value.details["problems"]]
    assert fields == ["schedules[1].id", "schedules[2].trigger.expression", "schedules[3].trigger"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": {"type": "function", "name": "nobody-serves-it"}},
        {"trigger": {"type": "once", "at": format_instant(datetime.now(UTC) - timedelta(hours=1))}},
    ],
    ids=["unknown handler", "instant in the past"],
)
async def test_nothing_is_changed_if_the_engine_would_refuse_one(ours: Client, wrong: Json) -> None:
    manifest = read_manifest("desk", [job("a"), job("b", **wrong)])
    plan = await compare(ours, manifest)
    with pytest.raises(InvalidField, match=r": b: "):
        await check(ours, manifest, plan)
    assert (await ours.list_schedules())["total"] == 0


async def test_many_are_compared_page_by_page(ours: Client) -> None:
    many = [job(f"job-{n}") for n in range(2_345)]
    assert len((await applied(ours, *many)).create) == 2_345
    plan = await applied(ours, *many[:2_000])
    assert (plan.unchanged, len(plan.gone)) == (2_000, 345)


async def test_large_definitions_are_sent_in_more_requests(ours: Client) -> None:
    many = [job(f"job-{n}", payload="x" * 1_000_000) for n in range(20)]
    assert len((await applied(ours, *many)).create) == 20


def test_many_are_validated_by_two_processes_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = [job(f"job-{n}", payload=n) for n in range(50)]
    wrong = [*some, job("job-3"), job("a b"), *[job(f"bad-{n}", retry=1) for n in range(30)]]

    def read() -> tuple[Any, Any]:
        with pytest.raises(InvalidField) as refused:
            read_manifest("desk", wrong)
        return read_manifest("desk", some), refused.value.to_json()

    alone = read()
    monkeypatch.setattr("horae.manifest.MANY", 10)
    assert read() == alone
    monkeypatch.setattr("horae.beside._send", lambda sending, _: sending.close())
    assert read() == alone, "what a killed process leaves is done here"
    monkeypatch.setattr("sys.platform", "darwin")
    assert read() == alone
