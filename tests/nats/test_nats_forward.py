"""From engine to engine."""

from __future__ import annotations

import asyncio

import pytest
from nats_works import accepted

from horae_application.messages import Reply, Request
from horae_domain.errors import IllegalState, Unavailable
from horae_infrastructure.nats.forward import NatsForwarder, NatsReceiver, engine_address

REQUEST = Request(
    tenant="default",
    name="schedule.pause",
    body=b'{"id":"\\u00fc"}',
    key="k",
    command_id="c",
    correlation_id="x",
    actor="ada",
    traceparent="t",
)


async def test_request_and_reply_arrive_as_they_are(nc, tenant):
    async def handler(request: Request) -> Reply:
        assert request == REQUEST
        return accepted("5", nested={"a": [1, None, "ü"]})

    address = engine_address(tenant)
    receiver = NatsReceiver(nc, address, handler)
    await receiver.start()
    reply = await NatsForwarder(nc, timeout=60).forward(address, REQUEST)
    assert reply == Reply(200, {"ok": True, "position": "5", "nested": {"a": [1, None, "ü"]}})
    await receiver.stop()


async def test_refusal_of_the_owner_is_a_reply(nc, tenant):
    async def handler(request: Request) -> Reply:
        raise IllegalState("it has ended")

    receiver = NatsReceiver(nc, engine_address(tenant), handler)
    await receiver.start()
    reply = await NatsForwarder(nc, timeout=60).forward(engine_address(tenant), REQUEST)
    assert reply.status == 409
    assert reply.body["error"]["code"] == "illegal_state"
    await receiver.stop()


async def test_fault_of_the_owner_is_internal(nc, tenant):
    async def handler(request: Request) -> Reply:
        raise KeyError("secret")

    receiver = NatsReceiver(nc, engine_address(tenant), handler)
    await receiver.start()
    reply = await NatsForwarder(nc, timeout=60).forward(engine_address(tenant), REQUEST)
    assert reply.status == 500
    assert "secret" not in str(reply.body)
    await receiver.stop()


async def test_garbage_is_refused_and_the_next_one_served(nc, tenant):
    async def handler(request: Request) -> Reply:
        return accepted("1")

    receiver = NatsReceiver(nc, engine_address(tenant), handler)
    await receiver.start()
    garbage = await nc.request(engine_address(tenant), b"\xc1\x00", timeout=5)
    assert b"invalid_field" in garbage.data
    assert (await NatsForwarder(nc, timeout=60).forward(engine_address(tenant), REQUEST)).ok
    await receiver.stop()


async def test_nobody_at_the_address_is_unavailable_at_once(nc, tenant):
    patient = NatsForwarder(nc, timeout=3600)
    with pytest.raises(Unavailable, match="nobody listens") as refused:
        await patient.forward(engine_address(tenant), REQUEST)
    assert refused.value.details["moved"] is True


async def test_owner_that_does_not_answer_is_unavailable(nc, tenant):
    async def handler(request: Request) -> Reply:
        await asyncio.Event().wait()

    receiver = NatsReceiver(nc, engine_address(tenant), handler)
    await receiver.start()
    with pytest.raises(Unavailable, match="timeout"):
        await NatsForwarder(nc, timeout=0.05).forward(engine_address(tenant), REQUEST)
    await receiver.stop(0.01)


async def test_beyond_the_limit_others_are_refused(nc, tenant):
    gate, inside = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        inside.set()
        await gate.wait()
        return accepted("1")

    receiver = NatsReceiver(nc, engine_address(tenant), handler, max_in_flight=1)
    await receiver.start()
    forwarder = NatsForwarder(nc, timeout=60)
    first = asyncio.create_task(forwarder.forward(engine_address(tenant), REQUEST))
    await inside.wait()
    assert (await forwarder.forward(engine_address(tenant), REQUEST)).status == 429
    gate.set()
    assert (await first).ok
    await receiver.stop()


def test_owner_of_any_name_has_one_token():
    assert engine_address("host.example:42/é").count(".") == 2
    assert engine_address("plain-1") == "horae._engine.plain-1"
