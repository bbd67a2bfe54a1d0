"""Waits that are over at the same time: a schedule takes them back as it has room for them."""

from __future__ import annotations

import pytest
from stepping import Clock, Recorder, Stepped

import horae_application.lines
from horae_domain.events import ConfirmationLate, FallbackStarted
from horae_infrastructure.store.memory import MemoryStore

ROOM = 3
ORDERS = 10
DEADLINE = 60.0
SERVED = ("rescue", "then")


class Shop:
    """Orders that wait for their payments, with room for few fallbacks at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock.micros)
        self.begin("first")

    def begin(self, name: str) -> None:
        self.desk = Stepped(self.store, self.clock, name=name, executor=Recorder(2, SERVED))
        self.desk.settle()

    def open(self, id_: str, placed: str) -> None:
        wait = {
            "event": "Paid",
            "match": {"order": "trigger.data.order"},
            "timeout": DEADLINE,
            "then": {"type": "function", "name": "then"},
            "fallback": {"type": "function", "name": "rescue"},
        }
        told = {"trigger": {"type": "event", "event": placed}, "action": {"type": "none"}}
        assert self.desk.create(id_, wait_for=wait, **told).ok

    def publish(self, type_: str, order: object) -> None:
        body = {"type": type_, "id": f"{type_}-{order}", "data": {"order": order}}
        assert self.desk.ask("event.publish", body).ok

    def place(self, count: int) -> None:
        for order in range(count):
            self.publish("Ordered", order)
            self.clock.move(0.001)

    def let_time_pass(self) -> None:
        self.clock.move(DEADLINE)
        self.desk.settle()

    def work(self) -> bool:
        running = list(self.desk.executor.running.values())
        for work in running:
            assert self.desk.report(work).ok
        return bool(running)

    @property
    def fallen_back(self) -> list[object]:
        return [
            event.run["trigger"]["data"]["order"] for event in self.desk.events(FallbackStarted)
        ]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(horae_application.lines, "UNFINISHED", ROOM)
    shop = Shop()
    shop.open("shop", "Ordered")
    return shop


def test_no_more_come_back_than_there_is_room_for(shop: Shop) -> None:
    shop.place(ORDERS)
    shop.let_time_pass()
    assert len(shop.desk.runs("shop")) == ROOM
    assert shop.fallen_back == [0, 1, 2]


def test_all_fall_back_once_in_the_order_of_their_deadlines(shop: Shop) -> None:
    shop.place(ORDERS)
    shop.let_time_pass()
    while shop.work():
        assert len(shop.desk.runs("shop")) <= ROOM
    assert shop.fallen_back == list(range(ORDERS))
    assert shop.desk.count("execution.succeeded") == ORDERS


def test_others_do_not_wait_for_a_schedule_without_room(shop: Shop) -> None:
    shop.open("other", "Rented")
    shop.place(ORDERS)
    shop.publish("Rented", "car")
    shop.let_time_pass()
    assert shop.fallen_back == [0, 1, 2, "car"]


def test_confirmation_after_the_deadline_is_late_though_the_fallback_has_not_begun(
    shop: Shop,
) -> None:
    shop.place(ORDERS)
    shop.let_time_pass()
    shop.publish("Paid", ORDERS - 1)
    assert len(shop.desk.events(ConfirmationLate)) == 1
    assert shop.fallen_back == [0, 1, 2, ORDERS - 1]
    while shop.work():
        pass
    assert sorted(map(str, shop.fallen_back)) == sorted(map(str, range(ORDERS)))


def test_new_owner_takes_back_what_waited_for_room(shop: Shop) -> None:
    shop.place(ORDERS)
    shop.let_time_pass()
    shop.desk.engine.ownership.leave()
    shop.begin("second")
    while shop.work():
        pass
    assert shop.fallen_back == list(range(ORDERS))
    assert shop.desk.count("execution.succeeded") == ORDERS
