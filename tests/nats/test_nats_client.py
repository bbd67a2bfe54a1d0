"""The caller: typed refusals, retries under one key, a server that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats_works import accepted

from horae_application.messages import Reply, Request
from horae_domain.errors import (
    HoraeError,
    InvalidField,
    NotFound,
    PayloadTooLarge,
    RevisionConflict,
    TooManyRequests,
    Unavailable,
    error_from_json,
)
from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.service import NatsService

Handler = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def serving(nc: Client, handler: Handler) -> AsyncIterator[None]:
    service = NatsService(
        nc,
        commands=handler,
        queries=handler,
        command_names=["schedule.pause"],
        query_names=["schedule.get"],
        version="1.0.0",
    )
    await service.start()
    yield
    await service.stop(0.1)


async def refusal(ask: Callable[[float], Awaitable[object]], reason: str) -> str:
    """What is said for good, asked with more time until the reason can come within it."""
    seconds = 0.3
    while True:
        with pytest.raises(Unavailable) as refused:
            await ask(seconds)
        if reason in refused.value.message or seconds > 20:
            return refused.value.message
        seconds *= 3


async def test_reply_is_returned_and_every_command_has_a_key(nc, tenant):
    keys = []

    async def handler(request: Request) -> Reply:
        keys.append(request.key)
        return accepted("7", tenant=request.tenant)

    async with serving(nc, handler):
        caller = NatsCaller(nc, tenant)
        answer = await caller.command("schedule.pause", {"id": "a"})
        await caller.command("schedule.pause", {"id": "a"})
    assert answer == {"ok": True, "position": "7", "tenant": tenant}
    assert None not in keys
    assert len(set(keys)) == 2


async def test_refusal_is_raised_by_its_code(nc, tenant):
    async def handler(request: Request) -> Reply:
        raise RevisionConflict("it is 4", field="expected_revision", value=3, revision=4)

    async with serving(nc, handler):
        with pytest.raises(RevisionConflict) as caught:
            await NatsCaller(nc, tenant).command("schedule.pause", {"id": "a"})
    assert caught.value.details == {"revision": 4}
    assert (caught.value.field, caught.value.value) == ("expected_revision", "3")


async def test_unknown_command_names_the_known_ones(nc, tenant):
    async with serving(nc, None):
        with pytest.raises(InvalidField) as caught:
            await NatsCaller(nc, tenant).command("schedule.explode", {})
    assert caught.value.details["known"] == ["schedule.pause"]


@pytest.mark.parametrize("error", [Unavailable("moving"), TooManyRequests("busy")])
async def test_command_refused_for_now_is_sent_again_under_its_key(nc, tenant, error):
    keys = []

    async def handler(request: Request) -> Reply:
        keys.append(request.key)
        if len(keys) < 3:
            raise error
        return accepted("1")

    async with serving(nc, handler):
        answer = await NatsCaller(nc, tenant).command("schedule.pause", {"id": "a"}, key="mine")
    assert answer["ok"] is True
    assert keys == ["mine"] * 3


@pytest.mark.parametrize("answers", [1, 1000], ids=["then silence", "again and again"])
async def test_command_gives_up_at_its_deadline_with_the_last_reason(nc, tenant, answers):
    heard = Counter()

    async def handler(request: Request) -> Reply:
        heard[request.key] += 1
        if heard[request.key] > answers:
            await asyncio.Event().wait()
        raise Unavailable("moving")

    async def ask(seconds: float) -> None:
        await NatsCaller(nc, tenant).command("schedule.pause", {}, timeout=seconds)

    async with serving(nc, handler):
        assert "moving" in await refusal(ask, "moving")


async def test_query_refused_for_now_is_not_repeated(nc, tenant):
    asked = []

    async def handler(request: Request) -> Reply:
        asked.append(request)
        raise Unavailable("rebuilding")

    async with serving(nc, handler):
        with pytest.raises(Unavailable, match="rebuilding"):
            await NatsCaller(nc, tenant).query("schedule.get", {"id": "a"})
    assert len(asked) == 1


async def test_query_waits_for_somebody_to_listen(nc, tenant):
    async def handler(request: Request) -> Reply:
        return accepted("1")

    asked = asyncio.create_task(NatsCaller(nc, tenant).query("schedule.get", {"id": "a"}))
    await nc.flush()
    async with serving(nc, handler):
        assert (await asked)["ok"] is True


async def test_nobody_listening_is_unavailable(nc, tenant):
    caller = NatsCaller(nc, tenant)
    query = await refusal(
        lambda seconds: caller.query("schedule.get", {}, timeout=seconds), "no responders"
    )
    command = await refusal(
        lambda seconds: caller.command("schedule.pause", {}, timeout=seconds), "no responders"
    )
    assert "no responders" in query
    assert "no responders" in command


async def test_nobody_listening_is_the_reason_though_the_last_attempt_was_cut_short(nc, tenant):
    async def ask(seconds: float) -> None:
        caller = NatsCaller(nc, tenant)
        asked = asyncio.create_task(caller.query("schedule.get", {}, timeout=seconds))
        await asyncio.sleep(0)  # it is on its way
        silent = await nc.subscribe(f"horae.{tenant}.query.schedule.get")
        try:
            await asked
        finally:
            await silent.unsubscribe()

    said = await refusal(ask, "no responders")
    assert "timeout; refused before: " in said
    assert "no responders" in said


async def test_request_beyond_the_servers_limit_is_too_large(nc, tenant):
    with pytest.raises(PayloadTooLarge):
        await NatsCaller(nc, tenant).command("schedule.pause", {"note": "x" * (17 * 1024 * 1024)})


@pytest.mark.parametrize("tenant", ["", "a.b", "*", "ü", "a\n", "a" * 65])
async def test_tenant_that_is_no_token_is_refused(nc, tenant):
    with pytest.raises(InvalidField):
        NatsCaller(nc, tenant)


async def test_closed_connection_is_unavailable(nats_url, tenant):
    client = await connect(nats_url, name="closed")
    await close(client)
    await close(client)
    with pytest.raises(Unavailable):
        await NatsCaller(client, tenant).command("schedule.pause", {}, timeout=0.2)


async def test_connection_to_nobody_is_unavailable():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await connect("nats://user:secret@127.0.0.1:1", name="x", timeout=0.3)


async def test_inboxes_are_below_the_prefix(nats_url, nc, tenant):
    client = await connect(nats_url, name="prefixed", inbox_prefix=f"_INBOX_{tenant}")
    replies = []

    async def answer(msg):
        replies.append(msg.reply)
        await msg.respond(b'{"ok":true}')

    await nc.subscribe(f"horae.{tenant}.query.health", cb=answer)
    await nc.flush()
    await NatsCaller(client, tenant).query("health", {})
    assert replies[0].startswith(f"_INBOX_{tenant}.")
    await close(client)


async def test_answer_that_is_no_json_is_unavailable(nc, tenant):
    async def answer(msg):
        await msg.respond(b"hello")

    await nc.subscribe(f"horae.{tenant}.query.health", cb=answer)
    await nc.flush()
    with pytest.raises(Unavailable, match="no JSON"):
        await NatsCaller(nc, tenant).query("health", {})


async def test_command_survives_the_death_of_the_server(own_server, own_nc):
    """In flight when the server is killed, answered after it has come back, done under one key."""
    keys, heard, gate = [], asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Reply:
        keys.append(request.key)
        heard.set()
        await gate.wait()
        return accepted("1")

    caller_nc = await connect(own_server.url, name="caller")
    async with serving(own_nc, handler):
        asked = asyncio.create_task(
            NatsCaller(caller_nc).command("schedule.pause", {}, timeout=60, key="k")
        )
        await heard.wait()
        own_server.kill()
        gate.set()
        await asyncio.to_thread(own_server.start)
        assert (await asked)["ok"] is True
        assert set(keys) == {"k"}
        assert len(keys) >= 2
    await close(caller_nc)


async def test_idle_connection_comes_back_and_says_so(own_server):
    back = asyncio.Event()
    client = await connect(own_server.url, name="idle")
    client.on_reconnect.append(back.set)
    own_server.kill()
    await asyncio.to_thread(own_server.start)
    await asyncio.wait_for(back.wait(), 60)
    await client.flush()
    await close(client)


async def test_connection_whose_credentials_were_revoked_comes_back_when_they_are_valid(tmp_path):
    back = asyncio.Event()
    with Nats(tmp_path, token="first") as server:
        client = await connect(server.url, name="revoked")
        client.on_reconnect.append(back.set)
        configuration = tmp_path / "nats.conf"
        valid = configuration.read_text()
        configuration.write_text(valid.replace("first", "other"))
        os.kill(server.pid, signal.SIGHUP)
        async with asyncio.timeout(60):
            while client.is_connected:
                await asyncio.sleep(0.01)
        configuration.write_text(valid)
        os.kill(server.pid, signal.SIGHUP)
        await asyncio.wait_for(back.wait(), 60)
        await client.flush()
        await close(client)


async def test_close_without_a_server_does_not_hang(own_server):
    gone = asyncio.Event()

    async def on_closed() -> None:
        gone.set()

    client = await connect(own_server.url, name="alone", on_closed=on_closed)
    own_server.stop()
    await asyncio.wait_for(close(client, 1), 60)
    assert gone.is_set()


def test_close_on_uvloop_drops_what_waits_for_a_server_that_is_gone(own_server):
    uvloop = pytest.importorskip("uvloop")

    async def lose_the_server() -> None:
        client = await connect(own_server.url, name="alone")
        own_server.stop()
        async with asyncio.timeout(60):
            while client.is_connected:
                await asyncio.sleep(0.01)
        await client.publish("somewhere", b"waits")
        await close(client, 1)
        assert client.is_closed

    uvloop.run(lose_the_server())


def test_every_error_survives_the_wire():
    def tree(kind):
        return [kind, *(x for child in kind.__subclasses__() for x in tree(child))]

    for kind in tree(HoraeError):
        if kind.__module__ != "horae_domain.errors":
            continue
        error = kind("said", field="a.b", value="v", known=["x"])
        again = error_from_json(error.status, {"ok": False, "error": error.to_json()})
        assert type(again) is kind
        assert again.to_json() == error.to_json()


def test_code_of_a_later_release_becomes_the_error_of_its_status():
    error = error_from_json(404, {"error": {"code": "moon_not_found", "message": "none"}})
    assert type(error) is NotFound
    assert error.details == {"code": "moon_not_found"}
    assert type(error_from_json(599, {})) is HoraeError
