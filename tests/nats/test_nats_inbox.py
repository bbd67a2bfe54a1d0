"""External events from JetStream, on a server of the test's own (T5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horae_application.messages import PublishEvent, Reply, Request, refused
from horae_domain.errors import HoraeError, Internal, InvalidField, PayloadTooLarge, Unavailable
from horae_infrastructure.embedded import Nats
from horae_infrastructure.event_subjects import pattern
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.inbox import Inbox
from horae_infrastructure.nats.inbox_messages import MAX_MESSAGE, Arrival, read_arrival
from horae_infrastructure.nats.streams import StreamSettings

PATTERNS = [pattern("events.{type}"), pattern("horae.{tenant}.events.{type}")]
STORED = datetime(2026, 1, 5, 8, tzinfo=UTC)
PATIENCE = 30.0


def arrival(subject: str = "events.trade.done", data: Any = None, **told: Any) -> Arrival:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    facts: dict[str, Any] = {"headers": {}, "stream": "S", "sequence": 7, "stored_at": STORED}
    return Arrival(subject, raw, **facts | told)


# --- what a message says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "subject", "found"),
    [
        ("events.{type}", "events.trade.done", ("default", "trade.done")),
        ("horae.{tenant}.events.{type}", "horae.acme.events.a", ("acme", "a")),
        ("lucent.events.domain.*.{type}", "lucent.events.domain.desk.A.b", ("default", "A.b")),
        ("{tenant}.{type}.done", "acme.trade.done", ("acme", "trade")),
        ("{tenant}.{type}.done", "acme.trade.x.done", None),
        ("events.{type}", "other.a", None),
        ("horae.{tenant}.events.{type}", f"horae.{'a' * 65}.events.x", None),
    ],
)
def test_subject_says_tenant_and_type(text, subject, found):
    assert pattern(text).read(subject) == found


@pytest.mark.parametrize("text", ["", "events", "a b.{type}", "a.>", "{tenant}", "{x}.{type}"])
def test_pattern_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"token|type"):
        pattern(text)


def test_cloud_event_is_known_by_itself_and_has_its_own_type():
    event = {"specversion": "1.0", "type": "Trade", "source": "/desk", "id": "1", "data": [1]}
    headers = {"Nats-Msg-Id": "other"}
    tenant, found = read_arrival(PATTERNS, arrival("horae.acme.events.x", event, headers=headers))
    assert tenant == "acme"
    assert (found.type, found.source, found.id, found.data) == ("Trade", "/desk", "1", [1])
    assert found.time == STORED
    event["time"] = "2026-01-05T07:00:00Z"
    assert read_arrival(PATTERNS, arrival(data=event))[1].time == STORED - timedelta(hours=1)


def test_plain_data_is_known_by_the_header_else_by_its_place():
    by_header = read_arrival(PATTERNS, arrival(data=5, headers={"Nats-Msg-Id": "m-1"}))[1]
    assert (by_header.source, by_header.id, by_header.data) == ("", "m-1", 5)
    by_place = read_arrival(PATTERNS, arrival(data=b""))[1]
    assert (by_place.source, by_place.id) == ("S", "7@1767600000.000000")
    assert by_place.data is None
    later = read_arrival(PATTERNS, arrival(stored_at=STORED + timedelta(seconds=1)))[1]
    assert later.id != by_place.id, "a stream that was made anew counts from 1 again"


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (arrival(data=b"{"), InvalidField),
        (arrival(data=b"[" * 2000), InvalidField),
        (arrival(data=b" " * (MAX_MESSAGE + 1)), PayloadTooLarge),
        (arrival(data="x" * 1024 * 1024), PayloadTooLarge),
        (arrival("other"), InvalidField),
        (arrival(data={"specversion": "1.0", "type": "", "source": "a", "id": "1"}), InvalidField),
        (arrival(data={"specversion": "1.0", "type": 5, "source": "a", "id": "1"}), InvalidField),
        (arrival(data={"specversion": "1", "type": "a", "source": "a", "id": ""}), InvalidField),
        (
            arrival(
                data={"specversion": "1", "type": "a", "source": "", "id": "1", "time": "soon"}
            ),
            InvalidField,
        ),
        (arrival(headers={"Nats-Msg-Id": "x" * 256}), InvalidField),
    ],
)
def test_message_that_is_no_event_is_refused_by_a_type_of_error(told, error):
    with pytest.raises(error) as caught:
        read_arrival(PATTERNS, told)
    assert isinstance(caught.value, HoraeError)


# --- through the stream --------------------------------------------------------------------------


class Recorder:
    """Answers as it is told to, and notes what came."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, PublishEvent]] = []
        self.answer: Callable[[int], Reply] = lambda _: Reply(200, {"ok": True})
        self._came = asyncio.Condition()

    async def __call__(self, request: Request, command: PublishEvent) -> Reply:
        async with self._came:
            self.seen.append((request.tenant, command))
            self._came.notify_all()
        return self.answer(len(self.seen))

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(lambda: len(self.seen) >= count)


