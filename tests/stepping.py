"""An engine that a test steps, over any store, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from horae_application.engine import Engine
from horae_application.messages import Reply, Request, read_command
from horae_application.ownership import Ownership
from horae_application.ports import EventStore, Hands, StoredEvent
from horae_application.task import Task
from horae_application.work import Work
from horae_domain.actions import Action, FunctionAction, ProcessAction
from horae_domain.codec import decode
from horae_domain.events import Event
from horae_domain.identity import partition_of
from horae_domain.instants import to_micros

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
WORK = {"type": "function", "name": "work"}


class Clock:
    """Wall time and monotonic time that stand still until they are moved."""

    def __init__(self) -> None:
        self.time = START
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.seconds

    def micros(self) -> int:
        return to_micros(self.time)

    def move(self, seconds: float) -> None:
        """Both go on."""
        self.time += timedelta(seconds=seconds)
        self.seconds += max(0.0, seconds)

    def jump(self, seconds: float) -> None:
        """The wall clock is set; the monotonic one knows nothing of it."""
        self.time += timedelta(seconds=seconds)


class Recorder:
    """An executor that notes what it is told, and has `slots` places."""

    def __init__(self, slots: int = 16, serves: tuple[str, ...] = ("work",)) -> None:
        self.slots = slots
        self.names = serves
        self.processes = False
        self.started: list[Work] = []
        self.stopped: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self.running: dict[tuple[str, str], Work] = {}

    def serves(self, action: Action) -> bool:
        if isinstance(action, FunctionAction):
            return action.name in self.names
        return isinstance(action, ProcessAction) and self.processes

    def free(self) -> int:
        return self.slots - len(self.running)

    def hold(self, count: int) -> int:
        return max(0, min(count, self.free()))

    def start(self, works: Sequence[Work]) -> None:
        self.started += works
        self.running |= {(work.execution_id, work.lease): work for work in works}

    def ask_to_stop(self, leases: Sequence[tuple[str, str]]) -> None:
        self.asked += leases

    def stop(self, leases: Sequence[tuple[str, str]]) -> None:
        self.stopped += leases
        for lease in leases:
            self.running.pop(lease, None)


class RecordingBus:
    """A work bus that notes what it carries."""

    def __init__(self) -> None:
        self.published: list[Work] = []
        self.withdrawn: list[str] = []
        self.outstanding: dict[str, Work] = {}
        self.there: list[Hands] = []

    def hands(self) -> list[Hands]:
        return list(self.there)

    def publish(self, works: Sequence[Work]) -> None:
        self.published += works
        self.outstanding |= {work.execution_id: work for work in works}

    def withdraw(self, execution_ids: Sequence[str]) -> None:
        self.withdrawn += execution_ids
        for each in execution_ids:
            del self.outstanding[each]


class Stepped:
    """One engine; `ask` sends a command and steps."""

    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        *,
        name: str = "engine",
        executor: Recorder | None = None,
        bus: RecordingBus | None = None,
        listener: Any = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.executor = executor or Recorder()
        self.bus = bus
        self.engine = Engine(
            store,
            clock,
            Ownership(store, name, f"address-of-{name}"),
            executor=self.executor,
            bus=bus,
            listener=listener,
        )

    # --- commands ---------------------------------------------------------------------------------

    def send(
        self,
        name: str,
        body: dict[str, Any] | bytes,
        *,
        tenant: str = "default",
        key: str | None = None,
        **told: Any,
    ) -> list[Reply]:
        """Put a command into the inbox; its reply will be in the list."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        request = Request(tenant=tenant, name=name, body=raw, key=key, **told)
        replies: list[Reply] = []
        self.engine.submit(Task(request, read_command(name, raw), replies.append))
        return replies

    def ask(self, name: str, body: dict[str, Any] | bytes, **told: Any) -> Reply:
        """The reply to a command."""
        replies = self.send(name, body, **told)
        self.settle()
        assert len(replies) == 1, replies
        return replies[0]

    def create(self, id_: str = "job", *, every: str = "1 minute", **told: Any) -> Reply:
        definition = {"id": id_, "trigger": {"type": "interval", "every": every}, "action": WORK}
        return self.ask("schedule.create", definition | told)

    def manual(self, id_: str = "job", **told: Any) -> Reply:
        return self.create(id_, trigger={"type": "manual"}, **told)

    def trigger(self, id_: str = "job", **told: Any) -> str:
        reply = self.ask("schedule.trigger", {"id": id_, **told})
        assert reply.ok, reply
        text: str = reply.body["execution_id"]
        return text

    def report(self, work: Work, outcome: str = "succeeded", **told: Any) -> Reply:
        self.executor.running.pop((work.execution_id, work.lease), None)
        return self.ask("execution.report", reported(work, outcome, **told), tenant=work.tenant)

    # --- time -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Rounds until there is nothing to do by itself."""
        for _ in range(10_000):
            if self.engine.step() > 0 and self.engine._inbox.empty():
                return
        raise AssertionError("the engine never rests")

    def advance(self, seconds: float) -> None:
        """Move the clock, stopping wherever something is due."""
        target = self.clock.time + timedelta(seconds=seconds)
        while True:
            self.settle()
            wake = self.engine.next_wake()
            if wake is None or wake > to_micros(target):
                break
            if wake > self.clock.micros():
                self.clock.move((wake - self.clock.micros()) / 1e6)
        self.clock.move((target - self.clock.time).total_seconds())
        self.settle()

    # --- what is recorded -------------------------------------------------------------------------

    def events(self, kind: type[Event] | None = None) -> list[Any]:
        """All events of the store, in order."""
        return events_of(self.store, kind)

    def names(self) -> list[str]:
        return [row.name.removesuffix(".v1") for row in log_of(self.store)]

    def count(self, name: str) -> int:
        return self.names().count(name)

    def runs(self, id_: str = "job", tenant: str = "default") -> list[Any]:
        """Live executions of a schedule in memory."""
        for line in (line for _, line in self.engine.lines.all()):
            if (line.schedule.tenant, line.schedule.id) == (tenant, id_):
                return list(line.live.values())
        return []


