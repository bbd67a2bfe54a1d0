"""From events to answers, for every kind of event."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from desk import NOW, Desk, at, attempt_failed, created, execution_id, requested, started, succeeded

from horae_domain.definition import parse_definition
from horae_domain.events import (
    NAMES,
    CancellationRequested,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionSkipped,
    ExecutionTimedOut,
    OccurrencesDecided,
    ReportRefused,
    RequestAnswered,
    ScheduleCancelled,
    ScheduleCompleted,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_infrastructure.views.memory import MemoryViews


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


async def run_of(desk: Desk, number: int = 1) -> dict:
    return await desk.ask("execution.get", id=execution_id(number))


async def schedule(desk: Desk) -> dict:
    return await desk.ask("schedule.get", id="a")


@pytest.mark.parametrize(
    "definition",
    [
        {"trigger": {"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"}},
        {"trigger": {"type": "interval", "every": "90s"}, "retry": {"max_attempts": 9}},
        {"trigger": {"type": "once", "at": "2026-12-01T09:00:00Z"}, "timeout": {"start_to_close": None}},
        {"trigger": {"type": "once", "after": "5 minutes"}, "payload": {"retry": {"x": 1}}},
        {"trigger": {"type": "manual"}, "tags": ["a", "b"], "metadata": {"trigger": "mine"}},
        {"trigger": {"type": "manual"}, "action": {"type": "queue", "queue": "reports"}},
        {"trigger": {"type": "manual"}, "action": {"type": "process", "command": ["ls", "-l"]}},
    ],
)  # fmt: skip
async def test_a_schedule_is_answered_with_its_whole_definition(desk: Desk, definition: dict):
    wanted = parse_definition(
        {"id": "a", "name": "Ä", "action": {"type": "function", "name": "f"}} | definition
    )
    canonical = wanted.canonical()
    canonical.pop("id")
    await desk.tell(created("a", **canonical))
    answer = await schedule(desk)
    full = wanted.model_dump(mode="json")
    assert {name: answer[name] for name in full} == full


async def test_a_new_schedule_is_active_and_tells_when_it_is_next_due(desk: Desk):
    await desk.tell(created(actor="ann"))
    answer = await schedule(desk)
    assert answer["status"] == "active"
    assert answer["revision"] == 1
    assert answer["created_by"] == "ann"
    assert answer["created_at"] == answer["changed_at"] == "2026-01-01T00:00:00Z"
    assert answer["next_due"] == "2026-01-01T00:01:00Z"
    assert answer["next"][:2] == ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]
    assert set(answer["statistics"].values()) == {0}


async def test_a_schedule_is_pending_until_its_start(desk: Desk):
    await desk.tell(created(start_at=at(600).isoformat(), next_due=at(600)))
    assert (await schedule(desk))["status"] == "pending"
    assert (await desk.ask("schedule.list", status="pending"))["total"] == 1
    desk.now = at(601)
    assert (await schedule(desk))["status"] == "active"
    await desk.tell(requested(10))
    assert (await desk.ask("schedule.list", status="pending"))["total"] == 0
    assert (await desk.ask("schedule.list", status="active"))["total"] == 1


async def test_pause_hides_the_next_run_and_resume_brings_it_back(desk: Desk):
    await desk.tell(created(), SchedulePaused(at=at(1), schedule_id="a", note="holiday"))
    answer = await schedule(desk)
    assert (answer["status"], answer["note"], answer["next_due"]) == ("paused", "holiday", None)
    assert answer["next"] == []
    await desk.tell(ScheduleResumed(at=at(2), schedule_id="a", next_due=at(60)))
    answer = await schedule(desk)
    assert (answer["status"], answer["note"]) == ("active", "")
    assert answer["next_due"] == "2026-01-01T00:01:00Z"
    assert answer["changed_at"] == "2026-01-01T00:00:02Z"


async def test_pause_has_its_author_and_its_time_until_it_ends(desk: Desk):
    paused = SchedulePaused(at=at(1), schedule_id="a", note="holiday", actor="ann")
    await desk.tell(created(), paused)
    answer = await schedule(desk)
    assert (answer["paused_at"], answer["paused_by"]) == ("2026-01-01T00:00:01Z", "ann")
    assert answer["tripped"] is False
    await desk.tell(ScheduleResumed(at=at(2), schedule_id="a"))
    answer = await schedule(desk)
    assert (answer["paused_at"], answer["paused_by"]) == (None, None)
    await desk.tell(paused, ScheduleCancelled(at=at(3), schedule_id="a"))
    assert (await schedule(desk))["paused_at"] is None


async def test_tripped_schedule_is_paused_and_says_why(desk: Desk):
    await desk.tell(
        created(),
        requested(),
        ScheduleTripped(
            at=at(61), schedule_id="a", failures=3, execution_id=execution_id(1), reason="three"
        ),
    )
    answer = await schedule(desk)
    assert (answer["status"], answer["tripped"], answer["note"]) == ("paused", True, "three")
    assert (answer["paused_at"], answer["paused_by"]) == ("2026-01-01T00:01:01Z", None)
    assert (answer["next_due"], answer["next"]) == (None, [])
    assert (await desk.ask("schedule.list", status="paused"))["total"] == 1
    (entry,) = (await desk.ask("schedule.history", id="a", status="tripped"))["history"]
    assert (entry["reason"], entry["failures"]) == ("three", 3)
    assert entry["execution_id"] == execution_id(1)
    await desk.tell(ScheduleResumed(at=at(62), schedule_id="a", next_due=at(120)))
    answer = await schedule(desk)
    assert (answer["status"], answer["tripped"], answer["note"]) == ("active", False, "")


async def test_an_update_while_paused_stays_paused(desk: Desk):
    update = ScheduleUpdated(
        at=at(2), schedule_id="a", revision=2, anchor=at(2), next_due=at(62),
        definition={"id": "a", "name": "New", "trigger": {"type": "manual"},
                    "action": {"type": "function", "name": "other"}},
    )  # fmt: skip
    await desk.tell(created(), SchedulePaused(at=at(1), schedule_id="a"), update)
    answer = await schedule(desk)
    assert (answer["status"], answer["revision"], answer["name"]) == ("paused", 2, "New")
    assert answer["next_due"] is None
    assert (await desk.ask("schedule.list", handler="build"))["total"] == 0
    assert (await desk.ask("schedule.list", handler="other"))["total"] == 1


@pytest.mark.parametrize(
    ("event", "status", "note"),
    [
        (ScheduleCompleted(at=at(9), schedule_id="a", reason="end_at"), "completed", "end_at"),
        (ScheduleCancelled(at=at(9), schedule_id="a", note="enough"), "cancelled", "enough"),
        (ScheduleQuarantined(at=at(9), schedule_id="a", reason="zone"), "failed", "zone"),
    ],
)
async def test_a_schedule_that_ended_says_why(desk: Desk, event, status: str, note: str):
    await desk.tell(created(), event)
    answer = await schedule(desk)
    assert (answer["status"], answer["note"], answer["next_due"]) == (status, note, None)


async def test_a_schedule_made_again_counts_from_nothing(desk: Desk):
    await desk.tell(created(tags=["old"]), requested(), succeeded())
    await desk.tell(ScheduleCancelled(at=at(100), schedule_id="a"), created(when=at(200)))
    answer = await schedule(desk)
    assert answer["statistics"]["fired"] == 0
    assert answer["created_at"] == "2026-01-01T00:03:20Z"
    assert (await desk.ask("schedule.list", tags=["old"]))["total"] == 0


async def test_a_run_handed_over_at_once_is_running(desk: Desk):
    await desk.tell(created(), requested(worker="w1", deadline=at(360), run_number=1))
    answer = await run_of(desk)
    assert answer["status"] == "running"
    assert answer["lateness_ms"] == 0
    assert answer["attempts"][0]["worker"] == "w1"
    assert answer["run_number"] == 1
    assert (await schedule(desk))["running"] == 1
    timers = (await desk.ask("timer.list"))["timers"]
    assert [each["kind"] for each in timers] == ["schedule", "start_to_close"]


async def test_a_run_handed_over_at_once_has_begun_its_attempt(desk: Desk):
    await desk.tell(created(), requested(worker="w1"))
    assert [(each["event"], each["detail"]) for each in (await run_of(desk))["timeline"]] == [
        ("requested", None),
        ("attempt_started", "w1"),
    ]


async def test_a_run_belongs_to_the_trace_of_whoever_asked_for_it_or_is_its_own(desk: Desk):
    trace = "0af7651916cd43dd8448eb211c80319c"
    asked = requested(2, kind="key", traceparent=f"00-{trace}-b7ad6b7169203331-01")
    await desk.tell(created(), requested(1), asked)
    found = (await desk.ask("execution.list"))["executions"]
    assert [each["trace_id"] for each in found] == [trace, execution_id(1).replace("-", "")]


async def test_runs_of_a_recurrence_rule_are_not_those_of_a_cron_expression(desk: Desk):
    rule = {"type": "rrule", "rule": "FREQ=HOURLY"}
    await desk.tell(created("r", trigger=rule), requested(1, "r", kind="calendar"))
    await desk.tell(created("c"), requested(2, "c", kind="calendar"))
    for kind, schedule in (("rrule", "r"), ("cron", "c")):
        (found,) = (await desk.ask("execution.list", kind=kind))["executions"]
        assert (found["schedule_id"], found["trigger"]["kind"]) == (schedule, kind)


async def test_runs_are_listed_by_queue_and_by_what_made_them_run(desk: Desk):
    await desk.tell(
        created(),
        requested(1, queue="slow"),
        requested(2, kind="key"),
        requested(3, kind="backfill", queue="slow"),
        requested(4, kind="calendar"),
    )

    async def due(**filters) -> list[int]:
        found = await desk.ask("execution.list", **filters)
        assert found["total"] == len(found["executions"])
        return [int(each["due"][14:16]) for each in found["executions"]]

    assert await due(queue="slow") == [3, 1]
    assert await due(kind="manual,cron") == [4, 2]
    assert await due(kind=["backfill", "interval"], queue="slow") == [3, 1]
    assert await due(kind="interval", to=at(30).isoformat()) == []
    assert await due(queue="none") == []


async def test_a_run_tells_its_attempts_and_its_outcome(desk: Desk):
    await desk.tell(
        created(),
        requested(correlation_id="c1", payload={"x": 1}),
        started(),
        attempt_failed(retry_at=at(90), logs=["first"], metadata={"try": 1}),
    )
    answer = await run_of(desk)
    assert (answer["status"], answer["next_retry_at"]) == ("delayed", "2026-01-01T00:01:30Z")
    assert answer["attempts"][0]["error"] == {"type": "ValueError", "message": "no", "stack": "…"}
    assert answer["attempts"][0]["duration_ms"] == 1000
    assert (await desk.ask("timer.list", kind="retry"))["total"] == 1
    await desk.tell(
        started(attempt=2, seconds=91),
        succeeded(attempt=2, seconds=95, result={"rows": 3}, logs=["second"], metadata={"rows": 3}),
    )
    answer = await run_of(desk)
    assert answer["status"] == "succeeded"
    assert answer["result"] == {"rows": 3}
    assert answer["logs"] == ["first", "second"]
    assert answer["metadata"] == {"try": 1, "rows": 3}
    assert [each["outcome"] for each in answer["attempts"]] == ["failed", "succeeded"]
    assert [each["number"] for each in answer["attempts"]] == [1, 2]
    assert answer["next_retry_at"] is None
    assert answer["lateness_ms"] == 1000
    assert (answer["correlation_id"], answer["payload"]) == ("c1", {"x": 1})
    steps = [each["event"] for each in answer["timeline"]]
    assert steps == [
        "requested",
        "attempt_started",
        "attempt_failed",
        "attempt_started",
        "succeeded",
    ]
    counts = await schedule(desk)
    assert (counts["running"], counts["statistics"]["succeeded"]) == (0, 1)
    assert counts["last_execution_id"] == execution_id(1)
    assert (await desk.ask("timer.list"))["total"] == 1


async def test_a_redelivery_is_the_same_attempt(desk: Desk):
    await desk.tell(created(), requested(), started(), started(delivery=2, worker="w2", seconds=70))
    attempts = (await run_of(desk))["attempts"]
    assert [(each["number"], each["delivery"], each["worker"]) for each in attempts] == [
        (1, 2, "w2")
    ]
    assert (await schedule(desk))["running"] == 1


@pytest.mark.parametrize(
    ("event", "status", "reason"),
    [
        (ExecutionFailed, "failed", "no"),
        (ExecutionTimedOut, "timed_out", "no"),
    ],
)
async def test_a_run_out_of_attempts_has_its_reason(desk: Desk, event, status: str, reason: str):
    end = event(
        at=at(62), schedule_id="a", execution_id=execution_id(1), attempt=1,
        error={"type": "ValueError", "message": "no"},
    )  # fmt: skip
    await desk.tell(created(), requested(), started(), attempt_failed(), end)
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == (status, reason)
    assert answer["finished_at"] == "2026-01-01T00:01:02Z"
    counts = await schedule(desk)
    assert (counts["running"], counts["statistics"][status]) == (0, 1)


async def test_a_cancelled_run_closes_its_attempt(desk: Desk):
    cancel = ExecutionCancelled(
        at=at(70), schedule_id="a", execution_id=execution_id(1), reason="by hand"
    )
    await desk.tell(created(), requested(), started(), cancel)
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == ("cancelled", "by hand")
    assert answer["attempts"][0]["outcome"] == "cancelled"
    assert (await desk.ask("timer.list", kind="start_to_close"))["total"] == 0


async def test_a_run_that_is_asked_to_stop_says_so(desk: Desk):
    ask = CancellationRequested(
        at=at(70), schedule_id="a", execution_id=execution_id(1), attempt=1, reason="enough",
        deadline=at(100),
    )  # fmt: skip
    await desk.tell(created(), requested(), started(), ask)
    answer = await run_of(desk)
    assert answer["status"] == "running"
    assert answer["timeline"][-1] == {
        "at": "2026-01-01T00:01:10Z", "event": "cancellation_requested", "detail": "enough",
    }  # fmt: skip


async def test_a_poll_waits_under_its_own_timer(desk: Desk):
    poll = ExecutionDelayed(
        at=at(62), schedule_id="a", execution_id=execution_id(1), attempt=1, until=at(92),
        result="not yet",
    )  # fmt: skip
    await desk.tell(created(), requested(), started(), poll)
    answer = await run_of(desk)
    assert (answer["status"], answer["result"]) == ("delayed", "not yet")
    assert answer["next_retry_at"] == "2026-01-01T00:01:32Z"
    timers = await desk.ask("timer.list", kind="poll", schedule_id="a")
    assert timers["timers"] == [
        {"id": f"poll:{execution_id(1)}@1", "kind": "poll", "due": "2026-01-01T00:01:32Z",
         "schedule_id": "a", "execution_id": execution_id(1), "status": "delayed"},
    ]  # fmt: skip


async def test_a_skip_is_an_execution_and_moves_the_schedule_on(desk: Desk):
    skip = ExecutionSkipped(
        at=at(60), schedule_id="a", execution_id=execution_id(1), kind="interval", due=at(60),
        nominal="n", revision=1, reason="overlap", blocked_by=execution_id(7), next_due=at(120),
    )  # fmt: skip
    await desk.tell(created(), skip)
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == ("skipped", "overlap")
    assert answer["blocked_by"] == execution_id(7)
    counts = await schedule(desk)
    assert (counts["statistics"]["skipped"], counts["statistics"]["fired"]) == (1, 0)
    assert counts["next_due"] == "2026-01-01T00:02:00Z"


def buffered(number: int = 1, **changes) -> ExecutionBuffered:
    told = {"kind": "interval", "due": at(60), "nominal": "n", "next_due": at(120)} | changes
    return ExecutionBuffered(
        at=at(60), schedule_id="a", execution_id=execution_id(number), revision=1,
        blocked_by=execution_id(7), **told,
    )  # fmt: skip


async def test_a_buffered_run_waits_and_moves_the_schedule_on(desk: Desk):
    await desk.tell(created(), buffered(priority="high", queue="slow", payload={"x": 1}))
    answer = await run_of(desk)
    assert (answer["status"], answer["run_number"]) == ("buffered", None)
    assert answer["blocked_by"] == execution_id(7)
    assert (answer["priority"], answer["queue"], answer["payload"]) == ("high", "slow", {"x": 1})
    counts = await schedule(desk)
    assert (counts["buffered"], counts["statistics"]["fired"]) == (1, 0)
    assert counts["next_due"] == "2026-01-01T00:02:00Z"
    assert (await desk.ask("execution.list", status="buffered"))["total"] == 1
    assert (await desk.ask("schedule.history", id="a", status="buffered"))["total"] == 1


async def test_a_released_run_has_fired(desk: Desk):
    release = ExecutionReleased(
        at=at(90), schedule_id="a", execution_id=execution_id(1), run_number=2, next_due=at(180)
    )
    await desk.tell(created(), buffered(), release)
    answer = await run_of(desk)
    assert (answer["status"], answer["run_number"]) == ("pending", 2)
    counts = await schedule(desk)
    assert (counts["buffered"], counts["statistics"]["fired"]) == (0, 1)
    assert counts["last_execution_id"] == execution_id(1)
    assert counts["last_due"] == "2026-01-01T00:01:00Z"
    assert counts["next_due"] == "2026-01-01T00:03:00Z"


async def test_a_trigger_that_is_buffered_and_released_leaves_the_calendar_alone(desk: Desk):
    release = ExecutionReleased(at=at(90), schedule_id="a", execution_id=execution_id(1))
    await desk.tell(created(), buffered(kind="key", next_due=None), release)
    assert (await schedule(desk))["next_due"] == "2026-01-01T00:01:00Z"


async def test_a_dropped_run_is_skipped(desk: Desk):
    drop = ExecutionDropped(
        at=at(90), schedule_id="a", execution_id=execution_id(1), reason="superseded"
    )
    await desk.tell(created(), buffered(), drop)
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == ("skipped", "superseded")
    assert answer["finished_at"] == "2026-01-01T00:01:30Z"
    assert answer["timeline"][-1]["detail"] == "superseded"
    counts = await schedule(desk)
    assert (counts["buffered"], counts["statistics"]["skipped"]) == (0, 1)


async def test_a_run_is_shown_with_the_priority_under_which_it_waits(desk: Desk):
    asked = ExecutionReprioritised(
        at=at(90), schedule_id="a", execution_id=execution_id(1), priority="critical"
    )
    await desk.tell(created(), buffered(), asked)
    answer = await run_of(desk)
    assert (answer["status"], answer["priority"]) == ("buffered", "critical")


async def test_a_run_by_hand_leaves_the_calendar_alone(desk: Desk):
    await desk.tell(created(), requested(1, kind="key", next_due=None))
    assert (await schedule(desk))["next_due"] == "2026-01-01T00:01:00Z"


async def test_a_range_is_counted_and_told_in_the_history(desk: Desk):
    missed = OccurrencesDecided(
        at=at(601), schedule_id="a", decision="missed", reason="catch_up_window", first=at(60),
        last=at(540), count=9, revision=1, next_due=at(660),
    )  # fmt: skip
    await desk.tell(created(), missed, requested(10))
    answer = await desk.ask("schedule.history", id="a")
    assert [each["status"] for each in answer["history"]] == ["pending", "missed"]
    assert answer["history"][1]["first"] == "2026-01-01T00:01:00Z"
    assert answer["history"][1]["count"] == 9
    assert (await schedule(desk))["statistics"]["missed"] == 9
    only = await desk.ask("schedule.history", id="a", status="missed", to=at(540).isoformat())
    assert only["total"] == len(only["history"]) == 1


async def test_what_is_refused_or_answered_changes_nothing_else(desk: Desk):
    await desk.tell(created(), requested(), started())
    before = await run_of(desk)
    refused = ReportRefused(
        at=at(80), schedule_id="a", execution_id=execution_id(1), lease="0.1", outcome="failed"
    )
    answered = RequestAnswered(at=at(80), schedule_id="", request="r", reply={})
    await desk.tell(refused, answered)
    after = await run_of(desk)
    assert after["timeline"].pop()["event"] == "report_refused"
    assert after | {"position": ""} == before | {"position": ""}


async def test_events_of_what_is_not_known_are_passed_over(desk: Desk):
    await desk.tell(succeeded(), SchedulePaused(at=NOW, schedule_id="ghost"), requested(2))
    assert desk.projector.position.number == 3
    assert (await desk.ask("schedule.list"))["total"] == 0
    assert (await run_of(desk, 2))["status"] == "pending"


async def test_an_undecodable_event_is_reported_and_stops_nothing(desk: Desk):
    desk.write(created())
    desk.write_raw("schedule.unheard_of.v9", b"{}")
    await desk.tell(requested())
    assert (await run_of(desk))["status"] == "pending"
    health = await desk.ask("health")
    assert health["status"] == "degraded"
    assert "schedule.unheard_of.v9" in health["issues"][0]["message"]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**70, float(2**70)),
        (-(2**64), -float(2**64)),
        (10**400, "1" + 400 * "0"),
    ],
)
async def test_a_number_of_any_size_does_not_stop_the_views(desk: Desk, told: int, kept: object):
    await desk.tell(created(), requested(payload={"a": [told]}, overridden=True))
    assert (await run_of(desk))["payload"] == {"a": [kept]}


async def test_a_row_keeps_the_latest_of_many_attempts(desk: Desk):
    events = [created(), requested()]
    for attempt in range(1, 151):
        events += [started(attempt=attempt), attempt_failed(attempt=attempt, retry_at=at(90))]
    await desk.tell(*events)
    answer = await run_of(desk)
    assert [each["number"] for each in answer["attempts"]] == list(range(51, 151))
    assert len(answer["timeline"]) == 100


def test_every_event_is_in_these_tests():
    here = Path(__file__).parent
    told = "".join(file.read_text() for file in [here / "desk.py", *here.glob("test_rows*.py")])
    said = Counter(re.findall(r"\w+", told))
    imported = 1
    assert {kind.__name__ for kind in NAMES if said[kind.__name__] <= imported} == set()