@asynccontextmanager
async def inbox(nc: Any, recorder: Recorder, **told: Any) -> AsyncIterator[Inbox]:
    made = Inbox(nc, recorder, PATTERNS, StreamSettings(), **told)
    await made.start()
    try:
        yield made
    finally:
        await made.stop(5.0)


async def left(nc: Any) -> int:
    """Messages that nobody has finished."""
    info = await nc.jetstream().stream_info("HORAE_INBOX")
    return int(info.state.messages)


async def empty(nc: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while await left(nc):
            await asyncio.sleep(0.01)


async def publish(nc: Any, subject: str, data: Any, **headers: str) -> None:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await nc.jetstream().publish(subject, raw, headers=named or None)


async def test_event_is_acknowledged_once_it_is_recorded(own_nc: Any):
    recorder = Recorder()
    async with inbox(own_nc, recorder) as made:
        await stream(own_nc)
        await publish(own_nc, "events.trade.done", {"n": 1}, Nats_Msg_Id="m-1")
        await publish(own_nc, "horae.acme.events.trade.done", {"n": 2})
        await recorder.wait(2)
        await empty(own_nc)
        assert {(tenant, each.type, each.data["n"]) for tenant, each in recorder.seen} == {
            ("default", "trade.done", 1),
            ("acme", "trade.done", 2),
        }
        assert made.health() == {"status": "up", "received": 2, "refused": 0}


async def stream(nc: Any) -> None:
    """Wait until the stream is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await nc.jetstream().stream_info("HORAE_INBOX")
            except Exception:  # noqa: BLE001 - not yet
                await asyncio.sleep(0.01)
            else:
                return


async def test_events_wait_for_an_engine(own_nc: Any):
    async with inbox(own_nc, Recorder()):
        await stream(own_nc)
    await publish(own_nc, "events.a", 1)
    assert await left(own_nc) == 1
    recorder = Recorder()
    async with inbox(own_nc, recorder):
        await recorder.wait(1)
        await empty(own_nc)


async def test_event_that_cannot_be_recorded_now_comes_again(own_nc: Any):
    recorder = Recorder()
    recorder.answer = lambda count: (
        refused(Unavailable("no room")) if count == 1 else Reply(200, {"ok": True})
    )
    async with inbox(own_nc, recorder) as made:
        await stream(own_nc)
        await publish(own_nc, "events.a", 1)
        await recorder.wait(2)
        await empty(own_nc)
        first, second = (each for _, each in recorder.seen)
        assert (first.id, first.time) == (second.id, second.time), "it is the same event"
        assert made.health()["refused"] == 0


@pytest.mark.parametrize("data", [b"{", b"\xff" * 100, b" " * 10_000_000])
async def test_message_that_is_no_event_ends_with_its_reason_and_the_others_flow(
    own_nc: Any, data: bytes
):
    recorder = Recorder()
    async with inbox(own_nc, recorder) as made:
        await stream(own_nc)
        await publish(own_nc, "events.bad", data)
        await publish(own_nc, "events.good", 1)
        await recorder.wait(1)
        await empty(own_nc)
        health = made.health()
        assert (health["received"], health["refused"]) == (1, 1)
        assert health["last_refusal"].startswith("events.bad: ")


async def test_fault_of_the_engine_is_no_endless_loop(own_nc: Any, monkeypatch: Any):
    monkeypatch.setattr("horae_infrastructure.nats.inbox.TRIES", 2)
    monkeypatch.setattr("horae_infrastructure.nats.inbox.AGAIN", 0.01)
    recorder = Recorder()
    recorder.answer = lambda _: refused(Internal("a fault"))
    async with inbox(own_nc, recorder) as made:
        await stream(own_nc)
        await publish(own_nc, "events.a", 1)
        await empty(own_nc)
        assert len(recorder.seen) == 2
        assert "internal" in made.health()["last_refusal"]


async def test_event_of_an_engine_that_died_before_the_acknowledgement_goes_to_another(
    own_nc: Any, own_server: Nats
):
    dying = await connect(own_server.url, name="dying")
    blocked = asyncio.Event()
    first = Recorder()

    async def never(request: Request, command: PublishEvent) -> Reply:
        await first(request, command)
        await blocked.wait()
        raise AssertionError

    made = Inbox(dying, never, PATTERNS, StreamSettings(), ack_wait=0.5)
    await made.start()
    await stream(own_nc)
    await publish(own_nc, "events.a", 1)
    await first.wait(1)
    await made.stop(0.0)
    await close(dying)
    second = Recorder()
    async with inbox(own_nc, second, ack_wait=0.5):
        await second.wait(1)
        await empty(own_nc)
    assert second.seen[0][1].id == first.seen[0][1].id
