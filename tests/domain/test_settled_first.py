"""A command on an execution that what was due before it has ended."""

import pytest
from histories import History, like, said

from horae_domain.errors import ExecutionNotFound, IllegalState
from horae_domain.events import ExecutionRequested, ExecutionSucceeded
from horae_domain.firing import CHUNK


def superseded() -> tuple[History, str]:
    """An execution whose successor is due, and will take its place, but was not decided yet."""
    history = History(overlap="terminate_other", timeout={"start_to_close": None})
    history.settle(60)
    return history, history.run.id


def timed_out() -> tuple[History, str]:
    """An execution whose time is over, but nobody has noticed yet."""
    history = History(timeout={"overall": "30 seconds"})
    history.settle(60)
    return history, history.run.id


def test_cancelling_what_is_cancelled_by_then_changes_nothing_more() -> None:
    history, _ = superseded()
    history.cancel_run(120)
    (later,) = history.live
    assert later.due.minute == 2


def test_cancelling_what_has_ended_otherwise_says_so() -> None:
    history, _ = timed_out()
    with pytest.raises(IllegalState, match="timed_out"):
        history.cancel_run(100)
    with pytest.raises(IllegalState, match="timed_out"):
        history.ask_to_stop(100)


@pytest.mark.parametrize("ended", [superseded, timed_out])
def test_what_has_ended_can_neither_be_taken_nor_reordered(ended) -> None:
    history, _ = ended()
    with pytest.raises(IllegalState):
        history.take(120)
    with pytest.raises(IllegalState):
        history.reprioritize(120, "high", history.run)


def test_what_had_ended_before_is_not_found() -> None:
    history, _ = superseded()
    run = history.run
    history.cancel_run(61)
    with pytest.raises(ExecutionNotFound):
        history.cancel_run(62, run)


SECONDLY = {"type": "interval", "every": "1s", "anchor": "2026-01-05T00:00:00Z"}


def behind(**told) -> tuple[History, float]:
    """A run, and an instant by which more is due than one decision looks at."""
    history = History(**{"trigger": SECONDLY, "timeout": {"start_to_close": None}, **told})
    history.settle(1)
    history.start(1)
    return history, 2.5 * CHUNK


def test_however_much_was_due_before_is_decided_before_a_run_ends() -> None:
    history, now = behind(catch_up={"mode": "all", "window": "1d"}, overlap="allow")
    *before, last = history.report(now, said())
    assert before == [like(ExecutionRequested)] * int(now - 1)
    assert last == like(ExecutionSucceeded)


def test_however_much_was_due_before_may_end_a_schedule_before_it_is_triggered() -> None:
    history, now = behind(catch_up={"mode": "latest", "window": 0}, max_executions=2)
    history.report(1.5, said())
    with pytest.raises(IllegalState, match="completed"):
        history.trigger(now, "k")
