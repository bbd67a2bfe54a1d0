"""Limits of queues and tenants: what waits for room, and what goes first (G4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stepping import Clock, Recorder, RecordingBus, Stepped, reported

from horae_application.ports import Use
from horae_application.room import Uses
from horae_domain.events import Event, QueueLimited
from horae_infrastructure.store.memory import MemoryStore

Make = Callable[..., Stepped]
OPEN = {"trigger": {"type": "manual"}, "overlap": "allow"}


def triggered(desk: Stepped, id_: str, count: int = 1, *, tenant: str = "default") -> None:
    for _ in range(count):
        assert desk.ask("schedule.trigger", {"id": id_}, tenant=tenant).ok


def made(desk: Stepped, id_: str, *, tenant: str = "default", **told: Any) -> None:
    action = {"type": "function", "name": "work"}
    body = {"id": id_, "action": action, **OPEN, **told}
    assert desk.ask("schedule.create", body, tenant=tenant).ok


def limit(desk: Stepped, queue: str = "default", **limits: Any) -> dict[str, Any]:
    reply = desk.ask("queue.limit", {"queue": queue, **limits})
    assert reply.ok, reply
    return reply.body


def finish(desk: Stepped, count: int = 1) -> None:
    for work in list(desk.executor.running.values())[:count]:
        assert desk.report(work).ok


def running(desk: Stepped, queue: str = "default") -> int:
    return sum(work.queue == queue for work in desk.executor.running.values())


def usage(desk: Stepped, key: str) -> int:
    [found] = [each for each in desk.store.limits("", {}) if each.setting.key == key]
    return found.running


# --- concurrency ---------------------------------------------------------------------------------


def test_as_many_of_a_queue_run_at_once_as_may_over_all_its_schedules(desk: Stepped) -> None:
    limit(desk, "mail", concurrency=2)
    for name in "abcd":
        made(desk, name, queue="mail")
        triggered(desk, name, 2)
    made(desk, "free")
    triggered(desk, "free", 5)
    assert running(desk, "mail") == 2
    assert running(desk) == 5
    for _ in range(6):
        finish(desk, 1)
        assert running(desk, "mail") <= 2
    while desk.executor.running:
        assert running(desk, "mail") <= 2
        finish(desk)
    assert desk.count("execution.succeeded") == 13


def test_what_waits_for_room_goes_by_urgency(desk: Stepped) -> None:
    limit(desk, concurrency=1)
    made(desk, "first")
    triggered(desk, "first")
    for name, priority in (("low", "low"), ("critical", "critical"), ("medium", "medium")):
        made(desk, name, priority=priority)
        triggered(desk, name)
    while desk.executor.running:
        finish(desk)
    order = [work.schedule_id for work in desk.executor.started]
    assert order == ["first", "critical", "medium", "low"]


def test_a_limit_that_is_raised_or_lifted_lets_at_once_begin_what_waits(desk: Stepped) -> None:
    limit(desk, concurrency=1)
    made(desk, "job")
    triggered(desk, "job", 5)
    assert running(desk) == 1
    limit(desk, concurrency=3)
    assert running(desk) == 3
    assert limit(desk, concurrency=None)["concurrency"] is None
    assert running(desk) == 5


def test_what_runs_when_a_limit_is_set_counts(desk: Stepped) -> None:
    made(desk, "job")
    triggered(desk, "job", 3)
    limit(desk, concurrency=3)
    triggered(desk, "job")
    assert running(desk) == 3
    finish(desk)
    assert running(desk) == 3


def test_a_limit_set_below_what_runs_lets_nothing_begin_until_enough_has_ended(
    desk: Stepped,
) -> None:
    made(desk, "job")
    triggered(desk, "job", 4)
    limit(desk, concurrency=2)
    triggered(desk, "job", 2)
    finish(desk, 2)
    assert running(desk) == 2
    finish(desk)
    assert running(desk) == 2


def test_a_limit_holds_after_a_restart_with_what_was_lost_begun_again(
    desk: Stepped, restart: Make
) -> None:
    limit(desk, concurrency=2)
    made(desk, "job")
    triggered(desk, "job", 4)
    again = restart()
    again.settle()
    assert running(again) == 2
    assert usage(again, "default/default") == 2
    finish(again, 2)
    assert running(again) == 2


def test_a_retry_waits_for_room_like_others(desk: Stepped, clock: Clock) -> None:
    limit(desk, concurrency=1)
    made(desk, "job", retry={"delay": "10 seconds", "jitter": 0})
    triggered(desk, "job")
    [work] = desk.executor.running.values()
    desk.report(work, "failed", error={"type": "E", "message": "no"})
    triggered(desk, "job")
    desk.advance(20)
    assert [each.attempt for each in desk.executor.running.values()] == [1]
    finish(desk)
    assert [each.attempt for each in desk.executor.running.values()] == [2]


def test_the_log_in_its_order_never_has_more_running_than_may(desk: Stepped) -> None:
    """Also where an end and a beginning are in one commit."""
    limit(desk, concurrency=1)
    made(desk, "job")
    triggered(desk, "job")
    [work] = desk.executor.running.values()
    desk.executor.running.clear()
    desk.send("schedule.trigger", {"id": "job"})
    desk.send("execution.report", reported(work))
    desk.settle()
    assert most_at_once(desk.events()) == 1


def most_at_once(events: list[Event]) -> int:
    """How many run at most in the order of the log."""
    live: set[str] = set()
    most = 0
    for event in events:
        id_ = getattr(event, "execution_id", "")
        if getattr(event, "worker", None) is not None and not hasattr(event, "outcome"):
            live.add(id_)
        elif type(event).__name__ not in {"ExecutionRequested", "CancellationRequested"}:
            live.discard(id_)
        most = max(most, len(live))
    return most


# --- pause ---------------------------------------------------------------------------------------


def test_nothing_of_a_paused_queue_begins_and_what_runs_goes_on(desk: Stepped) -> None:
    made(desk, "job")
    triggered(desk, "job")
    reply = desk.ask("queue.pause", {"queue": "default", "note": "audit"})
    assert reply.body["paused"] is True
    assert reply.body["note"] == "audit"
    triggered(desk, "job", 2)
    assert running(desk) == 1
    finish(desk)
    assert running(desk) == 0
    assert desk.ask("queue.resume", {"queue": "default"}).body["paused"] is False
    assert running(desk) == 2


def test_pausing_again_and_limiting_alike_change_nothing(desk: Stepped) -> None:
    for _ in range(2):
        assert desk.ask("queue.pause", {"queue": "q"}).ok
        assert desk.ask("queue.limit", {"queue": "q", "concurrency": 2}).ok
        assert desk.ask("queue.limit", {"queue": "q"}).body["concurrency"] == 2
    for _ in range(2):
        assert desk.ask("queue.resume", {"queue": "q"}).ok
    assert desk.names() == ["queue.paused", "queue.limited", "queue.resumed"]


def test_fields_that_are_left_out_stay_as_they_are(desk: Stepped) -> None:
    limit(desk, "q", concurrency=3, rate="10 per minute")
    assert limit(desk, "q", rate=None)["concurrency"] == 3
    assert limit(desk, "q", rate={"count": 5, "per": "1 second"})["rate"] == "5 per 1s"
    said = [(each.concurrency, each.rate, each.per) for each in desk.events(QueueLimited)]
    assert said == [(3, 10, 60.0), (3, None, None), (3, 5, 1.0)]


@pytest.mark.parametrize(
    "limits",
    [
        {"concurrency": 0},
        {"concurrency": "many"},
        {"rate": "fast"},
        {"rate": "0 per second"},
        {"rate": "5 per fortnight"},
        {"rate": "5 per 1 ms"},
        {"rate": {"count": 5}},
        {"rate": {"count": 5, "per": "99 days"}},
        {"weight": 2},
    ],
)
def test_a_wrong_limit_is_refused_with_its_field(limits: dict[str, Any], desk: Stepped) -> None:
    import msgspec

    from horae_application.messages import read_command
    from horae_domain.errors import InvalidField

    with pytest.raises(InvalidField) as refused:
        read_command("queue.limit", msgspec.json.encode({"queue": "q", **limits}))
    assert (refused.value.field or "").split(".")[0] == next(iter(limits))


# --- rate ----------------------------------------------------------------------------------------


def test_never_more_begin_within_the_time_of_a_rate(desk: Stepped, clock: Clock) -> None:
    limit(desk, rate="3 per minute")
    made(desk, "job")
    triggered(desk, "job", 8)
    begun = []
    for _ in range(200):
        begun += [clock.seconds] * len(desk.executor.running)
        finish(desk, 16)
        desk.advance(1)
    assert len(begun) == 8
    assert begun[2] == begun[0], "the first of them at once"
    assert all(later - first >= 60 for first, later in zip(begun, begun[3:], strict=False))
    assert begun[3] - begun[0] <= 62
    assert begun[6] - begun[3] <= 62


def test_the_engine_wakes_when_a_rate_has_room_again(desk: Stepped, clock: Clock) -> None:
    limit(desk, rate="1 per 10 seconds")
    made(desk, "job")
    triggered(desk, "job", 2)
    finish(desk)
    assert running(desk) == 0
    assert desk.engine.step() <= 10.2
    desk.advance(10.2)
    assert running(desk) == 1


def test_a_rate_holds_after_a_restart(desk: Stepped, restart: Make, clock: Clock) -> None:
    limit(desk, rate="2 per minute")
    made(desk, "job")
    triggered(desk, "job", 2)
    finish(desk, 2)
    triggered(desk, "job")
    again = restart()
    again.settle()
    assert running(again) == 0
    again.advance(61)
    assert running(again) == 1


# --- tenants -------------------------------------------------------------------------------------


def test_a_limit_of_a_tenant_holds_over_all_its_queues(desk: Stepped) -> None:
    reply = desk.ask("tenant.limit", {"concurrency": 3})
    assert reply.body == reply.body | {"tenant": "default", "concurrency": 3, "weight": 1}
    for queue in ("a", "b"):
        made(desk, queue, queue=queue)
        triggered(desk, queue, 3)
    made(desk, "job", tenant="other")
    triggered(desk, "job", 4, tenant="other")
    assert sum(work.tenant == "default" for work in desk.executor.running.values()) == 3
    assert sum(work.tenant == "other" for work in desk.executor.running.values()) == 4


def test_queues_of_the_same_name_have_limits_of_their_own_in_each_tenant(desk: Stepped) -> None:
    limit(desk, "q", concurrency=1)
    for tenant in ("default", "other"):
        made(desk, "job", tenant=tenant, queue="q")
        triggered(desk, "job", 2, tenant=tenant)
    assert sorted(work.tenant for work in desk.executor.running.values()) == [
        "default",
        "other",
        "other",
    ]


def few_slots(clock: Clock, slots: int = 1) -> Stepped:
    desk = Stepped(MemoryStore(clock=clock.micros), clock, executor=Recorder(slots=slots))
    desk.settle()
    return desk


def test_tenants_take_turns_where_slots_are_scarce(clock: Clock) -> None:
    desk = few_slots(clock)
    for tenant, count in (("big", 20), ("small", 3)):
        made(desk, "job", tenant=tenant)
        triggered(desk, "job", count, tenant=tenant)
        clock.move(10)
    for _ in range(7):
        finish(desk)
    first = [work.tenant for work in desk.executor.started][:7]
    assert first.count("small") == 3, first


def test_a_tenant_with_more_weight_has_more_turns(clock: Clock) -> None:
    desk = few_slots(clock)
    desk.ask("tenant.limit", {"weight": 3}, tenant="gold")
    for tenant in ("gold", "plain"):
        made(desk, "job", tenant=tenant)
        triggered(desk, "job", 30, tenant=tenant)
    for _ in range(20):
        finish(desk)
    first = [work.tenant for work in desk.executor.started][1:21]
    assert first.count("gold") == 15, first


def test_within_a_tenant_the_most_urgent_goes_first(clock: Clock) -> None:
    desk = few_slots(clock)
    for tenant in ("one", "two"):
        made(desk, "low", tenant=tenant, priority="low")
        made(desk, "high", tenant=tenant, priority="high", queue="other")
        triggered(desk, "low", 2, tenant=tenant)
        triggered(desk, "high", 2, tenant=tenant)
    for _ in range(7):
        finish(desk)
    order = [(work.tenant, work.schedule_id) for work in desk.executor.started][1:]
    for tenant in ("one", "two"):
        own = [name for each, name in order if each == tenant]
        assert own == sorted(own), "high before low"


# --- work elsewhere ------------------------------------------------------------------------------


def elsewhere(clock: Clock) -> tuple[Stepped, RecordingBus]:
    bus = RecordingBus()
    desk = Stepped(MemoryStore(clock=clock.micros), clock, executor=Recorder(), bus=bus)
    desk.settle()
    return desk, bus


def start(desk: Stepped, id_: str) -> int:
    return desk.ask("execution.start", {"execution_id": id_}).status


def test_no_more_is_published_than_may_begin(clock: Clock) -> None:
    desk, bus = elsewhere(clock)
    limit(desk, "reports", concurrency=2)
    made(desk, "job", action={"type": "queue", "queue": "reports"})
    triggered(desk, "job", 5)
    assert len(bus.outstanding) == 2
    first, second = bus.outstanding
    assert start(desk, first) == start(desk, second) == 200
    assert len(bus.published) == 2
    lease = {"execution_id": first, "lease": "1.1", "outcome": "succeeded"}
    assert desk.ask("execution.report", lease).ok
    assert len(bus.outstanding) == 1


def test_what_was_published_before_a_limit_is_refused_until_there_is_room(clock: Clock) -> None:
    desk, bus = elsewhere(clock)
    made(desk, "job", action={"type": "queue", "queue": "reports"})
    triggered(desk, "job", 3)
    limit(desk, "reports", concurrency=1)
    first, second, _ = list(bus.outstanding)
    assert start(desk, first) == 200
    assert start(desk, second) == 429
    lease = {"execution_id": first, "lease": "1.1", "outcome": "succeeded"}
    assert desk.ask("execution.report", lease).ok
    assert start(desk, second) == 200


def test_nothing_of_a_paused_queue_is_published_or_taken(clock: Clock) -> None:
    desk, bus = elsewhere(clock)
    made(desk, "job", action={"type": "queue", "queue": "reports"})
    triggered(desk, "job")
    desk.ask("queue.pause", {"queue": "reports"})
    triggered(desk, "job")
    [published] = bus.outstanding
    assert start(desk, published) == 429
    desk.ask("queue.resume", {"queue": "reports"})
    assert len(bus.outstanding) == 2
    assert start(desk, published) == 200


def test_an_unserved_handler_holds_up_no_other_of_its_queue(clock: Clock) -> None:
    desk, bus = elsewhere(clock)
    limit(desk, "q", concurrency=1)
    for name in ("nobody", "somebody"):
        made(desk, name, queue="q", action={"type": "function", "name": name})
        triggered(desk, name, 2)
    assert sorted(work.schedule_id for work in bus.published) == ["nobody", "somebody"]


@pytest.mark.parametrize(
    ("counted", "most"),
    [
        ([(1, 1, 3), (-1, 0, 7)], 1),
        ([(-1, 0, 3), (1, 1, 7)], 0),
        ([(-1, 0, 7), (1, 1, 3)], 1),
        ([(1, 1, 3), (1, 1, 4), (-1, 0, 5), (1, 1, 6)], 2),
        ([(-1, 0, 1), (-1, 0, 2), (0, 1, 3), (1, 0, 3)], -1),
        ([(0, 1, 2)], 0),
        ([(-1, 0, 1), (0, 0, 2)], -1),
    ],
)
def test_what_runs_at_most_in_a_commit_is_told_in_the_order_of_its_events(
    counted: list[tuple[int, int, int]], most: int
) -> None:
    uses = Uses()
    for change, starts, index in counted:
        uses.count("t", "q", change, starts, index)
    change, starts = (sum(column) for column in list(zip(*counted, strict=True))[:2])
    assert uses.all() == [Use(key, change, starts, most) for key in ("t/q", "t")]


# --- what the store says -------------------------------------------------------------------------


def test_room_that_somebody_else_has_taken_is_not_used(clock: Clock) -> None:
    """What is known of limits may be old: the store refuses, and all else is decided again."""
    desk = few_slots(clock, 16)
    limit(desk, "q", concurrency=1)
    desk.store._limits._running["default/q"] += 1  # type: ignore[attr-defined]
    made(desk, "job", queue="q")
    made(desk, "free")
    desk.send("schedule.trigger", {"id": "job"})
    replies = desk.send("schedule.trigger", {"id": "free"})
    desk.settle()
    assert replies[0].ok
    assert [work.schedule_id for work in desk.executor.started] == ["free"]
    assert desk.count("execution.requested") == 2
    desk.store._limits._running["default/q"] -= 1  # type: ignore[attr-defined]
    assert running(desk, "q") == 0
    clock.move(2)
    desk.settle()
    assert running(desk, "q") == 1, "it looks again after a while"
