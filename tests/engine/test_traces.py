"""A request's trace context reaches the execution that it asked for, and whoever does the work."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel

from horae import Horae, every, manual, testing
from horae.testing import TestEngine
from horae_application.attempt import work_of
from horae_application.gateway import new_request
from horae_domain.identity import schedule_stream

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def asked(engine: TestEngine, name: str, body: dict[str, Any]) -> dict[str, Any]:
    request = msgspec.structs.replace(new_request("default", name, body), traceparent=PARENT)
    reply = await engine._runtime.command(request)
    assert reply.ok, reply.body
    return reply.body


class Remind(BaseModel):
    """A command of the application."""


def application() -> Horae:
    app = Horae("desk")
    app.handler("work")(lambda: None)

    @app.command
    def remind(command: Remind) -> None:
        """Does nothing."""

    return app


async def test_triggered_run_is_in_the_trace_of_its_request():
    async with testing.engine(application()) as engine:
        await engine.create_schedule("job", manual(), {"type": "queue", "queue": "q"})
        run = await asked(engine, "schedule.trigger", {"id": "job"})
        shown = await engine.get_execution(run["execution_id"])
        assert shown["trace_id"] == TRACE
        line = engine._runtime.engine.lines.get(schedule_stream("default", "job"))
        work = work_of(line, line.live[run["execution_id"]])
        assert work.traceparent.startswith(f"00-{TRACE}-")


async def test_scheduled_command_is_in_the_trace_of_whoever_scheduled_it():
    async with testing.engine(application()) as engine:
        body = {"command": "Remind", "after": "1m", "key": "k"}
        command = await asked(engine, "command.schedule", body)
        await engine.advance("1 minute")
        (run,) = (await engine.list_executions(schedule_id=command["id"]))["executions"]
        assert run["trace_id"] == TRACE


async def test_run_of_the_calendar_is_a_trace_of_its_own():
    async with testing.engine(application()) as engine:
        await engine.create_schedule("job", every("1 minute"), "work")
        await engine.advance("1 minute")
        (run,) = (await engine.list_executions())["executions"]
        assert run["trace_id"] == run["id"].replace("-", "")
