"""The relay: every event once, in order, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
import uuid
from datetime import UTC, datetime

import pytest
from nats.js.errors import NotFoundError

from horae_application.ports import StoredEvent
from horae_domain.codec import encode, name_of
from horae_domain.events import ExecutionSucceeded, RequestAnswered, SchedulePaused
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.relay import EventsRelay, message

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Log:
    """A log in memory whose reader can be waited with."""

    def __init__(self, identity: str = "store1") -> None:
        self.identity = identity
        self.events: list[StoredEvent] = []
        self._grown = threading.Condition()

    def add(self, *events, recorded_at: int | None = None) -> None:
        with self._grown:
            for event in events:
                position = len(self.events) * 2 + 1  # numbers have gaps
                stamp = recorded_at or time.time_ns() // 1000
                self.events.append(
                    StoredEvent(position, stamp, uuid.uuid4(), 1, name_of(event), encode(event))
                )
            self._grown.notify_all()

    def head(self) -> int:
        return self.events[-1].position if self.events else 0

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        return [event for event in self.events if event.position > after][:limit]

    def wait(self, after: int, timeout: float) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: self.head() > after, timeout)


def paused(n: int, tenant: str = "default") -> SchedulePaused:
    return SchedulePaused(at=AT, tenant=tenant, schedule_id=f"s{n}", note=str(n))


def answered() -> RequestAnswered:
    return RequestAnswered(at=AT, schedule_id="s", request="r", reply={})


async def relayed(nc) -> list[dict]:
    js = nc.jetstream()
    try:
        state = (await js.stream_info(streams.EVENTS)).state
    except NotFoundError:
        return []
    sequences = range(state.first_seq, state.last_seq + 1)
    return [json.loads((await js.get_msg(streams.EVENTS, seq=seq)).data) for seq in sequences]


async def arrived(relay: EventsRelay, position: int) -> None:
    """Until the relay stands at a position."""
    async with asyncio.timeout(100):
        while (relay.position or 0) < position:
            await asyncio.sleep(0.005)


@pytest.fixture
def log():
    return Log()


def ids(events: list[dict]) -> list[str]:
    return [event["id"] for event in events]


def expected(log: Log) -> list[str]:
    return [
        f"{log.identity}.{each.position}"
        for each in log.events
        if each.name != "request.answered.v1"
    ]


async def test_events_are_cloud_events_on_their_subjects(own_nc, log):
    log.add(
        ExecutionSucceeded(
            at=AT,
            tenant="desk",
            schedule_id="nightly",
            execution_id="e1",
            attempt=1,
            result={"x": 1},
            correlation_id="c1",
        )
    )
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    await arrived(relay, log.head())
    await relay.stop()
    msg = await own_nc.jetstream().get_last_msg(streams.EVENTS, "horae.desk.event.>")
    assert msg.subject == "horae.desk.event.execution.succeeded"
    assert msg.headers["Nats-Msg-Id"] == "store1.1"
    assert msg.headers["Horae-Position"] == "1"
    assert msg.headers["Content-Type"] == "application/cloudevents+json"
    assert json.loads(msg.data) == {
        "specversion": "1.0",
        "id": "store1.1",
        "source": "horae/store1",
        "type": "execution.succeeded.v1",
        "subject": "e1",
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
        "tenant": "desk",
        "position": "store1.0.1",
        "correlationid": "c1",
        "data": {
            "at": "2026-01-02T03:04:05Z",
            "tenant": "desk",
            "schedule_id": "nightly",
            "execution_id": "e1",
            "attempt": 1,
            "result": {"x": 1},
            "correlation_id": "c1",
        },
    }


async def test_all_events_in_order_but_answers_to_keys(own_nc, log):
    for n in range(1200):
        log.add(paused(n), answered()) if n % 100 == 0 else log.add(paused(n))
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    await arrived(relay, log.head())
    log.add(paused(9999))
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == expected(log)


async def test_new_stream_starts_at_the_head_unless_told(own_nc, log):
    log.add(paused(1))
    relay = EventsRelay(log, own_nc)
    await relay.start()
    await arrived(relay, log.head())
    log.add(paused(2))
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == ["store1.3"]


async def test_relay_resumes_where_the_stream_ends(own_nc, log):
    log.add(paused(1), paused(2))
    for _ in range(3):
        relay = EventsRelay(log, own_nc, from_beginning=True)
        await relay.start()
        await arrived(relay, log.head())
        await relay.stop()
        log.add(paused(3), paused(4))
    assert ids(await relayed(own_nc)) == expected(log)[:6]


async def test_two_relays_at_once_repeat_nothing(own_server, own_nc, log):
    other_nc = await connect(own_server.url, name="other")
    relays = [EventsRelay(log, each, from_beginning=True) for each in (own_nc, other_nc)]
    for relay in relays:
        await relay.start()
    for n in range(200):
        log.add(paused(n), paused(n))
        await asyncio.sleep(0.002)
    for relay in relays:
        await arrived(relay, log.head())
        await relay.stop()
    await close(other_nc)
    assert ids(await relayed(own_nc)) == expected(log)


async def test_server_killed_meanwhile_loses_repeats_and_reorders_nothing(own_server, own_nc, log):
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    for n in range(300):
        log.add(*(paused(n) for _ in range(5)))
        if n in (100, 200):
            await arrived(relay, 1)
            own_server.kill()
            await asyncio.to_thread(own_server.start)
        await asyncio.sleep(0.001)
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == expected(log)


@pytest.mark.parametrize("from_beginning", [True, False])
async def test_wiped_stream_starts_again_as_told(own_server, own_nc, log, from_beginning):
    log.add(paused(1), paused(2))
    relay = EventsRelay(log, own_nc, from_beginning=from_beginning)
    await relay.start()
    await arrived(relay, log.head())
    own_server.kill()
    shutil.rmtree(own_server.data_dir / "jetstream")
    await asyncio.to_thread(own_server.start)
    log.add(paused(3))
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == (expected(log) if from_beginning else ["store1.5"])


async def test_stream_of_another_store_is_not_resumed(own_nc, log):
    other = Log("store0")
    other.add(*(paused(n) for n in range(5)))
    first = EventsRelay(other, own_nc, from_beginning=True)
    await first.start()
    await arrived(first, other.head())
    await first.stop()
    log.add(paused(1))
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == expected(other) + expected(log)


async def test_expired_stream_goes_on_with_what_was_never_in_it(own_nc, log):
    """Nothing happened for longer than events stay; then the relay was down while something did."""
    settings = streams.StreamSettings(events_max_age=3600)
    hours_ago = (time.time_ns() // 1000) - 2 * 3600 * 1_000_000
    log.add(*(paused(n) for n in range(7)), recorded_at=hours_ago)
    relay = EventsRelay(log, own_nc, settings, from_beginning=True)
    await relay.start()
    await arrived(relay, log.head())
    await relay.stop()
    await own_nc.jetstream().purge_stream(streams.EVENTS)  # as its age would
    log.add(paused(8), paused(9))
    again = EventsRelay(log, own_nc, settings)
    await again.start()
    await arrived(again, log.head())
    await again.stop()
    assert ids(await relayed(own_nc)) == expected(log)[-2:]


async def test_event_that_is_not_understood_is_passed_over(own_nc, log):
    log.add(paused(1))
    log.events.append(StoredEvent(2, 1, uuid.uuid4(), 1, "moon.landed.v9", b"{}"))
    log.events.append(StoredEvent(3, 1, uuid.uuid4(), 1, "schedule.paused.v1", b"\xff"))
    log.events.append(log.events[0]._replace(position=4))
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    await arrived(relay, 4)
    await relay.stop()
    assert ids(await relayed(own_nc)) == ["store1.1", "store1.4"]


async def test_large_events_are_split_into_batches_that_the_server_takes(own_nc, log):
    log.add(*(big(n) for n in range(12)))
    relay = EventsRelay(log, own_nc, from_beginning=True)
    await relay.start()
    await arrived(relay, log.head())
    await relay.stop()
    assert ids(await relayed(own_nc)) == expected(log)


def big(n: int) -> ExecutionSucceeded:
    return ExecutionSucceeded(
        at=AT, schedule_id="s", execution_id=str(n), attempt=1, result="x" * 1_000_000
    )


def test_answers_to_keys_are_not_for_others():
    event = answered()
    assert message("s", StoredEvent(1, 1, uuid.uuid4(), 1, name_of(event), encode(event))) is None
