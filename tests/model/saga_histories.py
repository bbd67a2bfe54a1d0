"""Histories of sagas on a moved clock, drawn by a seed, and what must have become of each order.

An order is placed by an event; in many histories half a minute has to pass first; an action may run; then it
waits a minute for its payment. Events come in time, late, twice and for other orders; one of them withdraws
an order; executions are cancelled; handlers fail; engines are killed and others take over, at once or after a
while. The oracle knows only what was done, and when, and reads the log's names.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

from stepping import START, Clock, Recorder, Stepped, events_of

from horae_domain.codec import decode
from horae_domain.events import ExecutionEvent
from horae_domain.execution import Status
from horae_domain.identity import NOWHERE
from horae_domain.instants import format_instant
from horae_domain.replaying import replay
from horae_infrastructure.store.memory import MemoryStore

DEADLINE = 60.0
DELAY = 30.0
PAUSES = (0.0, 1.0, 7.0, 30.0, 60.0)
HANDLERS = ("act", "then", "rescue")
WAIT = {
    "event": "Paid",
    "match": {"order": "trigger.data.order"},
    "timeout": DEADLINE,
    "then": {"type": "function", "name": "then"},
    "fallback": {"type": "function", "name": "rescue"},
}
SAGA: dict[str, Any] = {
    "wait_for": WAIT,
    "cancel_on": {"event": "Withdrawn", "match": {"order": "trigger.data.order"}},
    "fallback": {"type": "function", "name": "rescue"},
    "retry": {"max_attempts": 2, "delay": "5s", "jitter": 0},
    "timeout": {"start_to_close": None},
}
ON_THE_LINE = {"overlap": "buffer_all", "concurrency": 1000}
"""What waits for the end of a delay is held by the line, and nobody is in another one's way."""
BEGINS = {"attempt_started", "awaiting_confirmation", "fallback_started"}
AFTER = {"confirmed", "confirmation_timed_out"}
ENDS = {"succeeded", "dead_lettered", "cancelled"}


Moment = tuple[float, int]
"""Seconds since the beginning, and the number of what was done then."""


class Order:
    """What was done about an order, and when; None if it was not."""

    def __init__(self, begins: float) -> None:
        self.begins = begins
        self.waits: Moment | None = None
        self.gives_up: float | None = None
        self.paid: list[Moment] = []
        self.cancelled: Moment | None = None

    @property
    def fate(self) -> str:
        """What has to become of its wait."""
        if self.waits is None:
            return "never"
        until = self.waits[0] + DEADLINE if self.gives_up is None else self.gives_up
        moments = [((until, 0), "timed_out")]
        moments += [(max(at, self.waits), "confirmed") for at in self.paid]
        if self.cancelled is not None:
            moments.append((self.cancelled, "cancelled"))
        return min(moments)[1]