def reported(work: Work, outcome: str = "succeeded", **told: Any) -> dict[str, Any]:
    """The body of a report."""
    return {
        "execution_id": work.execution_id,
        "lease": work.lease,
        "outcome": outcome,
        **told,
    }


def log_of(store: EventStore) -> list[StoredEvent]:
    return store.read(0, 1_000_000)


def events_of(store: EventStore, kind: type[Event] | None = None) -> list[Any]:
    events = [decode(row.name, row.state) for row in log_of(store)]
    return [event for event in events if kind is None or isinstance(event, kind)]


def number(reply: Reply) -> int:
    """The position of a reply as the log counts."""
    return int(reply.body["position"].rsplit(".", 1)[1])


def same_partition(first: str, pattern: str = "other-{}") -> str:
    """Another id in the partition of an id."""
    wanted = partition_of("default", first)
    return next(
        name
        for name in (pattern.format(index) for index in range(100_000))
        if partition_of("default", name) == wanted
    )


class Wrapped:
    """A store whose calls can fail: `fail(call, error, ...)` for the next calls of that name.

    With `after=True` the call has its effect and then fails.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._plans: dict[str, list[tuple[Exception | Callable[[], None], bool]]] = {}
        self.calls: list[str] = []

    @property
    def identity(self) -> str:
        return self._store.identity

    @property
    def single_process(self) -> bool:
        return self._store.single_process

    def fail(
        self,
        call: str,
        error: Exception | Callable[[], None],
        *,
        after: bool = False,
        times: int = 1,
    ) -> None:
        self._plans.setdefault(call, []).extend([(error, after)] * times)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            plans = self._plans.get(name)
            if not plans:
                return real(*args, **kwargs)
            problem, after = plans.pop(0)
            answer = real(*args, **kwargs) if after else None
            if isinstance(problem, Exception):
                raise problem
            problem()
            return answer if after else real(*args, **kwargs)

        return call
