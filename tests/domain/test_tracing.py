"""Trace contexts of executions."""

from histories import History, cause

from horae_domain.decider import Trigger, trigger
from horae_domain.tracing import span_id, trace_id, traceparent_of

RUN = "2a019b8b-7502-6057-266e-626ad33819ed"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-00"


def test_what_a_request_asked_for_belongs_to_its_trace():
    history = History(trigger={"type": "manual"}, overlap="buffer_all", retry={"max_attempts": 1})
    for key in ("a", "b"):
        history.do(trigger, Trigger(key, None, False, cause(1, traceparent=PARENT)))
    (run,), (waiting,) = history.live, history.parked
    assert (run.traceparent, waiting.traceparent) == (PARENT, PARENT)
    history.cancel_run(2, run)
    history.requeue(3, run)
    assert history.told(run).traceparent == PARENT


def test_what_the_calendar_brings_belongs_to_nobody_s_trace_though_a_request_decides_it():
    history = History()
    history.do(trigger, Trigger("a", None, False, cause(60, traceparent=PARENT)))
    assert [run.traceparent for run in history.live] == [None]


def test_run_of_its_own_is_the_root_of_a_trace():
    assert trace_id(RUN, None) == "2a019b8b75026057266e626ad33819ed"
    assert traceparent_of(RUN, 1, None) == f"00-{trace_id(RUN, None)}-{span_id(RUN, 1)}-01"


def test_each_attempt_has_a_span_in_the_trace_and_keeps_its_flags():
    first, second = (traceparent_of(RUN, attempt, PARENT) for attempt in (1, 2))
    assert first == f"00-{TRACE}-{span_id(RUN, 1)}-00"
    assert first != second
    assert trace_id(RUN, PARENT) == TRACE
