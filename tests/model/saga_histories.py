"""Histories of sagas on a moved clock, drawn by a seed, and what must have become of each order.

An order is placed by an event; an action may run first; then it waits a minute for its payment. Events come
in time, late, twice and for other orders; executions are cancelled; handlers fail; engines are killed and
others take over. The oracle knows only what was done, and when, and reads the log's names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from stepping import Clock, Recorder, Stepped, events_of, log_of

from horae_application.waiting import is_wait
from horae_domain.events import Event, ExecutionEvent
from horae_domain.execution import Status
from horae_domain.identity import NOWHERE
from horae_domain.replaying import replay
from horae_infrastructure.store.memory import MemoryStore

DEADLINE = 60.0
HANDLERS = ("act", "then", "rescue")
WAIT = {
    "event": "Paid",
    "match": {"order": "trigger.data.order"},
    "timeout": DEADLINE,
    "then": {"type": "function", "name": "then"},
    "fallback": {"type": "function", "name": "rescue"},
}
SAGA: dict[str, Any] = {
    "trigger": {"type": "event", "event": "Ordered"},
    "wait_for": WAIT,
    "fallback": {"type": "function", "name": "rescue"},
    "retry": {"max_attempts": 2, "delay": "5s", "jitter": 0},
    "timeout": {"start_to_close": None},
}


Moment = tuple[float, int]
"""Seconds, and the number of what was done then."""


class Order:
    """What was done about an order, and when; None if it was not."""

    def __init__(self, placed: Moment, *, acts: bool) -> None:
        self.waits: Moment | None = None if acts else placed
        self.paid: list[Moment] = []
        self.cancelled: Moment | None = None

    @property
    def fate(self) -> str:
        """What has to become of its wait."""
        if self.waits is None:
            return "never"
        moments = [((self.waits[0] + DEADLINE, 0), "timed_out")]
        moments += [(max(at, self.waits), "confirmed") for at in self.paid]
        if self.cancelled is not None:
            moments.append((self.cancelled, "cancelled"))
        return min(moments)[1]


class Play:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock.micros)
        self.engines = 0
        self.done = 0
        self.orders: dict[int, Order] = {}
        self.ids: dict[int, str] = {}
        self.acts = self.random.random() < 0.5
        action = {"type": "function", "name": "act"} if self.acts else {"type": "none"}
        self.desk = self.begin()
        assert self.desk.create("saga", **SAGA | {"action": action}).ok

    @property
    def now(self) -> Moment:
        self.done += 1
        return self.clock.seconds, self.done

    def begin(self) -> Stepped:
        """Another owner takes over; what ran in the former one is lost."""
        self.engines += 1
        desk = Stepped(
            self.store, self.clock, name=f"engine-{self.engines}", executor=Recorder(3, HANDLERS)
        )
        desk.settle()
        return desk

    def play(self, steps: int) -> None:
        doings = (self.order, self.pay, self.work, self.pass_time, self.restart, self.cancel)
        for _ in range(steps):
            self.random.choices(doings, (3, 4, 5, 3, 1, 1))[0]()
        self.finish()

    def finish(self) -> None:
        """Let everything come to its end."""
        for _ in range(400):
            self.advance(10)
            while self.desk.executor.running:
                self.report(next(iter(self.desk.executor.running.values())), "succeeded")
            waiting = any(is_wait(row.state) for row in self.rows())
            if not waiting and not self.desk.runs("saga"):
                return
        raise AssertionError("something never ends")

    # --- what happens -----------------------------------------------------------------------------

    def publish(self, type_: str, number: int, id_: str) -> bool:
        body = {"type": type_, "id": id_, "data": {"order": number}}
        told = self.desk.ask("event.publish", body)
        assert told.ok, told
        return not told.body["duplicate"]

    def order(self) -> None:
        number = len(self.orders)
        self.orders[number] = Order(self.now, acts=self.acts)
        self.publish("Ordered", number, f"order-{number}")

    def pay(self) -> None:
        number = self.random.randrange(len(self.orders) + 2)
        id_ = f"paid-{number}-{self.random.randrange(2)}"
        if self.publish("Paid", number, id_) and number in self.orders:
            self.orders[number].paid.append(self.now)

    def work(self) -> None:
        running = list(self.desk.executor.running.values())
        if running:
            good = self.random.random() < 0.6
            self.report(self.random.choice(running), "succeeded" if good else "failed")

    def report(self, work: Any, outcome: str) -> None:
        order = self.orders[work.trigger["data"]["order"]]
        told = {"error": {"type": "Boom", "message": "no"}} if outcome == "failed" else {}
        if work.stage == "" and outcome == "succeeded":
            order.waits = self.now
        if work.stage == "then":
            assert work.payload == {"order": work.trigger["data"]["order"]}
        assert self.desk.report(work, outcome, **told).ok

    def pass_time(self) -> None:
        seconds = self.random.choice((0.0, 1.0, 7.0, 30.0, 60.0))
        if self.random.random() < 0.3:
            self.clock.move(seconds)
            self.desk.settle()
        else:
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.desk.advance(seconds)

    def restart(self) -> None:
        self.desk = self.begin()

    def cancel(self) -> None:
        if not self.orders:
            return
        number = self.random.randrange(len(self.orders))
        id_ = self.id_of(number)
        order = self.orders[number]
        if self.desk.ask("execution.cancel", {"id": id_}).ok and order.cancelled is None:
            order.cancelled = self.now

    def id_of(self, number: int) -> str:
        for event in events_of(self.store):
            told = getattr(event, "trigger", {}).get("data", {})
            if isinstance(event, ExecutionEvent) and told.get("order") == number:
                return event.execution_id
        raise AssertionError(f"order {number} has no execution")

    def rows(self) -> Sequence[Any]:
        return self.store.due(range(64), (0, NOWHERE), 2**62, 100_000)

    # --- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        events = events_of(self.store)
        names: dict[str, list[str]] = {}
        for row, event in zip(log_of(self.store), events, strict=True):
            if isinstance(event, ExecutionEvent):
                names.setdefault(event.execution_id, []).append(row.name.split(".")[1])
        for number, order in self.orders.items():
            self.check_order(order, names[self.id_of(number)])
        replay(events)
        self.check_memory(events)

    def check_order(self, order: Order, names: list[str]) -> None:
        told = Counter(names)
        decided = [told["confirmed"], told["confirmation_timed_out"]]
        fate = order.fate
        expected = {"confirmed": [1, 0], "timed_out": [0, 1]}.get(fate, [0, 0])
        assert decided == expected, (fate, names)
        ends = told["succeeded"] + told["dead_lettered"] + told["cancelled"]
        assert ends == 1, names
        if told["cancelled"]:
            assert order.cancelled is not None
        elif fate in {"timed_out", "never"}:
            assert told["fallback_started"] == 1, names
        assert not told["failed"], names
        assert not told["timed_out"], names

    def check_memory(self, events: Sequence[Event]) -> None:
        """A new owner knows what the present one knows, and nobody listens for what is over."""
        known = len(self.desk.engine.lines.listening.index)
        assert known == len(self.begin().engine.lines.listening.index)
        assert known == 1
        assert msgspec.json.encode(len(events))
        assert all(run.status is not Status.WAITING for run in self.desk.runs("saga"))


def play(seed: int, steps: int = 40) -> None:
    """Play a history and look at what has become of it.

    Raises:
        AssertionError: something that must hold does not.
    """
    history = Play(seed)
    history.play(steps)
    history.check()