class Told:
    """What the log tells of the orders, read as it grows."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._position = 0
        self.ids: dict[int, str] = {}
        self._happened: dict[str, list[tuple[str, float]]] = {}

    def of(self, number: int) -> list[tuple[str, float]]:
        """The names of what has happened to an order, each with its second."""
        for row in self._store.read(self._position, 1_000_000):
            self._position = row.position
            event = decode(row.name, row.state)
            if isinstance(event, ExecutionEvent):
                if "data" in (trigger := getattr(event, "trigger", {})):
                    self.ids[trigger["data"]["order"]] = event.execution_id
                told = self._happened.setdefault(event.execution_id, [])
                told.append((row.name.split(".")[1], (event.at - START) / timedelta(seconds=1)))
                if getattr(event, "worker", None) is not None:
                    told.append(("attempt_started", told[-1][1]))
        return self._happened[self.ids[number]]

    def ended(self, number: int) -> bool:
        """True if an order has its outcome."""
        return any(name in ENDS for name, _ in self.of(number))

    def waits(self, number: int) -> bool:
        """True if an order waits for its payment."""
        named = [name for name, _ in self.of(number) if name in BEGINS | AFTER]
        return named[-1:] == ["awaiting_confirmation"]


class Play:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock.micros)
        self.engines = 0
        self.done = 0
        self.orders: dict[int, Order] = {}
        self.told = Told(self.store)
        self.acts = self.random.random() < 0.5
        self.delay = self.random.choice((0.0, DELAY))
        self.closed = False
        self.desk = self.begin()
        assert self.desk.create("saga", **SAGA, **self.drawn()).ok

    def drawn(self) -> dict[str, Any]:
        """What is not the same in all histories."""
        action = {"type": "function", "name": "act"} if self.acts else {"type": "none"}
        trigger = {"type": "event", "event": "Ordered", "delay": self.delay}
        held = ON_THE_LINE if self.random.random() < 0.3 else {}
        return {"action": action, "trigger": trigger, **held}

    @property
    def seconds(self) -> float:
        return (self.clock.time - START) / timedelta(seconds=1)

    @property
    def now(self) -> Moment:
        self.done += 1
        return self.seconds, self.done

    def begin(self) -> Stepped:
        """Another owner takes over; what ran in the former one is lost."""
        self.engines += 1
        desk = Stepped(
            self.store, self.clock, name=f"engine-{self.engines}", executor=Recorder(3, HANDLERS)
        )
        desk.settle()
        return desk

    def play(self, steps: int) -> None:
        doings = {
            self.order: 3, self.pay: 4, self.work: 5, self.pass_time: 3, self.restart: 1,
            self.cancel: 1, self.withdraw: 1, self.move_timer: 1,
        }  # fmt: skip
        closes = self.random.randrange(5 * steps)
        for step in range(steps):
            self.random.choices(list(doings), list(doings.values()))[0]()
            if step == closes:
                self.close()
        self.finish()

    def finish(self) -> None:
        """Let everything come to its end."""
        for _ in range(400):
            self.advance(10)
            while self.desk.executor.running:
                self.report(next(iter(self.desk.executor.running.values())), "succeeded")
            if not self.due() and not self.desk.runs("saga"):
                return
        raise AssertionError("something never ends")

    # --- what happens -----------------------------------------------------------------------------

    def publish(self, type_: str, number: int, id_: str) -> bool:
        body = {"type": type_, "id": id_, "data": {"order": number}}
        told = self.desk.ask("event.publish", body)
        assert told.ok, told
        return not told.body["duplicate"]

    def order(self) -> None:
        if self.closed:
            return
        number = len(self.orders)
        self.orders[number] = Order(self.seconds + self.delay)
        self.publish("Ordered", number, f"order-{number}")
        self.pass_delays()

    def pay(self) -> None:
        number = self.random.randrange(len(self.orders) + 2)
        id_ = f"paid-{number}-{self.random.randrange(2)}"
        if self.publish("Paid", number, id_) and number in self.orders:
            self.orders[number].paid.append(self.now)

    def withdraw(self) -> None:
        number = self.random.randrange(len(self.orders) + 1)
        goes_on = number in self.orders and not self.told.ended(number)
        heard = self.publish("Withdrawn", number, f"withdrawn-{number}")
        if heard and goes_on:
            self.orders[number].cancelled = self.now

    def cancel(self) -> None:
        if not self.orders:
            return
        number = self.random.randrange(len(self.orders))
        goes_on = not self.told.ended(number)
        self.desk.ask("execution.cancel", {"id": self.told.ids[number]})
        if goes_on:
            self.orders[number].cancelled = self.now

    def close(self) -> None:
        """The schedule is cancelled: what runs or waits for its payment goes on, the others end."""
        running = {id_ for id_, _ in self.desk.executor.running}
        going = [number for number in self.orders if not self.told.ended(number)]
        over = [
            number
            for number in going
            if self.told.ids[number] not in running and not self.told.waits(number)
        ]
        assert self.desk.ask("schedule.cancel", {"id": "saga"}).ok
        self.closed = True
        for number in over:
            self.orders[number].cancelled = self.now

    def move_timer(self) -> None:
        """Let an order begin, or give up its wait, at another instant."""
        if not self.orders:
            return
        number = self.random.randrange(len(self.orders))
        kind, seconds = self.random.choice(("delay", "confirmation")), self.random.choice(PAUSES)
        self.told.of(number)
        body = {
            "id": f"{kind}:{self.told.ids[number]}",
            "to": format_instant(self.clock.time + timedelta(seconds=seconds)),
        }
        if self.desk.ask("timer.move", body).ok:
            order, to = self.orders[number], self.seconds + seconds
            order.begins, order.gives_up = (to, None) if kind == "delay" else (order.begins, to)
            self.pass_delays()

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

    # --- time -------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        seconds = self.random.choice(PAUSES)
        if self.random.random() < 0.3:
            self.clock.move(seconds)
            self.desk.settle()
            self.pass_delays(late=True)
        else:
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.desk.advance(seconds)
        self.pass_delays()

    def restart(self) -> None:
        if self.random.random() < 0.3:
            self.clock.move(self.random.choice(PAUSES))
        self.desk = self.begin()
        self.pass_delays(late=True)

    def pass_delays(self, *, late: bool = False) -> None:
        """Orders without an action wait for their payment as soon as somebody sees that their delay is over."""
        for order in self.orders.values():
            goes_on = order.waits is None and order.cancelled is None
            if not self.acts and goes_on and order.begins <= self.seconds:
                order.waits = (self.seconds if late else order.begins), self.done

    def due(self) -> bool:
        """True if the ledger has anything to come."""
        return bool(self.store.due(range(64), (0, NOWHERE), 2**62, 1))

    # --- what must hold ---------------------------------------------------------------------------

    def check(self) -> None:
        for number, order in self.orders.items():
            self.check_order(order, self.told.of(number))
        replay(events_of(self.store))
        self.check_memory()

    def check_order(self, order: Order, told: list[tuple[str, float]]) -> None:
        counts = Counter(name for name, _ in told)
        decided = [counts["confirmed"], counts["confirmation_timed_out"]]
        fate = order.fate
        expected = {"confirmed": [1, 0], "timed_out": [0, 1]}.get(fate, [0, 0])
        assert decided == expected, (fate, told)
        assert sum(counts[name] for name in ENDS) == 1, told
        assert counts["cancelled"] == (order.cancelled is not None), told
        if not counts["cancelled"] and fate in {"timed_out", "never"}:
            assert counts["fallback_started"] == 1, told
        assert not counts["failed"], told
        assert not counts["timed_out"], told
        begun = [at for name, at in told if name in BEGINS]
        assert all(at >= order.begins for at in begun), told

    def check_memory(self) -> None:
        """A new owner knows what the present one knows, and nobody listens for what is over."""
        known = len(self.desk.engine.lines.listening.index)
        assert known == len(self.begin().engine.lines.listening.index)
        assert known == (not self.closed)
        assert all(run.status is not Status.WAITING for run in self.desk.runs("saga"))


def play(seed: int, steps: int = 40) -> None:
    """Play a history and look at what has become of it.

    Raises:
        AssertionError: something that must hold does not.
    """
    history = Play(seed)
    history.play(steps)
    history.check()
