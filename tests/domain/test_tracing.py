"""Trace contexts of executions."""

import pytest
from histories import History, cause

from horae_domain.decider import Trigger, trigger
from horae_domain.errors import BaggageTooLarge, InvalidField
from horae_domain.tracing import (
    context_headers,
    format_baggage,
    parse_baggage,
    read_context,
    trace_id,
    traceparent_of,
)

RUN = "2a019b8b-7502-6057-266e-626ad33819ed"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CARRIED = {"baggage": "desk=a"}
PARENT = f"00-{TRACE}-b7ad6b7169203331-00"


def test_what_a_request_asked_for_belongs_to_its_trace():
    history = History(trigger={"type": "manual"}, overlap="buffer_all", retry={"max_attempts": 1})
    for key in ("a", "b"):
        asked = cause(1, traceparent=PARENT, carried=CARRIED)
        history.do(trigger, Trigger(key, None, False, asked))
    (run,), (waiting,) = history.live, history.parked
    assert (run.traceparent, waiting.traceparent) == (PARENT, PARENT)
    assert run.carried == waiting.carried == CARRIED
    history.cancel_run(2, run)
    history.requeue(3, run)
    again = history.told(run)
    assert (again.traceparent, again.carried) == (PARENT, CARRIED)


def test_what_the_calendar_brings_belongs_to_nobody_s_trace_though_a_request_decides_it():
    history = History()
    history.do(trigger, Trigger("a", None, False, cause(60, traceparent=PARENT)))
    assert [(run.traceparent, run.carried) for run in history.live] == [(None, {})]


def test_run_of_its_own_is_the_root_of_a_trace():
    trace = "2a019b8b75026057266e626ad33819ed"
    assert trace_id(RUN, None) == trace
    root = traceparent_of(RUN, None)
    assert root == f"00-{trace}-50baa22266765687-01"
    assert read_context({"traceparent": root}) == (root, {})


def test_attempts_are_children_of_the_span_that_asked_for_the_run():
    assert traceparent_of(RUN, PARENT) == PARENT
    assert trace_id(RUN, PARENT) == TRACE


def test_what_travels_comes_out_as_it_came_in():
    headers = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "desk=a;p=1, x=%20y"}
    parent, carried = read_context({**headers, "Horae-Causation-Id": "c-1", "other": "x"})
    assert carried.pop("causation_id") == "c-1"
    assert context_headers(parent, carried) == headers
    assert context_headers(None, {}) == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "nonsense", "tracestate": "a=1"},
        {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-b7ad6b7169203331-01"},
        {"baggage": "a=\n"},
        {"Horae-Causation-Id": "x" * 256},
    ],
)
def test_what_is_malformed_is_ignored(headers):
    assert read_context(headers) == (None, {})


def test_long_tracestate_is_dropped_and_its_parent_kept():
    assert read_context({"traceparent": PARENT, "tracestate": "a" * 513}) == (PARENT, {})


@pytest.mark.parametrize("text", ["a=" + "x" * 8191, ",".join(["a=1"] * 65)])
def test_baggage_over_its_bounds_is_refused(text):
    with pytest.raises(BaggageTooLarge) as caught:
        read_context({"baggage": text})
    assert (caught.value.code, caught.value.field) == ("baggage_too_large", "baggage")


def test_baggage_at_its_bounds_is_taken():
    for text in ("a=" + "x" * 8190, ",".join(["a=1"] * 64)):
        assert read_context({"baggage": text}) == (None, {"baggage": text})


def test_members_of_baggage_are_told_without_properties():
    assert parse_baggage("desk=a;secret, user=%C3%A4%2Cb ,broken, (=1") == {
        "desk": "a",
        "user": "ä,b",
    }
    assert parse_baggage("") == {}


def test_members_come_back_from_the_header():
    members = {"desk": "a b,c;d=e", "user": "ä"}
    assert parse_baggage(format_baggage(members)) == members


def test_key_that_is_no_token_is_refused():
    with pytest.raises(InvalidField, match="token"):
        format_baggage({"a b": "c"})
