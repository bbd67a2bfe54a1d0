"""No command or query of one tenant sees or changes what is another's (O6), for all names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from horae import Context, Horae, Retry, every, manual, testing
from horae.testing import TestEngine
from horae_application.gateway import new_request
from horae_application.messages import COMMANDS
from horae_domain.codec import decode
from horae_projections.messages import QUERIES

SECRET = "of-the-owner"


@pytest.fixture
async def engine() -> AsyncIterator[TestEngine]:
    """A tenant with a schedule that is due, one that runs, one that has failed and one that waits."""
    app = Horae("test")

    @app.handler("work")
    def work(context: Context) -> str:
        context.log(SECRET)
        return SECRET

    @app.handler("fails")
    def fails() -> None:
        raise LookupError(SECRET)

    async with testing.engine(app) as kit:
        told: dict[str, Any] = {"payload": SECRET, "tags": [SECRET], "name": SECRET}
        await kit.create_schedule("job", every("1 minute"), "work", **told)
        once = Retry(max_attempts=2, delay="1s", jitter=0)
        await kit.create_schedule("dead", manual(), "fails", retry=once, **told)
        queue = {"type": "queue", "queue": "reports"}
        await kit.create_schedule("waits", manual(), queue, **told)
        for id_ in ("dead", "waits"):
            await kit.trigger_schedule(id_)
        await kit.advance("90 seconds")
        yield kit


async def samples(kit: TestEngine) -> list[dict[str, Any]]:
    """What a stranger may know: ids of each schedule and execution, with plausible other fields."""
    runs = (await kit.list_executions())["executions"]
    common = {
        "attempt": 1, "lease": "1.1", "outcome": "succeeded", "priority": "high",
        "operation": "cancel", "filter": {}, "all": True, "reason": "x", "note": "x",
        "at": "2026-01-01T00:02:00Z", "to": "2026-01-01T00:05:00Z", "from": "2026-01-01T00:00:00Z",
        "due": "2026-01-01T00:02:00Z", "kind": "schedule", "schedules": [],
    }  # fmt: skip
    timers = [{"id": each["id"]} for each in (await kit.list_timers())["timers"]]
    return [
        common | {"id": chosen, "schedule_id": run["schedule_id"], "execution_id": run["id"]}
        for run in runs
        for chosen in (run["schedule_id"], run["id"])
    ] + [common | timer for timer in timers]


def body_of(kind: Any, sample: dict[str, Any]) -> dict[str, Any]:
    """The fields that a message has to say, and those that name something."""
    named = {"id", "schedule_id", "execution_id"}
    found = {}
    for name, field in kind.model_fields.items():
        alias = field.alias or name
        if alias in sample and (field.is_required() or alias in named):
            found[alias] = sample[alias]
    return found


def facts(kit: TestEngine) -> list[str]:
    """Everything recorded of the owner."""
    store = kit._runtime.store
    assert store is not None
    events = [decode(row.name, row.state) for row in store.read(0, 1_000_000)]
    return [repr(event) for event in events if event.tenant == "default"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_command_of_a_stranger_changes_nothing_of_the_owner(
    engine: TestEngine, name: str
) -> None:
    before = facts(engine)
    for sample in await samples(engine):
        request = new_request("stranger", name, body_of(COMMANDS[name], sample), key="k")
        reply = await engine._runtime.command(request)
        assert SECRET not in json.dumps(msgspec.to_builtins(reply.body))
    assert facts(engine) == before


@pytest.mark.parametrize("name", sorted(QUERIES))
async def test_query_of_a_stranger_sees_nothing_of_the_owner(engine: TestEngine, name: str) -> None:
    for sample in await samples(engine):
        body = body_of(QUERIES[name], sample)
        reply = await engine._runtime.query(new_request("stranger", name, body))
        text = json.dumps(msgspec.to_builtins(reply.body))
        assert SECRET not in text
        if "total" in reply.body:
            assert reply.body["total"] == 0


async def test_owner_sees_what_a_stranger_does_not(engine: TestEngine) -> None:
    seen = json.dumps([await engine.list_schedules(), await engine.list_executions()])
    assert SECRET in seen
