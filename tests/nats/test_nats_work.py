"""The work bus: at least once into the stream, whatever happens to the server."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time

import msgspec
import pytest
from nats.js.api import RetentionPolicy
from nats.js.errors import NotFoundError
from nats_works import work

from horae_application.work import Work
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.subjects import durable, token, work_subject
from horae_infrastructure.nats.work import NatsWorkBus


async def until(condition, seconds: float = 100.0):
    """Wait for what has no signal of its own: another process's state."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


@pytest.fixture
async def bus(own_nc):
    bus = NatsWorkBus(own_nc, check_every=0.2)
    await bus.start()
    yield bus
    await bus.stop()


async def hand_over(bus, *works) -> None:
    """Publish, and wait until all is in the stream."""
    bus.publish(works)
    await asyncio.sleep(0)  # the hand-over to the loop
    await until(lambda: bus.unsent == 0)


async def stored(nc) -> list[Work]:
    js = nc.jetstream()
    try:
        info = await js.stream_info(streams.WORK)
    except NotFoundError:
        return []
    if info.state.messages == 0:
        return []
    messages = [
        await js.get_msg(streams.WORK, seq=seq)
        for seq in range(info.state.first_seq, info.state.last_seq + 1)
    ]
    return [msgspec.json.decode(message.data, type=Work) for message in messages]


async def test_work_is_in_the_stream_as_it_was_handed_over(own_nc, bus):
    works = [
        work("t", payload={"n": 1}),
        work("t", action={"type": "queue", "queue": "mail"}, priority="high"),
    ]
    bus.publish(works)
    await until(lambda: bus.outstanding == 2 and bus.unsent == 0)
    assert sorted(await stored(own_nc), key=lambda w: w.priority) == sorted(
        works, key=lambda w: w.priority
    )
    info = await own_nc.jetstream().stream_info(streams.WORK, subjects_filter=">")
    assert info.config.retention == RetentionPolicy.WORK_QUEUE
    assert set(info.state.subjects) == {"horae.t.function.build.medium", "horae.t.work.mail.high"}


async def test_hand_over_from_another_thread(own_nc, bus):
    works = [work("t") for _ in range(500)]
    thread = threading.Thread(target=bus.publish, args=(works,))
    thread.start()
    await asyncio.to_thread(thread.join)
    await until(lambda: bus.outstanding == 500 and bus.unsent == 0)
    assert len(await stored(own_nc)) == 500


async def test_same_work_again_is_one_message_and_a_new_lease_is_another(own_nc, bus):
    first = work("t")
    await hand_over(bus, first, first)
    bus.withdraw([first.execution_id])
    await hand_over(bus, first)  # as a new owner would: JetStream knows it
    again = msgspec.structs.replace(first, attempt=2, lease="2.1")
    await hand_over(bus, again)
    assert bus.outstanding == 1
    assert await stored(own_nc) == [first, again]


async def test_withdrawn_work_is_forgotten(bus):
    one = work("t")
    bus.publish([one])
    await until(lambda: bus.outstanding == 1)
    bus.withdraw([one.execution_id, "never heard of"])
    await until(lambda: bus.outstanding == 0)


async def test_server_killed_while_publishing_loses_and_doubles_nothing(own_server, own_nc, bus):
    works = [work("t") for _ in range(2000)]
    bus.publish(works[:1000])
    await until(lambda: bus.outstanding and bus.unsent < 1000)
    own_server.kill()
    bus.publish(works[1000:])
    await asyncio.to_thread(own_server.start)
    await until(lambda: bus.outstanding == 2000 and bus.unsent == 0)
    found = [each.execution_id for each in await stored(own_nc)]
    assert sorted(found) == sorted(each.execution_id for each in works)


