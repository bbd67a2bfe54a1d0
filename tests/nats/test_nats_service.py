"""Requests over NATS: discovery, replies, refusals, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats_works import accepted

from horae_application.messages import Reply, Request
from horae_domain.errors import ScheduleExists, ScheduleNotFound
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.service import NatsService


class Engine:
    """What stands behind the service in these tests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.gate = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)

    async def command(self, request: Request) -> Reply:
        self.requests.append(request)
        match request.name:
            case "schedule.create":
                raise ScheduleExists("taken", field="id", value="a")
            case "schedule.pause":
                raise RuntimeError("a secret of ours")
            case "schedule.trigger":
                self.waiting.release()
                await self.gate.wait()
        return accepted("1", heard=json.loads(request.body or b"{}"))

    async def query(self, request: Request) -> Reply:
        if request.name == "schedule.list":
            return Reply(200, {"ok": True, "schedules": "x" * (17 * 1024 * 1024)})
        raise ScheduleNotFound("no such schedule", field="id")


COMMANDS = ["schedule.create", "schedule.pause", "schedule.resume", "schedule.trigger"]
QUERIES = ["schedule.get", "schedule.list", "health"]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def service(nc: Client, engine: Engine) -> AsyncIterator[NatsService]:
    service = NatsService(
        nc,
        commands=engine.command,
        queries=engine.query,
        command_names=COMMANDS,
        query_names=QUERIES,
        version="1.2.3",
        schemas={"schedule.create": {"type": "object"}},
        max_in_flight=4,
    )
    await service.start()
    yield service
    engine.gate.set()
    await service.stop()


@pytest.fixture
async def caller(nats_url: str, service: NatsService) -> AsyncIterator[Client]:
    client = await connect(nats_url, name="caller")
    yield client
    await close(client)


async def ask(caller: Client, subject: str, data: bytes = b"{}", **options):
    msg = await caller.request(subject, data, timeout=60, **options)
    return json.loads(msg.data), msg.headers or {}


async def test_command_is_answered_with_what_its_headers_said(caller, engine):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {
        "Horae-Idempotency-Key": "k1",
        "Horae-Correlation-Id": "c1",
        "Horae-Actor": "ada",
        "traceparent": trace,
        "tracestate": "a=1",
        "baggage": "desk=a",
        "Horae-Causation-Id": "run-1",
    }
    body, said = await ask(
        caller, "horae.desk-1.command.schedule.resume", b'{"id":"a"}', headers=headers
    )
    assert body == {"ok": True, "position": "1", "heard": {"id": "a"}}
    assert said == {}
    (request,) = engine.requests
    assert (request.tenant, request.name, request.body) == (
        "desk-1",
        "schedule.resume",
        b'{"id":"a"}',
    )
    assert (request.key, request.correlation_id, request.actor) == ("k1", "c1", "ada")
    assert request.traceparent == trace
    assert request.carried == {"tracestate": "a=1", "baggage": "desk=a", "causation_id": "run-1"}
    assert request.command_id is not None
    assert len(request.command_id) == 32


async def test_headers_are_optional(caller, engine):
    body, _ = await ask(caller, "horae.default.command.schedule.resume")
    assert body["ok"] is True
    request = engine.requests[0]
    assert (request.key, request.correlation_id, request.actor, request.traceparent) == (None,) * 4


async def test_malformed_traceparent_is_ignored(caller, engine):
    await ask(caller, "horae.default.command.schedule.resume", headers={"traceparent": "nonsense"})
    assert engine.requests[0].traceparent is None


async def test_baggage_over_its_bounds_is_refused(caller, engine):
    headers = {"baggage": "a=" + "x" * 8191}
    body, said = await ask(caller, "horae.default.command.schedule.resume", headers=headers)
    assert body["error"]["code"] == "baggage_too_large"
    assert said["Nats-Service-Error-Code"] == "400"
    assert engine.requests == []


async def test_too_long_idempotency_key_is_refused(caller, engine):
    body, said = await ask(
        caller,
        "horae.default.command.schedule.resume",
        headers={"Horae-Idempotency-Key": "k" * 256},
    )
    assert body["error"]["code"] == "invalid_field"
    assert body["error"]["field"] == "Horae-Idempotency-Key"
    assert said["Nats-Service-Error-Code"] == "400"
    assert engine.requests == []


async def test_refusal_carries_the_headers_of_nats_services(caller):
    body, said = await ask(caller, "horae.default.command.schedule.create")
    assert body == {
        "ok": False,
        "error": {"code": "schedule_exists", "message": "taken", "field": "id", "value": "a"},
    }
    assert said == {"Nats-Service-Error": "taken", "Nats-Service-Error-Code": "409"}


async def test_unexpected_exception_tells_nothing_of_itself(caller):
    body, said = await ask(caller, "horae.default.command.schedule.pause")
    assert said["Nats-Service-Error-Code"] == "500"
    assert body["error"]["code"] == "internal"
    assert "secret" not in json.dumps(body) + json.dumps(said)


@pytest.mark.parametrize("kind", ["command", "query"])
async def test_unknown_name_is_refused_with_the_known_ones(caller, kind):
    body, said = await ask(caller, f"horae.default.{kind}.schedule.explode")
    assert said["Nats-Service-Error-Code"] == "400"
    assert body["error"]["field"] == "name"
    assert body["error"]["known"] == sorted(COMMANDS if kind == "command" else QUERIES)


