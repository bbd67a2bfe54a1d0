"""Limits of queues and tenants, as their own events tell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.errors import InvalidField
from horae_domain.events import (
    Event,
    QueueLimited,
    QueuePaused,
    QueueResumed,
    SchedulePaused,
    TenantLimited,
)
from horae_domain.identity import PARTITIONS, limits_stream, partition_of_stream
from horae_domain.limits import (
    GRAINS,
    LimitCommand,
    Limits,
    PauseQueue,
    Rate,
    ResumeQueue,
    SetLimits,
    checked_rate,
    counts_until,
    decide,
    evolve,
    parse_rate,
)
from horae_domain.schedule import Cause

AT = datetime(2026, 1, 5, tzinfo=UTC)
CAUSE = Cause(AT, actor="ann")
MAIL = Limits(tenant="acme", queue="mail")
ACME = Limits(tenant="acme", queue=None)
SAID: dict[str, Any] = {"at": AT, "tenant": "acme", "actor": "ann"}
MINUTE = timedelta(minutes=1)


def after(limits: Limits, *commands: LimitCommand) -> tuple[list[Event], Limits]:
    said: list[Event] = []
    for command in commands:
        for event in decide(limits, command):
            said.append(event)
            limits = evolve(limits, event)
    return said, limits


def set_(**changes: Any) -> SetLimits:
    return SetLimits(changes, CAUSE)


def test_a_queue_is_limited_and_the_limit_lifted():
    said, limits = after(
        MAIL, set_(concurrency=3), set_(rate=Rate(5, MINUTE)), set_(concurrency=None)
    )
    assert said == [
        QueueLimited(queue="mail", concurrency=3, **SAID),
        QueueLimited(queue="mail", concurrency=3, rate=5, per=60.0, **SAID),
        QueueLimited(queue="mail", rate=5, per=60.0, **SAID),
    ]
    assert (limits.concurrency, limits.rate, limits.version) == (None, Rate(5, MINUTE), 3)


def test_a_tenant_has_a_weight_too():
    said, limits = after(ACME, set_(weight=3, concurrency=10))
    assert said == [TenantLimited(concurrency=10, weight=3, **SAID)]
    assert (limits.weight, limits.key) == (3, "acme")


def test_a_queue_is_paused_with_a_note_and_resumed():
    said, limits = after(MAIL, PauseQueue("audit", CAUSE), ResumeQueue("done", CAUSE))
    assert said == [
        QueuePaused(queue="mail", note="audit", **SAID),
        QueueResumed(queue="mail", note="done", **SAID),
    ]
    assert (limits.paused, limits.note) == (False, "")
    assert evolve(MAIL, said[0]).note == "audit"


def test_what_holds_already_is_not_said_again():
    said, _ = after(
        MAIL,
        ResumeQueue("", CAUSE),
        set_(),
        set_(concurrency=None),
        PauseQueue("", CAUSE),
        PauseQueue("again", CAUSE),
    )
    assert said == [QueuePaused(queue="mail", **SAID)]


def test_events_of_others_change_nothing():
    assert evolve(MAIL, SchedulePaused(at=AT, schedule_id="a")) == MAIL


def test_a_rate_is_read_and_written():
    assert parse_rate("100 per minute", field="rate") == Rate(100, MINUTE)
    assert parse_rate("5/s", field="rate") == Rate(5, timedelta(seconds=1))
    assert parse_rate(" 20  per 30 seconds ", field="rate") == Rate(20, timedelta(seconds=30))
    assert str(Rate(7, timedelta(minutes=90))) == "7 per 1h30m"
    assert parse_rate(str(Rate(7, MINUTE)), field="rate") == Rate(7, MINUTE)


@pytest.mark.parametrize(
    "text",
    ["", "fast", "5", "5 per", "per minute", "0 per minute", "2000000/s", "1/ms", "1/99d", "-1/s"],
)
def test_what_is_no_rate_is_refused_with_its_field(text):
    with pytest.raises(InvalidField) as refused:
        parse_rate(text, field="limits.rate")
    assert refused.value.field == "limits.rate"
    with pytest.raises(InvalidField):
        checked_rate(Rate(0, MINUTE), field="rate")


@given(at=st.integers(0, 2**52), per=st.integers(100_000, 31 * 86_400_000_000))
def test_what_has_begun_counts_for_the_time_of_the_rate_and_little_longer(at: int, per: int):
    until = counts_until(at, per)
    assert at + per <= until <= at + per + per // GRAINS + 1
    assert counts_until(at + 1, per) >= until


@given(
    starts=st.lists(st.integers(0, 10**7), min_size=1, max_size=300),
    per=st.integers(100_000, 10**6),
)
def test_a_rate_is_counted_in_few_numbers(starts: list[int], per: int):
    last = max(starts)
    open_ = {until for at in starts if (until := counts_until(at, per)) > last}
    assert len(open_) <= GRAINS + 2


def test_limits_have_streams_of_their_own_in_a_partition():
    streams = {
        limits_stream("acme", "mail"),
        limits_stream("acme", None),
        limits_stream("b", "mail"),
    }
    assert len(streams) == 3
    for stream in streams:
        assert int(stream[:2], 16) == partition_of_stream(stream) < PARTITIONS
