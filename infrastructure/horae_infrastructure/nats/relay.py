"""The history as CloudEvents on JetStream, in order, each event once.

The stream says itself how far it is: its last message carries a position, and every publish names
the sequence that it expects to be the last one. So a relay that was killed, or two at once, neither
skip nor repeat nor reorder: the loser of a race reads the stream's end again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import StreamInfo

from horae_application.log import get_logger
from horae_application.ports import StoredEvent, StoreError
from horae_domain.codec import Undecodable, decode, name_of
from horae_domain.events import Event, ExecutionEvent, LimitEvent
from horae_domain.positions import Position
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.streams import EVENTS, StreamSettings, ensure, events_stream
from horae_infrastructure.nats.subjects import MESSAGE_ID, POSITION, STORE
from horae_infrastructure.nats.tasks import cancel

_log = get_logger("horae.nats.relay")

BATCH = 500
"""Messages of one atomic batch; the server takes at most 1,000."""
BATCH_BYTES = 4 * 1024 * 1024
TIMEOUT = 5.0
WAIT = 1.0
"""Seconds that a thread waits for the log to grow."""
_PRIVATE = ("request.", "external_event.")
"""Answers to idempotency keys are no news to anybody."""
_EXPECTED = "Nats-Expected-Last-Sequence"


class LogReader(Protocol):
    """What the relay needs of an event store."""

    @property
    def identity(self) -> str:
        """Of the store."""
        ...

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events after a position."""
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Block until the log reaches beyond `after`, or for `timeout` seconds."""
        ...

    def head(self) -> int:
        """The highest position."""
        ...


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event in the structured JSON form of CloudEvents 1.0; `data` is the event as it is stored."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    tenant: str
    position: str
    correlationid: str | msgspec.UnsetType = msgspec.UNSET
    data: Event


class Message(NamedTuple):
    """One message to publish."""

    position: int
    subject: str
    data: bytes
    headers: dict[str, str]


_encode = msgspec.json.Encoder().encode


def message(store: str, stored: StoredEvent) -> Message | None:
    """The message of an event, or None if it is not for others, or not to be understood."""
    if stored.name.startswith(_PRIVATE):
        return None
    try:
        event = decode(stored.name, stored.state)
    except Undecodable as error:
        _log.warning("event_not_relayed", position=stored.position, error=str(error))
        return None
    name = name_of(event)
    cloud_event = CloudEvent(
        id=f"{store}.{stored.position}",
        source=f"horae/{store}",
        type=name,
        subject=_about(event),
        time=event.at,
        tenant=event.tenant,
        position=str(Position(store, 0, stored.position)),
        correlationid=event.correlation_id or msgspec.UNSET,
        data=event,
    )
    headers = {
        MESSAGE_ID: cloud_event.id,
        POSITION: str(stored.position),
        STORE: store,
        "Content-Type": "application/cloudevents+json",
    }
    subject = f"horae.{event.tenant}.event.{name.rsplit('.', 1)[0]}"
    return Message(stored.position, subject, _encode(cloud_event), headers)


def _about(event: Event) -> str:
    """Whose event it is: an execution's, a queue's, a tenant's or a schedule's."""
    match event:
        case ExecutionEvent():
            return event.execution_id
        case LimitEvent():
            return str(getattr(event, "queue", event.tenant))
        case _:
            return event.schedule_id


class EventsRelay:
    """Publishes the log to `HORAE_EVENTS` from `start` to `stop`.

    Args:
        log: the event store; it is called in threads.
        nc: the connection; it may be down.
        settings: of the stream.
        from_beginning: where a new or wiped stream starts: with the first event, or else at the
            head, with what happens from now on.
    """

    def __init__(
        self,
        log: LogReader,
        nc: Connection,
        settings: StreamSettings | None = None,
        *,
        from_beginning: bool = False,
    ) -> None:
        self._log = log
        self._nc = nc
        self._js = nc.jetstream()
        self._settings = settings or StreamSettings()
        self._from_beginning = from_beginning
        self._position: int | None = None
        self._sequence = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int | None:
        """How far the log has been relayed; None before the stream was seen."""
        return self._position

    async def start(self) -> None:
        """Begin to relay; a server that is down is waited for in the background."""
        self._task = asyncio.get_running_loop().create_task(self._forever())

    async def stop(self) -> None:
        """Relay no more."""
        if self._task is not None:
            await cancel(self._task)
            self._task = None

    async def _forever(self) -> None:
        while True:
            try:
                await self._resume()
                while True:
                    await self._step()
            except _Overtaken:
                _log.info("relay_overtaken", position=self._position)
            except (nats.errors.Error, OSError, StoreError, _Refused) as error:
                _log.warning("relay_interrupted", position=self._position, error=str(error))
                await asyncio.sleep(WAIT)

    async def _resume(self) -> None:
        """Find the stream's end, and the position it stands for."""
        info = await ensure(self._js, events_stream(self._settings))
        self._sequence = info.state.last_seq
        found = await self._last_position(info)
        if found is None:
            found = await asyncio.to_thread(self._first_position, info)
            _log.info("relay_starts", position=found, from_beginning=self._from_beginning)
        self._position = found

    async def _last_position(self, info: StreamInfo) -> int | None:
        """Of the last message, if there is one and it is of this store."""
        if info.state.messages == 0:
            return None
        try:
            last = await self._js.get_msg(EVENTS, seq=info.state.last_seq)
        except nats.js.errors.NotFoundError:
            return None
        headers = last.headers or {}
        position = headers.get(POSITION, "")
        if headers.get(STORE) != self._log.identity or not position.isdigit():
            return None
        return int(position)

    def _first_position(self, info: StreamInfo) -> int:
        """Where to start when the stream does not say."""
        if self._position is not None and not self._from_beginning:
            return self._position
        if info.state.last_seq > 0 and info.state.messages == 0:
            # All of it has expired: what is younger was never in it.
            oldest = time.time() - self._settings.events_max_age
            return _last_before(self._log, int(oldest * 1e6))
        return 0 if self._from_beginning else self._log.head()

    async def _step(self) -> None:
        """Relay what the log has, or wait for more."""
        position = self._position or 0
        events = await asyncio.to_thread(self._log.read, position, BATCH)
        if not events:
            await asyncio.to_thread(self._log.wait, position, WAIT)
            return
        found = (message(self._log.identity, stored) for stored in events)
        for batch in _batches([each for each in found if each is not None], self._nc.max_payload):
            self._sequence = await self._publish(batch)
            self._position = batch[-1].position
        self._position = events[-1].position

    async def _publish(self, batch: Sequence[Message]) -> int:
        """Publish all or nothing (an atomic batch, ADR-50 of NATS); the stream's new last sequence."""
        batch_id = uuid.uuid4().hex
        for number, each in enumerate(batch, start=1):
            headers = dict(each.headers)
            if number == 1:
                headers[_EXPECTED] = str(self._sequence)
            if len(batch) > 1:
                headers |= {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
            if number < len(batch):
                await self._nc.publish(each.subject, each.data, headers=headers)
                continue
            if len(batch) > 1:
                headers["Nats-Batch-Commit"] = "1"
            answer = await self._nc.request(
                each.subject, each.data, timeout=TIMEOUT, headers=headers
            )
        return _acknowledged(msgspec.json.decode(answer.data))


class _Overtaken(Exception):
    """Somebody else has published to the stream since."""


class _Refused(Exception):
    """JetStream does not take the message."""


_WRONG_LAST_SEQUENCE = 10071


def _acknowledged(answer: dict[str, Any]) -> int:
    error = answer.get("error")
    if error is None:
        if answer.get("duplicate"):
            raise _Overtaken
        return int(answer["seq"])
    if error.get("err_code") == _WRONG_LAST_SEQUENCE:
        raise _Overtaken
    raise _Refused(f"{error.get('description')} ({error.get('err_code')})")


def _batches(messages: Sequence[Message], largest: int) -> Iterator[list[Message]]:
    """Messages in batches of bounded size, without those that no server takes."""
    batch: list[Message] = []
    size = 0
    for each in messages:
        if len(each.data) > largest - 4096:
            _log.error("event_too_large_to_relay", position=each.position, size=len(each.data))
            continue
        if batch and size + len(each.data) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each.data)
    if batch:
        yield batch


def _last_before(log: LogReader, instant: int) -> int:
    """The last position recorded at or before an instant (µs), found by halving."""
    low, high = 0, log.head()
    while low < high:
        middle = (low + high) // 2
        following = log.read(middle, 1)
        if following and following[0].recorded_at <= instant:
            low = following[0].position
        else:
            high = middle
    return low
