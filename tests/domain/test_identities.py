"""Ids are functions of what they name, stable for ever, and different where the input is."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

from histories import at
from hypothesis import given
from hypothesis import strategies as st

from horae_domain import identity
from horae_domain.identity import (
    PARTITIONS,
    erasure_stream,
    execution_id,
    external_event_stream,
    fraction,
    is_external,
    is_request,
    limits_stream,
    listener_stream,
    partition_of,
    partition_of_stream,
    request_hash,
    request_stream,
    schedule_stream,
    tail_stream,
)

texts = st.text(string.ascii_lowercase + ".:é", max_size=6)
instants = st.none() | st.datetimes(
    datetime(1960, 1, 1),  # noqa: DTZ001
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
inputs = st.tuples(
    texts, texts, st.integers(1, 3), st.sampled_from(["key", "calendar"]), texts, instants
)


def test_ids_are_what_they_always_were():
    """Recorded values: a change of one would let everything stored be decided again."""
    assert PARTITIONS == 64
    assert partition_of("default", "job") == 21
    assert schedule_stream("default", "job") == STREAM
    assert execution_id("default", "job", 1, "interval", "2026-01-05T00:01:00Z", at(60)) == DUE
    assert execution_id("default", "job", 1, "key", "k", None) == KEY
    assert request_stream("default", "schedule.create", "k") == REQUEST
    assert request_hash(b"{}") == HASH
    assert limits_stream("acme", "mail") == "0b6f18c3-9fb7-a56d-1446-7d6eb3468d16"
    assert limits_stream("acme", None) == "33580103-8771-e98c-77fd-26d8f23809de"
    assert external_event_stream("acme", "shop", "e-1") == "fe7a2004-7ac3-a0d6-a818-fb6a5eb05c65"
    assert tail_stream(21) == "15a485f1-3f90-caf0-f799-27aa7c98f65e"
    assert listener_stream(STREAM, None) == "15c2c806-3688-1cc0-a5e1-bc22cdd8213c"
    assert erasure_stream("default", "job") == "158f5105-d978-aebd-4173-bd9537ed34e9"
    assert fraction("a", "b") == 0.1684688855366936


STREAM = "15f77ea7-7eab-79da-8732-9e01b33e540e"
DUE = "15019b8b-7502-6016-ee1b-09d18b6ee017"
KEY = "15788e08-cb68-a6cf-99ca-b6ba548489ba"
REQUEST = "fff2febc-af54-072e-5fd9-d1a0bed3c14f"
HASH = "2afb9b83f9314e5d029766197f539792"


@given(inputs, inputs)
def test_different_inputs_have_different_ids(one, other):
    assert (execution_id(*one) == execution_id(*other)) == (same(one) == same(other))


def same(told):
    """What an id depends on: the milliseconds of the instant, as far as they are after 1970."""
    *names, instant = told
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    millis = None if instant is None else max(0, (instant - epoch) // timedelta(milliseconds=1))
    return (*names, millis)


@given(texts, texts, texts, texts)
def test_streams_of_different_schedules_are_different(tenant, id_, tenant2, id2):
    same_stream = schedule_stream(tenant, id_) == schedule_stream(tenant2, id2)
    assert same_stream == ((tenant, id_) == (tenant2, id2))
    assert request_stream(tenant, id_, "k") != schedule_stream(tenant, id_)


@given(inputs)
def test_execution_lives_in_the_partition_of_its_schedule(told):
    partition = partition_of(told[0], told[1])
    assert 0 <= partition < PARTITIONS
    assert partition_of_stream(execution_id(*told)) == partition
    assert partition_of_stream(schedule_stream(told[0], told[1])) == partition


def test_schedules_spread_over_all_partitions():
    assert {partition_of("t", str(number)) for number in range(1000)} == set(range(PARTITIONS))


def test_ids_of_later_instants_sort_later():
    ids = [execution_id("t", "s", 1, "interval", str(n), at(n * 0.001)) for n in range(1000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    before_1970 = execution_id("t", "s", 1, "interval", "x", datetime(1960, 1, 1, tzinfo=UTC))
    assert before_1970 < ids[0]


def test_requests_lie_outside_the_partitions_of_schedules():
    assert request_stream("t", "c", "k").startswith("ff")
    assert len({request_stream(*each) for each in [("a", "b", "c"), ("ab", "", "c")]}) == 2


def test_streams_tell_what_they_are_of():
    event, request = external_event_stream("t", "shop", "e"), request_stream("t", "c", "k")
    assert (is_external(event), is_external(request), is_external(STREAM)) == (True, False, False)
    assert (is_request(request), is_request(event), is_request(STREAM)) == (True, False, False)


@given(st.lists(texts, max_size=3), st.lists(texts, max_size=3))
def test_fraction_is_a_function_of_its_parts(one, other):
    assert 0 <= fraction(*one) < 1
    assert (fraction(*one) == fraction(*other)) == (one == other)


def test_fraction_is_below_one_for_every_digest(monkeypatch):
    monkeypatch.setattr(identity, "_digest", lambda size, *_: b"\xff" * size)
    assert 0.999999 < fraction("x") < 1


def test_fractions_are_spread():
    found = [fraction(str(number)) for number in range(10_000)]
    assert 0.48 < sum(found) / len(found) < 0.52
    assert min(found) < 0.001
    assert max(found) > 0.999
