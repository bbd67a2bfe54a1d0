"""What somebody should know of a definition before it is used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from histories import at, definition

from horae_domain.advice import Advice, advise, upcoming

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def told(trigger: dict[str, Any], **more: Any) -> list[Advice]:
    return advise(definition(trigger=trigger, **more), NOW, "t")


def codes(trigger: dict[str, Any], **more: Any) -> list[str]:
    return [each.code for each in told(trigger, **more)]


def cron(expression: str, timezone: str = "UTC") -> dict[str, Any]:
    return {"type": "cron", "expression": expression, "timezone": timezone}


NIGHTLY = cron("0 2 * * *")


def test_there_is_nothing_to_say_of_a_plain_schedule():
    assert told(NIGHTLY) == []
    assert told({"type": "manual"}) == []
    assert told({"type": "interval", "every": "1 hour"}) == []
    assert told({"type": "once", "after": "5 minutes"}) == []


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("0 0 13 * FRI", "either_day"),
        ("* 2 * * *", "every_minute"),
        ("* 0 2 * * *", "every_second"),
        ("*/7 2 * * *", "uneven_step"),
        ("0 */5 * * *", "uneven_step"),
        ("*/50 * * * * *", "uneven_step"),
        ("0 0 31 * *", "months_left_out"),
        ("0 0 29 2 *", "fires_rarely"),
    ],
)
def test_expression_that_is_often_read_otherwise_is_pointed_out(expression: str, code: str):
    (advice,) = told(cron(expression), overlap="allow")
    assert (advice.code, advice.field) == (code, "trigger.expression")


@pytest.mark.parametrize(
    "expression", ["@daily", "*/15 * * * *", "0 */6 * * *", "* * * * *", "0 0 L * *", "0 0 29 * *"]
)
def test_expression_that_reads_as_it_fires_is_not(expression: str):
    assert told(cron(expression), overlap="allow") == []


def test_months_that_are_left_out_are_named():
    (advice,) = told(cron("0 0 30,31 1,2,4 *"))
    assert advice.message == "months 2 have no such day"


def test_long_wait_for_an_occurrence_says_until_when():
    (advice,) = told(cron("0 0 29 2 *"))
    assert advice.details == {"until": "2028-02-29T00:00:00Z"}
    assert advice.message == "it does not fire for 785 days"


def test_schedule_that_ends_after_one_occurrence_is_pointed_out():
    assert codes(NIGHTLY, end_at="2026-01-05T12:00:00Z") == ["fires_once"]
    assert codes(NIGHTLY, end_at="2026-01-06T12:00:00Z") == []
    assert codes(NIGHTLY, end_at="2026-01-05T12:00:00Z", max_executions=1) == []


def test_schedule_that_begins_paused_is_pointed_out():
    assert codes(NIGHTLY, enabled=False) == ["disabled"]


def test_instant_that_has_passed_is_pointed_out():
    past = {"type": "once", "at": "2026-01-04T00:00:00Z", "allow_past": True}
    assert codes(past) == ["past"]
    assert codes({"type": "once", "at": "2026-02-04T00:00:00Z"}) == []


def test_interval_of_whole_days_moves_with_the_clocks():
    assert codes({"type": "interval", "every": "24 hours"}) == ["elapsed_days"]


def test_times_that_a_change_of_the_clocks_touches_are_named_with_their_rule():
    gap, overlap = told(cron("30 2 * * *", "Europe/Berlin"))
    assert gap == Advice(
        "clock_gap",
        "dst.gap",
        "the clocks jump over one of its times",
        {"at": "2026-03-29T01:00:00Z", "rule": "edge"},
    )
    assert (overlap.code, overlap.details) == (
        "clock_overlap",
        {"at": "2026-10-25T01:00:00Z", "rule": "first"},
    )


def test_rule_that_was_chosen_is_told():
    chosen = {"gap": "skip", "overlap": "both"}
    found = told(cron("30 2 * * *", "Europe/Berlin"), dst=chosen)
    assert [each.details["rule"] for each in found] == ["skip", "both"]


def test_six_fields_follow_the_wall_clock_as_it_is():
    found = told(cron("0 30 2 * * *", "Europe/Berlin"))
    assert [each.details["rule"] for each in found] == ["skip", "both"]


@pytest.mark.parametrize("expression", ["30 4 * * *", "30 1 * * *", "*/30 * * * *"])
def test_times_that_no_change_touches_are_not(expression: str):
    assert told(cron(expression, "Europe/Berlin"), overlap="allow") == []


def test_change_of_the_clocks_on_a_day_without_an_occurrence_does_not_matter():
    assert told(cron("30 2 * * MON", "Europe/Berlin")) == []


def test_run_that_may_last_into_the_next_occurrence_is_pointed_out():
    every = {"type": "interval", "every": "2 minutes"}
    (runs,) = told(every, retry={"max_attempts": 1})
    assert (runs.code, runs.field, runs.details) == (
        "runs_may_overlap", "timeout.start_to_close", {"interval": "2m"},
    )  # fmt: skip
    assert "skipped" in runs.message
    (runs,) = told(every, retry={"max_attempts": 1}, overlap="buffer_all")
    assert "buffered" in runs.message
    quick = {"start_to_close": "1 minute"}
    assert told(every, retry={"max_attempts": 1}, timeout=quick) == []
    assert told(every, overlap="allow") == []
    assert told(every, overlap="cancel_other") == []
    overall = {"start_to_close": None, "overall": "1h"}
    assert told(every, retry={"max_attempts": 1}, timeout=overall) == []


def test_retries_that_may_last_into_the_next_occurrence_are_pointed_out():
    every = {"type": "interval", "every": "7 minutes"}
    (advice,) = told(every)
    assert (advice.code, advice.field) == ("retries_may_overlap", "retry")
    assert "7m" in advice.message
    assert told(every, retry={"max_attempts": 3}) == []
    long = {"max_attempts": 3, "delay": "1 hour", "max_delay": "3 minutes"}
    assert told(every, retry=long) == []


def test_cooldown_that_swallows_occurrences_is_pointed_out():
    every = {"type": "interval", "every": "1 hour"}
    assert codes(every, cooldown="2 hours") == ["cooldown_skips"]
    assert codes(every, cooldown="1 hour") == []


def test_great_many_occurrences_caught_up_at_once_are_pointed_out():
    every = {"type": "interval", "every": "1 hour"}
    (advice,) = told(every, catch_up={"mode": "all", "window": "30d"})
    assert (advice.code, advice.details) == ("catch_up_burst", {"count": 720})
    assert told(every, catch_up={"mode": "all", "window": "2d"}) == []


def test_timeouts_that_mean_nothing_are_pointed_out():
    assert codes(NIGHTLY, timeout={"start_to_close": None}) == ["unbounded"]
    overall = {"overall": "1m", "schedule_to_start": "2m"}
    found = told(NIGHTLY, timeout=overall)
    assert [each.field for each in found] == [
        "timeout.start_to_close",
        "timeout.schedule_to_start",
    ]
    assert codes(NIGHTLY, timeout={"heartbeat": "10 minutes"}) == ["timeout_unused"]
    assert codes(NIGHTLY, timeout={"heartbeat": "10 seconds", "overall": "1h"}) == []
    assert codes(NIGHTLY, timeout={"heartbeat": "10m", "start_to_close": None}) == []


def test_key_that_the_payload_has_not_is_pointed_out():
    assert codes(NIGHTLY, concurrency_key="account.id") == ["concurrency_key_missing"]
    assert codes(NIGHTLY, concurrency_key="account", payload={"account": 1}) == []


def test_key_that_only_the_data_of_what_fires_it_can_have_is_not():
    event = {"type": "event", "event": "order.placed"}
    assert codes(event, concurrency_key="account") == []
    assert codes(event, concurrency_key="account", payload={}) == ["concurrency_key_missing"]


def test_schedule_that_follows_itself_is_pointed_out():
    own = {"type": "outcome", "schedule": definition().id}
    assert codes(own) == ["circle"]
    assert codes(own | {"schedule": "another"}) == []


def test_condition_that_fires_as_long_as_it_holds_is_pointed_out():
    check = {"type": "condition", "check": "volatility", "when": "volatility > 1"}
    (advice,) = told(check)
    assert (advice.code, advice.field) == ("fires_each_look", "trigger.cooldown")
    assert "every 1m" in advice.message
    assert codes(check | {"mode": "edge"}) == []
    assert codes(check | {"cooldown": "5m"}) == []
    assert codes(check, cooldown="5m") == []


def test_wait_that_nothing_ends_is_pointed_out():
    wait = {"event": "paid", "match": {"order": "payload.order"}}
    assert codes({"type": "manual"}, wait_for=wait) == []
    endless = wait | {"timeout": None}
    assert codes({"type": "manual"}, wait_for=endless) == ["waits_for_ever"]
    assert "waits_for_ever" not in codes(
        {"type": "manual"}, wait_for=endless, timeout={"overall": "1h"}
    )


def test_occurrences_to_come_are_within_the_bounds():
    bounded = definition(max_executions=3, start_at="2026-01-05T01:00:00Z")
    assert [each.due for each in upcoming(bounded, NOW, 5, "t")] == [at(3600), at(3660), at(3720)]
    assert len(upcoming(definition(), NOW, 5, "t")) == 5
    assert upcoming(definition(trigger={"type": "manual"}), NOW, 5, "t") == []


def test_advice_has_a_wire_form():
    assert Advice("rare", "trigger", "seldom", {"until": "x"}).to_json() == {
        "code": "rare", "field": "trigger", "message": "seldom", "until": "x",
    }  # fmt: skip
