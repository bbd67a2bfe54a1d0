"""What goes to executors in other processes, how much at once, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from stepping import WORK, Clock, RecordingBus, Stepped, reported

from horae_application.crews import LEAD, MANY, UNTOLD, Crews
from horae_application.ports import Hands
from horae_application.work import HTTP_CALLS, PROCESSES, SCHEDULES, SERVICE_COMMANDS, Work
from horae_domain.identity import partition_of
from horae_infrastructure.store.memory import MemoryStore

QUEUE = {"type": "queue", "queue": "mail"}
MADE = {"id": "made", "trigger": {"type": "manual"}, "action": WORK}
LOST = partition_of("default", "lost")
MAIL = ("default", "queue", "mail")


class Desk(Stepped):
    """An engine and executors elsewhere, which take what comes to them in its order."""

    def __init__(
        self,
        clock: Clock,
        store: MemoryStore | None = None,
        there: Sequence[Hands] = (),
        **told: Any,
    ) -> None:
        self.there = RecordingBus()
        self.there.there += there
        self.taken: list[Work] = []
        super().__init__(store or MemoryStore(clock=clock.micros), clock, bus=self.there, **told)
        self.settle()

    def arrives(self, name: str, slots: int | None, *pulls: tuple[str, str, str]) -> None:
        """An executor says what it does, and perhaps how much of it at once."""
        self.leaves(name)
        self.there.there.append(Hands(name, slots, frozenset(pulls)))
        self.settle()

    def leaves(self, name: str) -> None:
        self.there.there = [each for each in self.there.there if each.executor != name]
        self.settle()

    def made(self, id_: str, count: int = 0, *, tenant: str = "default", **told: Any) -> None:
        """A schedule of work elsewhere, triggered so often."""
        body = {"id": id_, "trigger": {"type": "manual"}, "overlap": "allow", "action": QUEUE}
        assert self.ask("schedule.create", body | told, tenant=tenant).ok
        for _ in range(count):
            self.clock.move(0.001)
            assert self.ask("schedule.trigger", {"id": id_}, tenant=tenant).ok

    def take(self, worker: str = "x", of: str = "") -> Work:
        """The first on the bus, perhaps of a schedule, begins, long after the one before."""
        self.clock.move(1)
        waits = self.there.outstanding.values()
        work = next(each for each in waits if each.schedule_id.startswith(of))
        body = {"execution_id": work.execution_id, "lease": work.lease, "worker": worker}
        assert self.ask("execution.start", body, tenant=work.tenant).ok
        self.taken.append(work)
        return work

    def run(self, worker: str = "x", of: str = "") -> str:
        """The same, and it ends; whose it is."""
        work = self.take(worker, of)
        self.finish(work)
        return work.schedule_id

    def finish(self, work: Work) -> None:
        assert self.ask("execution.report", reported(work), tenant=work.tenant).ok

    @property
    def waits(self) -> list[str]:
        """What is on the bus."""
        return [work.schedule_id for work in self.there.outstanding.values()]


@pytest.fixture
def desk(clock: Clock) -> Desk:
    return Desk(clock)


def test_as_much_is_published_as_executors_have_slots_and_one_more(desk: Desk):
    desk.arrives("x", 16, MAIL)
    desk.arrives("y", 8, MAIL)
    desk.made("job", 100)
    assert len(desk.waits) == 16 + 8 + 1
    first = [desk.take("x") for _ in range(16)]
    second = [desk.take("y") for _ in range(8)]
    assert len(desk.waits) == 1, "all slots are taken"
    desk.finish(first[0])
    desk.finish(second[0])
    assert len(desk.waits) == 3


def test_what_is_taken_fast_is_published_ahead(desk: Desk):
    desk.arrives("x", 16, MAIL)
    desk.made("job", 60)
    for work in list(desk.there.outstanding.values())[:10]:
        body = {"execution_id": work.execution_id, "lease": work.lease, "worker": "x"}
        assert desk.ask("execution.start", body).ok
    assert len(desk.waits) == 6 + 10
    desk.clock.move(4 * LEAD)
    for work in list(desk.there.outstanding.values())[:15]:
        desk.ask("execution.cancel", {"id": work.execution_id})
    assert len(desk.waits) == 6 + 1


def test_what_becomes_urgent_goes_before_what_waits_for_a_slot(desk: Desk):
    desk.arrives("x", 1, MAIL)
    desk.made("low", 10, priority="low")
    running = desk.take()
    assert desk.waits == ["low"], "one is ahead"
    desk.made("critical", 2, priority="critical")
    desk.finish(running)
    assert [desk.run() for _ in range(4)] == ["low", "critical", "critical", "low"]


def test_what_waits_goes_by_the_priority_that_it_was_given_meanwhile(desk: Desk):
    desk.arrives("x", 1, MAIL)
    desk.made("job", 6)
    running = desk.take()
    [ahead] = desk.there.outstanding
    first, *_, last = [run.id for run in desk.runs() if run.id not in {running.execution_id, ahead}]
    assert desk.ask("execution.reprioritize", {"id": last, "priority": "high"}).ok
    assert desk.ask("execution.reprioritize", {"id": first, "priority": "low"}).ok
    desk.finish(running)
    while desk.waits:
        desk.run()
    order = [work.execution_id for work in desk.taken]
    assert order[:3] == [running.execution_id, ahead, last]
    assert order[-1] == first


def test_tenants_that_share_an_executor_take_turns(desk: Desk):
    desk.ask("tenant.limit", {"weight": 2}, tenant="gold")
    desk.arrives("x", 1, *((tenant, "queue", "mail") for tenant in ("default", "gold", "blue")))
    desk.made("much", 30)
    desk.made("gold", 8, tenant="gold")
    desk.made("blue", 4, tenant="blue")
    ran = [desk.run() for _ in range(14)][2:]
    assert [ran.count(each) for each in ("much", "gold", "blue")] == [3, 6, 3]
    assert ran[:4].count("gold") == 2, "nobody waits for another's last one"


def test_turns_go_on_while_another_executor_is_faster(desk: Desk):
    desk.arrives("fast", 1, MAIL)
    desk.arrives("slow", 1, ("red", "queue", "mail"), ("green", "queue", "mail"))
    desk.made("slow-red", 10, tenant="red")
    desk.made("slow-green", 10, tenant="green")
    desk.made("fast", 100)
    ran = []
    for _ in range(10):
        for _ in range(5):
            desk.run("fast", "fast")
        ran.append(desk.run("slow", "slow"))
    assert ran[2:].count("slow-red") == ran[2:].count("slow-green") == 4


def test_handlers_of_one_executor_share_its_slots(desk: Desk):
    names = ("a", "b", "c")
    desk.arrives("x", 1, *(("default", "function", name) for name in names))
    for name, priority in zip(names, ("low", "medium", "critical"), strict=True):
        desk.made(name, 3, action={"type": "function", "name": name}, priority=priority)
    assert len(desk.waits) == 2, "a slot and one ahead"
    assert [desk.run() for _ in range(9)] == [*"aa", *"ccc", *"bbb", "a"]


def test_executors_that_have_something_in_common_share_it(desk: Desk):
    only, both = ("default", "function", "only"), ("default", "function", "both")
    desk.arrives("x", 8, only, both)
    desk.arrives("y", 8, both)
    desk.made("only", 20, action={"type": "function", "name": "only"})
    desk.made("both", 20, action={"type": "function", "name": "both"})
    assert (desk.waits.count("only"), desk.waits.count("both")) == (9, 8)
    for _ in range(8):
        desk.take("x")
    runs = [desk.take("y", "both") for _ in range(8)]
    assert desk.waits == ["only"], "one is ahead"
    for work in runs[:3]:
        desk.finish(work)
    assert desk.waits == ["only", *["both"] * 3], "there is room that only one of them can use"


@pytest.mark.parametrize(
    ("action", "kind", "name"),
    [
        ({"type": "function", "name": "build"}, "function", "build"),
        ({"type": "http", "method": "GET", "url": "http://horae.test/"}, "function", HTTP_CALLS),
        ({"type": "process", "command": ["true"]}, "function", PROCESSES),
        (
            {"type": "command", "service": "desk", "command": "Do"},
            "function",
            SERVICE_COMMANDS,
        ),
        ({"type": "schedule", "template": MADE}, "function", SCHEDULES),
        (QUEUE, "queue", "mail"),
    ],
)
def test_work_goes_by_whatever_it_is_pulled_by(desk: Desk, action: Any, kind: str, name: str):
    desk.arrives("x", 2, ("default", kind, name))
    desk.arrives("y", 64, ("default", kind, "other"), ("other", kind, name))
    desk.made("job", 6, action=action)
    assert len(desk.waits) == 3


def test_a_modest_number_is_published_where_nobody_says_how_much_he_does(desk: Desk):
    desk.made("job", UNTOLD + 20)
    assert len(desk.waits) == UNTOLD
    desk.take("stranger")
    assert len(desk.waits) == UNTOLD, "he may have any number of slots"


def test_who_does_not_say_how_much_he_does_gets_work_beside_one_who_does(desk: Desk):
    desk.arrives("old", None, MAIL, ("default", "queue", "post"))
    desk.made("job", 2 * UNTOLD)
    assert len(desk.waits) == UNTOLD
    desk.arrives("new", 1, MAIL)
    desk.take("new")
    assert len(desk.waits) == UNTOLD
    for _ in range(4):
        desk.take("old")
    assert len(desk.waits) == UNTOLD, "he may have any number of slots"
    desk.leaves("old")
    for _ in range(UNTOLD):
        desk.take("stranger")
    assert len(desk.waits) == 1


def test_executor_that_comes_later_finds_what_waits_in_its_order(desk: Desk):
    desk.made("low", UNTOLD + 10, priority="low")
    desk.made("critical", 2, priority="critical")
    desk.arrives("x", 1, MAIL)
    ran = [desk.run() for _ in range(UNTOLD + 3)]
    assert ran == ["low"] * UNTOLD + ["critical"] * 2 + ["low"]


def test_slots_of_an_executor_that_is_gone_are_no_room(desk: Desk):
    desk.arrives("x", 8, MAIL)
    desk.arrives("y", 8, MAIL)
    desk.leaves("y")
    desk.made("job", 40)
    assert len(desk.waits) == 9
    for _ in range(9):
        desk.take()
    assert len(desk.waits) == 1
    desk.arrives("z", 2, MAIL)
    assert len(desk.waits) == 3


def test_executor_that_takes_no_more_makes_no_room(desk: Desk):
    desk.arrives("x", 0, MAIL)
    desk.made("job", 5)
    assert len(desk.waits) == 1
    desk.arrives("x", 4, MAIL)
    assert len(desk.waits) == 5


def test_work_that_another_executor_takes_over_keeps_that_ones_slot(desk: Desk):
    desk.arrives("x", 1, MAIL)
    desk.arrives("y", 1, ("default", "queue", "more"), MAIL)
    desk.made("job", 9)
    lost = desk.take("x")
    body = {"execution_id": lost.execution_id, "lease": lost.lease, "worker": "y"}
    assert desk.ask("execution.start", body).ok
    assert len(desk.waits) == 2, "x is free, y is not"


@pytest.mark.parametrize("limit", ["queue.pause", "queue.limit"])
def test_what_may_not_begin_takes_no_room_of_others(desk: Desk, limit: str):
    function = {"type": "function", "name": "build"}
    desk.arrives("x", 2, ("default", "function", "build"))
    desk.made("still", 10, queue="still", action=function)
    assert desk.waits == ["still"] * 3
    told: dict[str, Any] = {"queue": "still"}
    if limit == "queue.limit":
        told["concurrency"] = 1
        desk.take("another")
    assert desk.ask(limit, told).ok
    desk.made("other", 5, action=function)
    assert desk.waits.count("other") == 3


def test_new_owner_counts_what_runs_elsewhere(clock: Clock):
    store = MemoryStore(clock=clock.micros)
    first = Desk(clock, store, name="first")
    first.arrives("x", 4, MAIL)
    first.made("job", 20)
    for _ in range(4):
        first.take()
    first.engine.ownership.leave()
    assert len(Desk(clock, store, name="again", there=first.there.there).waits) == 1


def test_what_runs_for_another_owner_takes_no_slot(desk: Desk):
    desk.arrives("x", 2, MAIL)
    desk.made("lost", 2)
    desk.take()
    desk.take()
    kept = next(each for each in "abc" if partition_of("default", each) != LOST)
    desk.engine._lose(frozenset({LOST}))
    desk.made(kept, 5)
    assert desk.waits == [kept] * 3


def test_what_was_taken_long_ago_is_forgotten():
    crews = Crews()
    for second in range(2 * MANY):
        crews.count(("default", "queue", f"of-{second}"), second * 1_000_000)
    assert len(crews._lately) <= MANY
