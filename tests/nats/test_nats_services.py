"""Commands to services: what they are told, what their answers mean, and what is kept for them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from nats.js.api import StreamConfig
from nats_works import work

from horae_application.services import Call, NoReply, NoResponders, ServiceError, call_of, perform
from horae_domain.actions import CommandAction
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.services import NatsServices


@pytest.fixture
async def services(nc):
    services = NatsServices(nc)
    await services.start()
    yield services
    await services.stop()


def call(tenant: str, **facts) -> Call:
    return Call(tenant=tenant, service="trading", command="Rebalance", **facts)


@asynccontextmanager
async def trading(nc, tenant, answer):
    """A service in plain nats-py."""

    async def serve(msg) -> None:
        data, headers = answer(msg)
        if msg.reply:
            await nc.publish(msg.reply, data, headers=headers)

    subscription = await nc.subscribe(f"horae.{tenant}.commands.trading.*", cb=serve)
    await nc.flush()
    yield
    await subscription.unsubscribe()


def refusing(code: str, description: str = "no", data: bytes = b"", **headers):
    told = {"Nats-Service-Error": description, "Nats-Service-Error-Code": code} | headers
    return lambda _msg: (data, told)


async def test_answer_is_the_result_and_the_service_is_told_whose_run_it_is(nc, tenant, services):
    asked = []

    def answer(msg):
        asked.append(msg)
        return b'{"orders": 3}', None

    run = work(
        tenant,
        action=CommandAction(service="trading", command="Rebalance").model_dump(mode="json"),
        payload={"book": "A"},
        correlation_id="c-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        carried={"tracestate": "a=1", "baggage": "desk=a", "causation_id": "run-1"},
        lease="2.1",
    )
    async with trading(nc, tenant, answer):
        result = await perform(services, run)
    assert result.value == {"orders": 3}
    (msg,) = asked
    assert msg.subject == f"horae.{tenant}.commands.trading.Rebalance"
    assert json.loads(msg.data) == {"book": "A"}
    assert msg.headers == {
        "Horae-Idempotency-Key": run.execution_id,
        "Horae-Correlation-Id": "c-1",
        "Horae-Causation-Id": run.execution_id,
        "Horae-Schedule-Id": "nightly",
        "Horae-Execution-Id": run.execution_id,
        "Horae-Attempt": "2",
        "Horae-Lease": "2.1",
        "Horae-Due": "2026-01-01T00:00:00Z",
        "traceparent": run.traceparent,
        "tracestate": "a=1",
        "baggage": "desk=a",
    }


async def test_default_tenant_has_the_short_subject(nc, services):
    heard = asyncio.Queue()

    async def serve(msg):
        heard.put_nowait(msg.subject)
        await msg.respond(b"1")

    subscription = await nc.subscribe("commands.trading.Rebalance", cb=serve)
    assert await services.request(call("default")) == 1
    assert heard.get_nowait() == "commands.trading.Rebalance"
    await subscription.unsubscribe()


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", None), (b"null", None), (b"[1]", [1]), (b"done", "done"), (b"\xff", "�")],
)
async def test_answer_that_is_no_json_is_text(nc, tenant, services, data, value):
    async with trading(nc, tenant, lambda _msg: (data, None)):
        assert await services.request(call(tenant)) == value


async def test_workflow_is_known_by_the_id_that_it_answers(nc, tenant, services):
    action = {"type": "command", "service": "trading", "command": "Start"}
    async with trading(nc, tenant, lambda _msg: (b'{"workflow_id": "w-7"}', None)):
        result = await perform(services, work(tenant, action=action))
    assert result.metadata == {"workflow_id": "w-7"}


@pytest.mark.parametrize(
    ("code", "final"),
    [("400", True), ("403", True), ("404", True), ("408", False), ("409", False), ("429", False),
     ("500", False), ("503", False), ("nonsense", False)],
)  # fmt: skip
async def test_error_of_a_service_fails_the_attempt_and_says_if_it_is_final(
    nc, tenant, services, code, final
):
    action = {"type": "command", "service": "trading", "command": "Rebalance"}
    async with trading(nc, tenant, refusing(code, "closed")):
        result = await perform(services, work(tenant, action=action))
    assert result.outcome == "failed"
    assert result.error == {"type": "ServiceError", "message": f"{code}: closed"} | (
        {"final": True} if final else {}
    )


@pytest.mark.parametrize(
    ("data", "headers", "seconds"),
    [
        (b"", {"Retry-After": "7"}, 7),
        (b'{"error": {"retry_after": 1.5}}', {"Retry-After": "2"}, 1.5),
        (b'{"error": {"retry_after": "3 minutes"}}', {}, 180),
        (b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (b'{"error": {"retry_after": {}}}', {}, None),
        (b'{"error": 5}', {}, None),
    ],
)
async def test_service_says_when_to_try_again(nc, tenant, services, data, headers, seconds):
    async with trading(nc, tenant, refusing("429", data=data, **headers)):
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant))
    delay = refused.value.retry_after
    assert (delay and delay.total_seconds()) == seconds


@pytest.mark.parametrize("field", ["type", "code"])
async def test_service_names_its_error(nc, tenant, services, field):
    body = json.dumps({"error": {field: "InsufficientFunds", "message": "too poor"}}).encode()
    async with trading(nc, tenant, refusing("402", "", body)):
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant))
    assert (refused.value.type, refused.value.message) == ("InsufficientFunds", "402: too poor")


async def test_nobody_there_is_known_at_once_and_may_be_tried_again(tenant, services):
    run = work(
        tenant,
        action={"type": "command", "service": "trading", "command": "X", "timeout": "1 hour"},
    )
    result = await perform(services, run)
    assert result.error == {"type": "NoResponders", "message": "nobody serves trading.X"}


async def test_silent_service_is_waited_for_so_long(nc, tenant, services):
    subscription = await nc.subscribe(f"horae.{tenant}.commands.>")
    await nc.flush()
    with pytest.raises(NoReply, match=r"trading.Rebalance has not answered in 0.05 s"):
        await services.request(call(tenant, timeout=0.05))
    await subscription.unsubscribe()


async def test_answer_that_comes_too_late_disturbs_nobody(nc, tenant, services):
    replies = asyncio.Queue()

    async def serve(msg):
        replies.put_nowait(msg.reply)

    subscription = await nc.subscribe(f"horae.{tenant}.commands.>", cb=serve)
    await nc.flush()
    with pytest.raises(NoReply):
        await services.request(call(tenant, timeout=0.05))
    late = await replies.get()
    second = asyncio.create_task(services.request(call(tenant)))
    now = await replies.get()
    await nc.publish(late, b'"late"')
    await nc.publish(now, b'"in time"')
    assert await second == "in time"
    await subscription.unsubscribe()


async def test_stream_on_the_same_subject_does_not_answer_for_the_service(nc, tenant, services):
    js = nc.jetstream()
    await js.add_stream(StreamConfig(name=tenant, subjects=[f"horae.{tenant}.commands.>"]))
    async with trading(nc, tenant, lambda _msg: (b'{"stream": "S", "seq": 1, "ok": 1}', None)):
        assert await services.request(call(tenant)) == {"stream": "S", "seq": 1, "ok": 1}
    with pytest.raises(NoReply, match=f"only the stream {tenant} has"):
        await services.request(call(tenant, timeout=3.0))
    assert (await js.stream_info(tenant)).state.messages == 2
    await js.delete_stream(tenant)


# --- fire and forget ------------------------------------------------------------------------------


async def stored(nc, tenant) -> list:
    js = nc.jetstream()
    subject = f"horae.{tenant}.send.trading.Rebalance"
    info = await js.stream_info(streams.COMMANDS, subjects_filter=subject)
    count = (info.state.subjects or {}).get(subject, 0)
    if not count:
        return []
    subscription = await js.pull_subscribe(subject, stream=streams.COMMANDS)
    found = await subscription.fetch(count, timeout=30)
    await subscription.unsubscribe()
    return found


async def test_command_that_nobody_waits_for_is_done_when_it_is_stored(nc, tenant, services):
    action = {"type": "command", "service": "trading", "command": "Rebalance", "reply": False}
    run = work(tenant, action=action, payload=[1, 2])
    first = await perform(services, run)
    again = await perform(services, run)
    assert first.value["stream"] == "HORAE_COMMANDS"
    assert again.value == first.value
    (msg,) = await stored(nc, tenant)
    assert json.loads(msg.data) == [1, 2]
    assert msg.headers["Nats-Msg-Id"] == msg.headers["Horae-Idempotency-Key"] == run.execution_id
    assert msg.metadata.sequence.stream == first.value["sequence"]


async def test_who_only_listens_gets_a_copy_that_says_so(nc, tenant, services):
    subscription = await nc.subscribe(f"horae.{tenant}.commands.trading.Rebalance")
    kept = await services.send(call(tenant, payload=5, key="k"))
    copy = await subscription.next_msg(30)
    assert (copy.data, copy.reply) == (b"5", "")
    assert copy.headers["Horae-Sequence"] == str(kept["sequence"])
    await subscription.unsubscribe()


async def test_requests_are_not_stored(nc, tenant, services):
    await services.send(call(tenant, key="sent"))
    async with trading(nc, tenant, lambda _msg: (b"", None)):
        await services.request(call(tenant, key="asked"))
    assert [msg.headers["Horae-Idempotency-Key"] for msg in await stored(nc, tenant)] == ["sent"]


async def test_command_waits_for_a_server_that_comes_back(own_server, own_nc):
    services = NatsServices(own_nc)
    await services.start()
    await services.send(call("t", key="before"))
    own_server.kill()
    sending = asyncio.create_task(services.send(call("t", key="meanwhile", timeout=60)))
    await asyncio.to_thread(own_server.start)
    assert (await sending)["sequence"] == 2
    await services.stop()


async def test_command_that_cannot_be_stored_fails_in_time(own_server, own_nc):
    services = NatsServices(own_nc)
    await services.start()
    own_server.kill()
    with pytest.raises(NoReply, match=r"JetStream has not stored trading.Rebalance"):
        await services.send(call("t", timeout=0.2))
    await services.stop()


@pytest.mark.parametrize("reply", [True, False])
async def test_payload_that_the_server_cannot_carry_is_refused_for_good(
    nc, tenant, services, reply
):
    huge = call(tenant, payload="x" * nc.max_payload, reply=reply)
    with pytest.raises(ServiceError) as refused:
        await (services.request(huge) if reply else services.send(huge))
    assert refused.value.type == "PayloadTooLarge"
    assert refused.value.final


# --- from handlers --------------------------------------------------------------------------------


async def test_other_event_loops_may_send_too(nc, tenant, services):
    def elsewhere():
        return asyncio.run(services.request(call(tenant)))

    async with trading(nc, tenant, lambda _msg: (b'"heard"', None)):
        assert await asyncio.to_thread(elsewhere) == "heard"


def test_header_is_one_line():
    from horae_infrastructure.nats.services import headers_of

    run = work("t", correlation_id="a\r\nNats-Msg-Id: b")
    action = CommandAction(service="s", command="c")
    headers = headers_of(call_of(run, action, None))
    assert headers["Horae-Correlation-Id"] == "a Nats-Msg-Id: b"
    assert headers_of(Call(tenant="t", service="s", command="c")) == {}
    due = datetime(2026, 1, 1, tzinfo=UTC)
    assert headers_of(Call(tenant="t", service="s", command="c", due=due)) == {
        "Horae-Due": "2026-01-01T00:00:00Z"
    }


async def test_nobody_there_is_its_own_error(tenant, services):
    with pytest.raises(NoResponders):
        await services.request(call(tenant))
