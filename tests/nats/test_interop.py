"""The Node programs of `tests/interop`: a worker with a small engine, a service with a whole one."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats_works import accepted

from horae import Horae
from horae_application.messages import Reply, Request
from horae_application.work import Work
from horae_domain.errors import ExecutionNotFound, InvalidTrigger
from horae_infrastructure.nats.service import NatsService
from horae_infrastructure.nats.work import NatsWorkBus
from horae_infrastructure.settings import Settings

PROGRAM = Path(__file__).parent.parent / "interop"


class Engine:
    """Offers the work of a schedule as soon as it is created, and believes the first report."""

    def __init__(self, bus: NatsWorkBus) -> None:
        self._bus = bus
        self.result = None
        self.polls = 0

    async def command(self, request: Request) -> Reply:
        body = json.loads(request.body)
        match request.name:
            case "schedule.create":
                if body["trigger"]["type"] != "once":
                    raise InvalidTrigger("no such type", field="trigger.type")
                self._bus.publish([offered(request.tenant, body)])
            case "execution.start":
                assert body["worker"] == "node"
                return accepted("s.0.2", lease="1.2")
            case "execution.report":
                assert body["lease"] == "1.2"
                self.result = body["result"]
                self._bus.withdraw([body["execution_id"]])
        return accepted("s.0.1")

    async def query(self, request: Request) -> Reply:
        self.polls += 1
        if self.polls == 1:
            raise ExecutionNotFound("not yet")
        return accepted("s.0.3", status="succeeded", result=self.result)


def offered(tenant: str, body: dict) -> Work:
    return Work(
        execution_id=str(uuid.uuid4()),
        schedule_id=body["id"],
        tenant=tenant,
        attempt=1,
        lease="1.1",
        due=datetime.now(UTC),
        action=body["action"],
        payload=body["payload"],
    )


async def in_node(program: str, nats_url: str, tenant: str) -> None:
    """Run a program to its end, which has to be a good one."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(PROGRAM / program),
        nats_url,
        tenant,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said + complained


needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (PROGRAM / "node_modules").exists(),
    reason="needs Node and `npm ci` in tests/interop",
)


@needs_node
async def test_service_in_another_language_answers_commands(nats_url, tenant, tmp_path):
    told = Settings.read(store_url="memory://", nats_url=nats_url, tenant=tenant, data_dir=tmp_path)
    async with Horae("engine").serve(told):
        await in_node("service.js", nats_url, tenant)


@needs_node
async def test_program_in_another_language_does_the_work(nc, nats_url, tenant):
    bus = NatsWorkBus(nc)
    await bus.start()
    engine = Engine(bus)
    service = NatsService(
        nc,
        commands=engine.command,
        queries=engine.query,
        command_names=["schedule.create", "execution.start", "execution.report"],
        query_names=["execution.get"],
        version="1.0.0",
    )
    await service.start()
    await bus.ready()
    await in_node("interop.js", nats_url, tenant)
    assert engine.result["echo"] == {"greeting": "hello from JavaScript"}
    await bus.stop()
    await service.stop()
