"""Queues as queries answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import horae
from horae.testing import TestEngine
from horae.testing import engine as an_engine
from horae_domain.errors import QueueNotFound

OPEN = {"overlap": "allow", "retry": {"max_attempts": 2, "delay": "10 minutes", "jitter": 0}}


@pytest.fixture
async def engine() -> AsyncIterator[TestEngine]:
    app = horae.Horae("desk")

    @app.handler("work")
    async def work() -> None:
        """Done at once."""

    @app.handler("fail")
    async def fail() -> None:
        raise ValueError

    async with an_engine(app) as made:
        yield made


async def counts(engine: TestEngine, queue: str = "default") -> dict[str, int]:
    found = await engine.get_queue(queue)
    names = ("waiting", "running", "delayed", "buffered", "failed", "dead")
    return {name: found[name] for name in names if found[name]}


async def triggered(engine: TestEngine, id_: str, count: int = 1) -> list[str]:
    made = [await engine.trigger_schedule(id_) for _ in range(count)]
    await engine.settle()
    return [each["execution_id"] for each in made]


async def test_what_is_in_a_queue_is_counted(engine: TestEngine):
    await engine.create_schedule("job", horae.manual(), "work", queue="mail", **OPEN)
    await engine.create_schedule("bad", horae.manual(), "fail", queue="mail", **OPEN)
    with pytest.raises(QueueNotFound):
        await engine.get_queue("mail")
    await engine.pause_queue("mail", note="audit")
    await triggered(engine, "job", 3)
    await triggered(engine, "bad", 2)
    assert await counts(engine, "mail") == {"waiting": 5}
    await engine.resume_queue("mail")
    await engine.settle()
    assert await counts(engine, "mail") == {"delayed": 2}
    await engine.advance("11 minutes")
    assert await counts(engine, "mail") == {"dead": 2}
    assert (await engine.get_tenant())["dead"] == 2
    await engine.requeue_dead_letters(all=True)
    await engine.settle()
    assert (await counts(engine, "mail")).get("dead", 0) == 0


async def test_limits_and_pauses_are_shown(engine: TestEngine):
    await engine.limit_queue("mail", concurrency=2, rate="100 per minute")
    await engine.pause_queue("mail", note="audit")
    shown = await engine.get_queue("mail")
    limits = {"concurrency": 2, "rate": "100 per 1m", "paused": True, "note": "audit"}
    assert shown == shown | limits
    assert shown["paused_at"] is not None
    await engine.limit_queue("mail", rate=None)
    await engine.resume_queue("mail")
    shown = await engine.get_queue("mail")
    assert shown == shown | {"rate": None, "paused": False, "note": "", "paused_at": None}


async def test_queues_are_listed_by_name_and_page(engine: TestEngine):
    await engine.create_schedule("job", horae.manual(), "work", queue="mail")
    await triggered(engine, "job")
    for queue in ("alpha", "zeta", "Beta"):
        await engine.limit_queue(queue, concurrency=1)
    await engine.limit_tenant(concurrency=9)
    page = await engine.list_queues()
    assert [each["queue"] for each in page["queues"]] == ["Beta", "alpha", "mail", "zeta"]
    assert (page["total"], page["cursor"]) == (4, None)
    first = await engine.list_queues(limit=3)
    rest = await engine.list_queues(limit=3, cursor=first["cursor"])
    assert [each["queue"] for each in first["queues"] + rest["queues"]] == [
        "Beta",
        "alpha",
        "mail",
        "zeta",
    ]


async def test_what_waits_because_of_a_limit_says_so(engine: TestEngine):
    await engine.create_schedule("job", horae.manual(), "work", **OPEN)

    async def said(id_: str) -> str | None:
        found: str | None = (await engine.get_execution(id_))["waiting_for"]
        return found

    await engine.pause_queue("default")
    [first] = await triggered(engine, "job")
    assert await said(first) == "queue_paused"
    await engine.resume_queue("default")
    await engine.settle()
    assert await said(first) is None
    await engine.limit_queue("default", rate="1 per minute")
    one, two = await triggered(engine, "job", 2)
    assert (await engine.get_execution(one))["status"] == "succeeded"
    assert await said(two) == "queue_rate"
    await engine.advance("61 seconds")
    assert await said(two) is None
    assert (await engine.get_execution(two))["status"] == "succeeded"
    await engine.limit_queue("default", rate=None)
    await engine.limit_tenant(rate="1 per minute")
    one, two = await triggered(engine, "job", 2)
    assert await said(two) == "tenant_rate"


async def test_the_tenant_is_shown_as_a_whole(engine: TestEngine):
    assert (await engine.get_tenant())["running"] == 0
    await engine.limit_tenant(concurrency=3, weight=2)
    shown = await engine.get_tenant()
    assert shown == shown | {"concurrency": 3, "weight": 2, "rate": None, "tenant": "default"}


async def test_a_retry_that_is_due_waits_for_the_limit_and_not_for_its_delay(engine: TestEngine):
    await engine.create_schedule("bad", horae.manual(), "fail", **OPEN)
    [id_] = await triggered(engine, "bad")
    await engine.pause_queue("default")
    assert (await engine.get_execution(id_))["waiting_for"] is None
    await engine.advance("11 minutes")
    found = await engine.get_execution(id_)
    assert (found["status"], found["waiting_for"]) == ("delayed", "queue_paused")