@pytest.mark.parametrize("tenant", ["a" * 65, "ünï", "a%20b", "$SRV"])
async def test_garbage_as_tenant_is_refused(caller, engine, tenant):
    body, said = await ask(caller, f"horae.{tenant}.command.schedule.resume")
    assert said["Nats-Service-Error-Code"] == "400"
    assert body["error"]["field"] == "tenant"
    assert engine.requests == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"PUB horae.\xff\xfe.command.schedule.resume 2\r\n{}\r\n",
        b"PUB horae.t.command.schedule.resume \xff 2\r\n{}\r\n",
        b"HPUB horae.t.command.schedule.resume 16 18\r\nNATS/1.0 \xff\xff\xff\r\n\r\n{}\r\n",
        b"HPUB horae.t.command.schedule.resume 18 20\r\nNATS/1.0\r\n\xff: \xff\r\n\r\n{}\r\n",
    ],
)
async def test_bytes_that_are_no_text_do_not_deafen_the_service(caller, nats_server, garbage):
    hello = b'CONNECT {"verbose":false,"headers":true}\r\nPING\r\n'
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    writer.write(hello + garbage + b"PING\r\n")
    for _ in range(2):
        await reader.readuntil(b"PONG\r\n")
    assert (await ask(caller, "horae.default.command.schedule.resume"))[0]["ok"] is True
    writer.close()
    await writer.wait_closed()


async def test_ten_megabytes_are_too_large(caller, engine):
    body, said = await ask(
        caller, "horae.default.command.schedule.resume", b"x" * (10 * 1024 * 1024)
    )
    assert said["Nats-Service-Error-Code"] == "400"
    assert body["error"]["code"] == "payload_too_large"
    assert engine.requests == []


async def test_answer_larger_than_a_message_is_refused(caller):
    body, said = await ask(caller, "horae.default.query.schedule.list")
    assert body["error"]["code"] == "payload_too_large"
    assert said["Nats-Service-Error-Code"] == "400"


async def test_answer_that_is_no_json_is_an_internal_error(nc, nats_url, tenant):
    async def handler(request: Request) -> Reply:
        return Reply(200, {"ok": True, "thing": object()})

    service = NatsService(
        nc, commands=handler, queries=handler, command_names=["a"], query_names=[], version="1.0.0"
    )
    await service.start()
    body, said = await ask(nc, f"horae.{tenant}.command.a")
    assert body["error"]["code"] == "internal"
    assert said["Nats-Service-Error-Code"] == "500"
    await service.stop()


async def test_slow_request_does_not_hold_up_others_and_too_many_are_refused(
    caller, engine, service
):
    slow = [
        asyncio.create_task(ask(caller, "horae.default.command.schedule.trigger")) for _ in range(3)
    ]
    for _ in slow:
        await engine.waiting.acquire()
    body, _ = await ask(caller, "horae.default.command.schedule.trigger2")
    assert body["error"]["field"] == "name"
    slow.append(asyncio.create_task(ask(caller, "horae.default.command.schedule.trigger")))
    await engine.waiting.acquire()
    body, said = await ask(caller, "horae.default.command.schedule.resume")
    assert body["error"]["code"] == "too_many_requests"
    assert said["Nats-Service-Error-Code"] == "429"
    engine.gate.set()
    assert [(await task)[0]["ok"] for task in slow] == [True] * 4
    assert service.in_flight == 0


async def test_request_without_reply_is_done(caller, engine):
    await caller.publish("horae.default.command.schedule.resume", b"{}")
    await ask(caller, "horae.default.command.schedule.resume")
    assert len(engine.requests) == 2


async def test_reply_to_a_closed_inbox_harms_nobody(caller, engine):
    await caller.publish("horae.default.command.schedule.resume", b"{}", reply="_INBOX.gone.1")
    assert (await ask(caller, "horae.default.command.schedule.resume"))[0]["ok"] is True
    assert len(engine.requests) == 2


async def test_stop_answers_what_is_in_progress(caller, engine, service):
    asked = asyncio.create_task(ask(caller, "horae.default.command.schedule.trigger"))
    await engine.waiting.acquire()
    stopping = asyncio.create_task(service.stop())
    engine.gate.set()
    await stopping
    assert (await asked)[0]["ok"] is True


async def test_service_is_discovered_with_its_endpoints(caller, service):
    await ask(caller, "horae.default.command.schedule.create")
    ping, _ = await ask(caller, "$SRV.PING.horae", b"")
    info, _ = await ask(caller, f"$SRV.INFO.horae.{ping['id']}", b"")
    stats, _ = await ask(caller, f"$SRV.STATS.horae.{ping['id']}", b"")
    assert ping["type"] == "io.nats.micro.v1.ping_response"
    assert (info["name"], info["version"]) == ("horae", "1.2.3")
    endpoints = {endpoint["subject"]: endpoint for endpoint in info["endpoints"]}
    assert set(endpoints) == {f"horae.*.command.{name}" for name in COMMANDS} | {
        f"horae.*.query.{name}" for name in QUERIES
    }
    create = endpoints["horae.*.command.schedule.create"]
    assert json.loads(create["metadata"]["schema"]) == {"type": "object"}
    (counted,) = (each for each in stats["endpoints"] if each["num_requests"])
    assert counted["subject"] == "horae.*.command.schedule.create"
    assert (counted["num_requests"], counted["num_errors"]) == (1, 1)
    assert counted["last_error"] == "taken"
    assert counted["average_processing_time"] > 0


async def test_two_services_share_the_requests(nats_url, nc, service, caller, engine):
    other_engine = Engine()
    other_nc = await connect(nats_url, name="other")
    other = NatsService(
        other_nc,
        commands=other_engine.command,
        queries=other_engine.query,
        command_names=COMMANDS,
        query_names=QUERIES,
        version="1.2.3",
    )
    await other.start()
    for _ in range(40):
        await ask(caller, "horae.default.command.schedule.resume")
    assert len(engine.requests) + len(other_engine.requests) == 40
    assert other_engine.requests
    await other.stop()
    await close(other_nc)
