"""Executors announce what they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from horae_application.work import PROCESSES
from horae_infrastructure.nats.announce import Announced, Announcement, Announcer

MANY = b'{"executor":"x","tenant":"t","app":"a","slots":10001}'


def announcement(tenant: str, **facts) -> Announcement:
    return Announcement(executor=f"x-{tenant}", tenant=tenant, app="desk", **facts)


async def heard(announced: Announced) -> None:
    """Wait for the next announcement."""
    announced.heard.clear()
    await asyncio.wait_for(announced.heard.wait(), 60)


async def until(announced: Announced, condition: Callable[[], bool]) -> None:
    while not condition():
        await heard(announced)


async def test_engine_that_comes_later_asks(nc, tenant):
    said = announcement(tenant, handlers=["b", "a"], queues=["mail"], processes=True)
    announcer = Announcer(nc, said, every=3600)
    await announcer.start()
    announced = Announced(nc)
    await announced.start()
    await until(announced, lambda: announced.serves("a", tenant))
    assert announced.serves("a")
    assert not announced.serves("c", tenant)
    assert not announced.serves("a", "another")
    assert announced.handlers(tenant) == ["a", "b"]
    assert announced.executors(tenant) == [said]
    await announcer.stop()
    await announced.stop()


async def test_executor_that_leaves_is_forgotten_at_once(nc, tenant):
    announced = Announced(nc)
    await announced.start()
    announcer = Announcer(nc, announcement(tenant, handlers=["a"]), every=3600)
    await announcer.start()
    await until(announced, lambda: announced.serves("a", tenant))
    await announcer.stop()
    await until(announced, lambda: not announced.serves("a", tenant))
    assert announced.handlers(tenant) == []
    await announced.stop()


async def test_executor_that_falls_silent_expires(nc, tenant):
    announced = Announced(nc, expiry=0.05)
    await announced.start()
    announcer = Announcer(nc, announcement(tenant, handlers=["a"]), every=3600)
    await announcer.start()
    await until(announced, lambda: bool(announced._known))
    await asyncio.sleep(0.06)
    assert not announced.serves("a", tenant)
    await announcer.stop()
    await announced.stop()


async def test_announcements_are_repeated(nc, tenant):
    announced = Announced(nc)
    await announced.start()
    announcer = Announcer(nc, announcement(tenant, handlers=["a"]), every=0.01)
    await announcer.start()
    for _ in range(3):
        await heard(announced)
    assert announced.serves("a", tenant)
    await announcer.stop()
    await announced.stop()


async def test_who_says_how_much_he_does_is_counted_on_while_he_takes_work(nc, tenant):
    announced = Announced(nc)
    await announced.start()
    silent = Announcer(nc, Announcement(executor="s", tenant=tenant, app="a", queues=["mail"]))
    said = announcement(tenant, handlers=["a"], queues=["mail"], processes=True, slots=4)
    told = Announcer(nc, said, every=0.01)
    elsewhere = Announcer(nc, msgspec.structs.replace(said, tenant=f"{tenant}b", handlers=[]))
    for each in (silent, told, elsewhere):
        await each.start()
    await until(announced, lambda: len(announced.executors()) == 3)
    pulls = {(tenant, "function", "a"), (tenant, "function", PROCESSES), (tenant, "queue", "mail")}
    by_slots = sorted(announced.hands(), key=lambda each: (each.slots is None, -len(each.pulls)))
    mine, other, unsaid = by_slots
    assert mine == (said.executor, 4, pulls)
    assert unsaid == ("s", None, {(tenant, "queue", "mail")})
    assert (other.executor, other.slots) == (said.executor, 4)
    told.update(over="memory")
    await until(announced, lambda: any(each.slots == 0 for each in announced.hands()))
    for each in (silent, told, elsewhere):
        await each.stop()
    await until(announced, lambda: not announced.executors())
    assert announced.hands() == []
    await announced.stop()


async def test_other_hands_are_told_and_what_is_said_again_is_not(nc, tenant):
    announced, changes = Announced(nc), []
    announced.changed = lambda: changes.append([each.slots for each in announced.hands()])
    await announced.start()
    told = Announcer(nc, announcement(tenant, queues=["mail"], slots=4), every=0.01)
    await told.start()
    for _ in range(3):
        await heard(announced)
    told.update(slots=5)
    await until(announced, lambda: [each.slots for each in announced.hands()] == [5])
    await heard(announced)
    await told.stop()
    await until(announced, lambda: not announced.executors())
    assert changes == [[4], [5], []]
    await announced.stop()


async def test_garbage_changes_nothing(nc, tenant):
    announced = Announced(nc)
    await announced.start()
    for garbage in (b"", b"[]", b'{"executor":1}', b"\xff", MANY):
        await nc.publish("horae._announce", garbage)
    said = announcement(tenant, handlers=["a"])
    announcer = Announcer(nc, said, every=3600)
    await announcer.start()
    await until(announced, lambda: announced.serves("a", tenant))
    assert announced.executors() == [said]
    await announcer.stop()
    await announced.stop()


async def test_after_a_reconnection_it_is_announced_at_once(own_server, own_nc):
    announced = Announced(own_nc)
    await announced.start()
    announcer = Announcer(own_nc, announcement("t", handlers=["a"]), every=3600)
    await announcer.start()
    await until(announced, lambda: announced.serves("a"))
    own_server.kill()
    announced.heard.clear()
    await asyncio.to_thread(own_server.start)
    await asyncio.wait_for(announced.heard.wait(), 60)
    await announcer.stop()
    await announced.stop()
