"""Commands that an application serves: requests, refusals, what is stored for it, and discovery."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel

from horae_application.registry import Functions
from horae_application.result import RetryAfter
from horae_application.services import Call, NoResponders, ServiceError
from horae_domain.errors import ScheduleNotFound
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.discovery import Found, matches
from horae_infrastructure.nats.services import NatsServices
from horae_infrastructure.nats.serving import NatsServing


class Rebalance(BaseModel):
    book: str
    limit: int = 10


@pytest.fixture
async def services(nc):
    services = NatsServices(nc)
    await services.start()
    yield services
    await services.stop()


@asynccontextmanager
async def serving(nc, tenant, commands: Functions, **options):
    serving = NatsServing(nc, tenant, commands, **options)
    await serving.start()
    yield serving
    await serving.stop(1)


def functions(**by_command) -> Functions:
    made = Functions()
    for command, function in by_command.items():
        made.add(f"trading.{command}", function)
    return made


def call(tenant: str, command: str = "Rebalance", **facts) -> Call:
    return Call(tenant=tenant, service="trading", command=command, **facts)


# --- requests -------------------------------------------------------------------------------------


async def test_payload_arrives_as_the_model_and_the_answer_as_json(nc, tenant, services):
    async def rebalance(call: Call, order: Rebalance) -> Rebalance:
        return order.model_copy(update={"limit": order.limit + (call.attempt or 0)})

    async with serving(nc, tenant, functions(Rebalance=rebalance)):
        answer = await services.request(call(tenant, payload={"book": "A"}, attempt=3))
    assert answer == {"book": "A", "limit": 13}


async def test_function_is_told_who_sends_the_command(nc, tenant, services):
    seen = []
    sent = call(tenant, payload=1, key="k", correlation_id="c", execution_id="e", lease="1.1")
    async with serving(nc, tenant, functions(Rebalance=seen.append)):
        await services.request(sent)
    assert seen == [sent]


async def test_blocking_function_runs_in_a_thread_of_its_own(nc, tenant, services):
    def name() -> str:
        return threading.current_thread().name

    async with serving(nc, tenant, functions(Rebalance=name)):
        assert await services.request(call(tenant)) == "horae-handler"


@pytest.mark.parametrize(
    ("raised", "code", "kind", "message"),
    [
        (ServiceError("too poor", status=402, type="Funds"), 402, "Funds", "402: too poor"),
        (ScheduleNotFound("none\nsuch"), 404, "schedule_not_found", "404: none such"),
        (LookupError("what"), 500, "LookupError", "500: what"),
    ],
)
async def test_what_is_raised_is_the_refusal(nc, tenant, services, raised, code, kind, message):
    async def fails() -> None:
        raise raised

    async with serving(nc, tenant, functions(Rebalance=fails)):
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant))
    error = refused.value
    assert (error.error_code, error.type, error.message) == (code, kind, message)


async def test_delay_that_is_raised_reaches_the_sender(nc, tenant, services):
    async def busy() -> None:
        raise RetryAfter("1.5 seconds", "busy")

    async with serving(nc, tenant, functions(Rebalance=busy)):
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant))
    assert refused.value.retry_after.total_seconds() == 1.5
    assert refused.value.error_code == 503


@pytest.mark.parametrize("payload", [{"limit": 5}, "text"])
async def test_payload_that_does_not_fit_is_refused_for_good(nc, tenant, services, payload):
    def rebalance(call: Call, order: Rebalance) -> None:
        raise AssertionError

    async with serving(nc, tenant, functions(Rebalance=rebalance)):
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant, payload=payload))
    assert refused.value.type == "PayloadInvalid"
    assert refused.value.final


async def test_garbage_of_strangers_is_refused_or_ignored(nc, tenant):
    seen = []
    subject = f"horae.{tenant}.commands.trading.Rebalance"
    async with serving(nc, tenant, functions(Rebalance=seen.append)):
        refused = await nc.request(subject, b"{", timeout=30)
        assert refused.headers["Nats-Service-Error-Code"] == "400"
        garbage = {"Horae-Attempt": "9" * 5000, "Horae-Due": "soon"}
        await nc.request(subject, b"", headers=garbage, timeout=30)
    (told,) = seen
    assert (told.payload, told.attempt, told.due) == (None, None, None)


async def test_more_than_fits_is_told_to_come_again(nc, tenant, services):
    began, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        began.set()
        await go.wait()
        return "done"

    async with serving(nc, tenant, functions(Rebalance=slow), slots=1):
        first = asyncio.create_task(services.request(call(tenant)))
        await began.wait()
        with pytest.raises(ServiceError) as refused:
            await services.request(call(tenant))
        go.set()
        assert await first == "done"
    assert (refused.value.error_code, refused.value.type) == (429, "TooManyRequests")
    assert refused.value.retry_after.total_seconds() == 1


async def test_processes_of_a_service_share_its_commands(nc, tenant, services):
    done = []

    async def rebalance(call: Call) -> None:
        done.append(call.payload)

    commands = functions(Rebalance=rebalance)
    async with serving(nc, tenant, commands), serving(nc, tenant, commands):
        for number in range(20):
            await services.request(call(tenant, payload=number))
    assert done == list(range(20))


async def test_command_that_is_added_later_is_served_then(nc, tenant, services):
    commands = functions()
    async with serving(nc, tenant, commands) as served:
        with pytest.raises(NoResponders):
            await services.request(call(tenant))
        commands.add("trading.Rebalance", lambda: "now")
        await asyncio.to_thread(served.look)
        while True:
            try:
                assert await services.request(call(tenant)) == "now"
                break
            except NoResponders:
                await asyncio.sleep(0.01)


# --- what is stored -------------------------------------------------------------------------------


async def acknowledged(nc, tenant) -> None:
    """Until the consumer has nothing more to deliver or to be told."""
    name = f"command={tenant}=trading%2ERebalance"
    while True:
        info = await nc.jetstream().consumer_info(streams.COMMANDS, name)
        if info.num_pending == 0 and info.num_ack_pending == 0:
            return
        await asyncio.sleep(0.01)


async def test_stored_command_is_done_once_although_a_copy_comes_too(nc, tenant, services):
    done: asyncio.Queue[Call] = asyncio.Queue()

    async def rebalance(call: Call) -> None:
        done.put_nowait(call)

    await services.send(call(tenant, payload="before it was there", key="1"))
    async with serving(nc, tenant, functions(Rebalance=rebalance)):
        assert (await asyncio.wait_for(done.get(), 60)).payload == "before it was there"
        await services.send(call(tenant, payload="while it was there", key="2"))
        last = await asyncio.wait_for(done.get(), 60)
        assert (last.payload, last.reply, last.key) == ("while it was there", False, "2")
        await acknowledged(nc, tenant)
    assert done.empty()


async def test_stored_command_that_fails_is_done_again(nc, tenant, services):
    tries = 0

    async def rebalance() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ServiceError("not yet", retry_after=0.01)

    await services.send(call(tenant))
    async with serving(nc, tenant, functions(Rebalance=rebalance)):
        while tries < 3:
            await asyncio.sleep(0.01)
        await acknowledged(nc, tenant)
    assert tries == 3


async def test_stored_command_that_can_never_be_done_is_given_up(nc, tenant, services):
    tries = 0

    async def rebalance() -> None:
        nonlocal tries
        tries += 1
        raise ServiceError("never", status=400)

    await services.send(call(tenant))
    async with serving(nc, tenant, functions(Rebalance=rebalance)):
        while not tries:
            await asyncio.sleep(0.01)
        await acknowledged(nc, tenant)
    assert tries == 1


async def test_stored_command_of_a_process_that_stops_goes_to_another(nc, tenant, services):
    began, done = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        began.set()
        await asyncio.Event().wait()

    await services.send(call(tenant))
    first = NatsServing(nc, tenant, functions(Rebalance=hangs))
    await first.start()
    await began.wait()
    await first.stop(0)
    async with serving(nc, tenant, functions(Rebalance=done.set)):
        await asyncio.wait_for(done.wait(), 60)


# --- discovery ------------------------------------------------------------------------------------


async def test_served_commands_are_found_as_micro_services(nc, tenant, services):
    subject = f"horae.{tenant}.commands.trading.Rebalance"
    found = Found(nc, wait=5)
    async with serving(nc, tenant, functions(Rebalance=lambda: 1)):
        await services.request(call(tenant))
        assert await found.serves(subject)
        assert subject in found.subjects()
        stats = await nc.request("$SRV.STATS.trading", b"", timeout=30)
    (endpoint,) = json.loads(stats.data)["endpoints"]
    assert endpoint["subject"] == subject
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (1, 0)


async def test_service_of_anybody_is_found_by_its_wildcard(nc, tenant):
    async def info(msg) -> None:
        endpoint = {"name": "all", "subject": f"horae.{tenant}.commands.agents.>"}
        await msg.respond(json.dumps({"name": "x", "endpoints": [endpoint]}).encode())

    subscription = await nc.subscribe("$SRV.INFO", cb=info)
    found = Found(nc, wait=5)
    both = [found.serves(f"horae.{tenant}.commands.agents.{name}.Run") for name in "ab"]
    assert await asyncio.gather(*both) == [True, True]
    await subscription.unsubscribe()


async def test_service_that_nobody_is_is_looked_for_in_vain(nc, tenant):
    async def garbage(msg) -> None:
        await msg.respond(b'{"endpoints": 5}')

    subscription = await nc.subscribe("$SRV.INFO", cb=garbage)
    found = Found(nc, wait=0.05)
    assert not await found.serves(f"horae.{tenant}.commands.trading.Rebalance")
    await subscription.unsubscribe()


async def test_what_was_found_is_forgotten_after_a_while(nc, tenant):
    found = Found(nc, wait=0.05)
    subject = f"horae.{tenant}.commands.trading.Rebalance"
    async with serving(nc, tenant, functions(Rebalance=lambda: 1)):
        while not await found.serves(subject):
            pass
    found._expiry = 0.0
    assert not await found.serves(subject)


@pytest.mark.parametrize(
    ("pattern", "subject", "is_one"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.c", True),
        ("a.*", "a.c.d", False),
        ("a.>", "a.c.d", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*.c.>", "a.c.d", True),
        ("a.b.c", "a.b", False),
    ],
)
def test_pattern_covers_the_subjects_that_a_subscription_gets(pattern, subject, is_one):
    assert matches(pattern, subject) is is_one