async def test_wiped_storage_is_filled_with_what_is_outstanding(own_server, own_nc, bus):
    works = [work("t") for _ in range(20)]
    bus.publish(works)
    await until(lambda: bus.outstanding == 20 and bus.unsent == 0)
    bus.withdraw([each.execution_id for each in works[:5]])
    own_server.kill()
    shutil.rmtree(own_server.data_dir / "jetstream")
    await asyncio.to_thread(own_server.start)

    async def filled():
        return own_nc.is_connected and len(await stored(own_nc)) >= 15

    await until(filled)
    found = [each.execution_id for each in await stored(own_nc)]
    assert sorted(found) == sorted(each.execution_id for each in works[5:])


async def test_restart_with_its_storage_sends_nothing_old_again(own_server, own_nc, bus):
    first = work("t")
    bus.publish([first])
    await until(lambda: bus.outstanding and bus.unsent == 0)
    back = asyncio.Event()
    own_nc.on_reconnect.append(back.set)
    own_server.kill()
    await asyncio.to_thread(own_server.start)
    await asyncio.wait_for(back.wait(), 60)
    second = work("t")
    bus.publish([second])
    await until(lambda: bus.outstanding == 2 and bus.unsent == 0)
    assert await stored(own_nc) == [first, second]


async def test_stream_that_was_emptied_by_hand_is_filled_again(own_nc, bus):
    works = [work("t") for _ in range(3)]
    await hand_over(bus, *works)
    await asyncio.sleep(0)
    bus.withdraw([works[0].execution_id])
    for _ in range(2):  # the second time as much as the first
        await own_nc.jetstream().purge_stream(streams.WORK)

        async def filled():
            return len(await stored(own_nc)) == 2

        await until(filled)
    found = sorted(each.execution_id for each in await stored(own_nc))
    assert found == sorted(each.execution_id for each in works[1:])


async def test_work_that_waits_in_its_stream_is_not_sent_again(own_nc, bus):
    await hand_over(bus, work("t"))
    js = own_nc.jetstream()
    await asyncio.sleep(1)  # five looks
    assert (await js.stream_info(streams.WORK)).state.last_seq == 1


async def test_work_that_no_message_can_carry_is_refused(own_nc, bus):
    refused: asyncio.Queue[tuple[Work, str]] = asyncio.Queue()

    async def refuse(each, reason):
        refused.put_nowait((each, reason))

    bus.refuse = refuse
    huge = work("t", payload="x" * own_nc.max_payload)
    bus.publish([huge])
    each, reason = await asyncio.wait_for(refused.get(), 15)
    assert each is huge
    assert str(own_nc.max_payload) in reason
    assert refused.empty()


async def test_deleted_stream_is_made_again(own_nc, bus):
    one = work("t")
    bus.publish([one])
    await until(lambda: bus.outstanding and bus.unsent == 0)
    await own_nc.jetstream().delete_stream(streams.WORK)

    async def there():
        return await stored(own_nc)

    assert await until(there) == [one]


async def test_settings_that_changed_are_applied(own_nc):
    js = own_nc.jetstream()
    for settings in (
        streams.StreamSettings(),
        streams.StreamSettings(work_max_bytes=2**20, events_max_age=60.0),
    ):
        work_info = await streams.ensure(js, streams.work_stream(settings))
        events_info = await streams.ensure(js, streams.events_stream(settings))
    assert work_info.config.max_bytes == 2**20
    assert events_info.config.max_age == 60
    again = await streams.ensure(js, streams.work_stream(settings))
    assert streams.identity(again) == streams.identity(work_info) != ""


@pytest.mark.parametrize("name", ["a.b", "über", "a b", "a>*", "x" * 255, "%41", "A", "a:b"])
def test_any_name_is_one_token_and_no_other_names(name):
    subject = work_subject(work("t", action={"type": "function", "name": name}))
    assert subject.count(".") == 4
    assert not set(subject) & set(" *>\t\r\n")
    consumer = durable("function", "t", name)
    assert len(consumer) <= 255
    assert not set(consumer) & set(". *>/\\")
    assert token(name) == name or token(name) != token(token(name))


def test_long_names_of_consumers_differ():
    assert durable("work", "t", "x" * 250 + "a") != durable("work", "t", "x" * 250 + "b")
    assert durable("work", "a", "b") == "work=a=b"
