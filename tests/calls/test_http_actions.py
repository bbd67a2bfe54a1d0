"""Actions of type `http`, from the schedule to the server and back."""

from __future__ import annotations

import pytest
from web_target import Target, answer

from horae import Horae, Retry, http, manual, testing
from horae_domain.errors import InvalidField, UnknownHandler
from horae_domain.signatures import verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HERE = {"http_networks": "127.0.0.0/8", "secrets": {"partner": SECRET}}


async def test_call_is_made_signed_and_its_answer_is_the_result(server: Target) -> None:
    server.answers = [answer(200, b'{"id": 7}', "application/json")]
    async with testing.engine(**HERE) as engine:
        action = http("POST", server.url("/orders"), secret="partner", timeout="5 seconds")
        await engine.create_schedule("call", manual(), action)
        run = (await engine.trigger_schedule("call", payload={"n": 1}))["execution_id"]
        await engine.settle()
        found = await engine.get_execution(run)
        shown = await engine.get_schedule("call")
    (asked,) = server.asked
    verify([SECRET], asked.headers, asked.body, now=engine.now.timestamp())
    assert found["status"] == "succeeded"
    assert found["result"] == {"status": 200, "content_type": "application/json", "body": {"id": 7}}
    assert shown["action"]["connect_timeout"] == "5s"


async def test_attempts_share_their_key_and_wait_as_the_server_asks(server: Target) -> None:
    server.answers = [answer(503, retry_after="90"), answer(200)]
    async with testing.engine(**HERE) as engine:
        await engine.create_schedule("call", manual(), http("POST", server.url()))
        run = (await engine.trigger_schedule("call"))["execution_id"]
        await engine.settle()
        waiting = await engine.get_execution(run)
        await engine.advance("90 seconds")
        found = await engine.get_execution(run)
    assert waiting["next_retry_at"] == "2026-01-01T00:01:30Z"
    assert found["status"] == "succeeded"
    first, second = (asked.headers for asked in server.asked)
    assert first["idempotency-key"] == second["idempotency-key"] == run
    assert (first["horae-attempt"], second["horae-attempt"]) == ("1", "2")


async def test_call_into_a_private_network_ends_without_a_retry(server: Target) -> None:
    async with testing.engine() as engine:
        await engine.create_schedule("call", manual(), http("POST", server.url()))
        run = (await engine.trigger_schedule("call"))["execution_id"]
        await engine.settle()
        found = await engine.get_execution(run)
    assert found["status"] == "failed"
    assert [each["error"]["type"] for each in found["attempts"]] == ["AddressRefused"]
    assert server.connections == 0


async def test_call_is_declared_in_an_application(server: Target) -> None:
    app = Horae("desk")
    app.declare("call", manual(), http("GET", server.url("/ping")), retry=Retry(1))
    async with testing.engine(app, **HERE) as engine:
        await engine.trigger_schedule("call")
        await engine.settle()
        (found,) = (await engine.list_executions(schedule_id="call"))["executions"]
        (listed,) = (await engine.list_schedules(handler=server.url("/ping")))["schedules"]
    assert found["status"] == "succeeded"
    assert listed["id"] == "call"


def test_call_that_can_never_be_made_is_refused_where_it_is_written() -> None:
    with pytest.raises(InvalidField, match="no user"):
        http("POST", "https://user:secret@example.com/")


async def test_call_is_refused_where_nobody_makes_any(monkeypatch) -> None:
    monkeypatch.setattr("horae.runtime.calls_of", lambda runtime: None)
    async with testing.engine() as engine:
        with pytest.raises(UnknownHandler, match="extra `http`") as refused:
            await engine.create_schedule("call", manual(), http("GET", "https://example.com/"))
    assert refused.value.field == "action.type"
