"""A command on an execution that what was due before it has ended."""

import pytest
from histories import History

from horae_domain.errors import ExecutionNotFound, IllegalState


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
