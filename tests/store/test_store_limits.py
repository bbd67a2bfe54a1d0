"""The contract of the port `EventStore` about limits, over every adapter."""

from __future__ import annotations

import pytest
from store_examples import START, batch, event, new_stream

from horae_application.ports import Crowded, EventStore, Setting, Usage, Use

MINUTE = 60_000_000
NOBODY: dict[str, int] = {}


def used(
    store: EventStore, *uses: tuple[str, int, int], at: int = START, most: int | None = None
) -> str:
    """Append one event with a use of limits; its stream."""
    stream = new_stream()
    told = [Use(*use, use[1] if most is None else most) for use in uses]
    store.append(batch(event(stream))._replace(at=at, uses=told))
    return stream


def limit(
    store: EventStore,
    key: str,
    concurrency: int | None = None,
    *,
    rate: int | None = None,
    per: int | None = None,
    paused: bool = False,
) -> None:
    setting = Setting(key, concurrency, rate, per, paused)
    store.append(batch(event(new_stream()))._replace(settings=[setting]))


def usage(store: EventStore, key: str = "t/q") -> Usage:
    [found] = [each for each in store.limits("me", NOBODY) if each.setting.key == key]
    return found


def test_what_was_never_limited_is_counted_and_not_told(store: EventStore):
    used(store, ("t/q", 3, 3))
    assert store.limits("me", NOBODY) == []
    limit(store, "t/q", 5)
    assert usage(store) == Usage(Setting("t/q", 5, None, None, False), 3, [])


def test_as_many_run_as_may_and_no_more(store: EventStore):
    limit(store, "t/q", 2)
    used(store, ("t/q", 1, 1))
    used(store, ("t/q", 1, 1))
    with pytest.raises(Crowded) as refused:
        used(store, ("t/q", 1, 1), ("t", 1, 1))
    assert refused.value.keys == {"t/q"}
    assert usage(store).running == 2
    used(store, ("t/q", -1, 0))
    used(store, ("t/q", 1, 1))
    assert usage(store).running == 2


def test_a_batch_that_is_refused_writes_nothing(store: EventStore):
    limit(store, "t/q", 1)
    before = store.head()
    with pytest.raises(Crowded):
        used(store, ("t/other", 1, 1), ("t/q", 2, 2))
    assert store.head() == before
    limit(store, "t/other", 7)
    assert usage(store, "t/other").running == 0


def test_one_may_begin_in_the_place_of_another_that_ends_in_the_same_batch(store: EventStore):
    limit(store, "t/q", 1)
    used(store, ("t/q", 1, 1))
    used(store, ("t/q", 0, 1))
    assert usage(store).running == 1


def test_none_begins_before_another_ends_in_the_same_batch(store: EventStore):
    limit(store, "t/q", 2)
    used(store, ("t/q", 1, 1))
    used(store, ("t/q", 0, 1), most=1)
    used(store, ("t/q", 1, 1))
    with pytest.raises(Crowded):
        used(store, ("t/q", 0, 1), most=1)
    used(store, ("t/q", -2, 0), most=1)
    assert usage(store).running == 0


def test_a_limit_set_below_what_runs_lets_nothing_begin_until_enough_has_ended(store: EventStore):
    used(store, ("t/q", 3, 3))
    limit(store, "t/q", 1)
    with pytest.raises(Crowded):
        used(store, ("t/q", 0, 1))
    used(store, ("t/q", -2, 0))
    used(store, ("t/q", 0, 1))
    assert usage(store).running == 1


def test_a_limit_that_is_lifted_is_told_no_more(store: EventStore):
    limit(store, "t/q", 1)
    used(store, ("t/q", 1, 1))
    limit(store, "t/q")
    assert store.limits("me", NOBODY) == []
    used(store, ("t/q", 5, 5))


def test_nothing_begins_in_what_is_paused_and_what_runs_may_end(store: EventStore):
    used(store, ("t/q", 2, 2))
    limit(store, "t/q", paused=True)
    used(store, ("t/q", -1, 0))
    with pytest.raises(Crowded):
        used(store, ("t/q", 1, 1))
    limit(store, "t/q")
    used(store, ("t/q", 1, 1))


def test_never_more_begin_within_the_time_of_a_rate(store: EventStore):
    limit(store, "t/q", rate=3, per=MINUTE)
    used(store, ("t/q", 2, 2))
    used(store, ("t/q", -1, 1), at=START + MINUTE // 2)
    with pytest.raises(Crowded):
        used(store, ("t/q", 0, 1), at=START + MINUTE)
    [(first, two), (second, one)] = usage(store).starts
    assert (two, one) == (2, 1)
    assert START + MINUTE <= first <= START + MINUTE + MINUTE // 100
    used(store, ("t/q", 0, 2), at=first)
    with pytest.raises(Crowded):
        used(store, ("t/q", 0, 1), at=second - 1)
    used(store, ("t/q", 0, 1), at=second)


def test_several_limits_are_named_that_have_no_room(store: EventStore):
    limit(store, "t", 1)
    limit(store, "t/q", rate=1, per=MINUTE)
    used(store, ("t/q", 1, 1), ("t", 1, 1))
    with pytest.raises(Crowded) as refused:
        used(store, ("t/q", 1, 1), ("t", 1, 1))
    assert refused.value.keys == {"t", "t/q"}


def test_what_is_used_and_set_outlives_the_process(adapter):
    store = adapter.open()
    limit(store, "t/q", 4, rate=9, per=MINUTE)
    used(store, ("t/q", 2, 2))
    again = adapter.open() if adapter.kind != "sqlite" else store
    assert usage(again).running == 2
    assert usage(again).setting == Setting("t/q", 4, 9, MINUTE, False)


@pytest.mark.postgres
def test_engines_tell_one_another_what_waits(adapter):
    if adapter.kind != "postgres":
        pytest.skip("only engines that share a store wait for one another")
    first, second = adapter.open(), adapter.open()
    limit(first, "t/q", 1)
    for owner in ("one", "two"):
        first.join(owner, "", 60)
    assert [each.head for each in first.limits("one", {"t/q": 7})] == [None]
    assert [each.head for each in second.limits("two", {"t/q": 9})] == [7]
    assert [each.head for each in first.limits("one", NOBODY)] == [9]
    assert [each.head for each in second.limits("two", {"t/q": 9})] == [None]
    first.leave("two")
    assert [each.head for each in first.limits("one", NOBODY)] == [None]
