"""The index of who listens for which external event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.identity import execution_id, partition_of_stream, schedule_stream
from horae_domain.listeners import (
    OUTCOME,
    Interest,
    Listener,
    Listeners,
    Role,
    is_pattern,
    same_at,
    value_at,
)


def stream(name: str, tenant: str = "default") -> str:
    return schedule_stream(tenant, name)


def trigger(event: str, name: str = "job", tenant: str = "default") -> Interest:
    return Interest(tenant, event, Listener(Role.TRIGGER, stream(name, tenant)))


def waiting(event: str, name: str = "job", role: Role = Role.CONFIRM, **match: object) -> Interest:
    run = execution_id("default", name, 1, "event", str(match), None)
    return Interest("default", event, Listener(role, stream(name), run), tuple(match.items()))


def index(*interests: Interest) -> Listeners:
    made = Listeners()
    for each in interests:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("pattern", "type_", "heard"),
    [
        ("trade.submitted", "trade.submitted", True),
        ("trade.submitted", "trade", False),
        ("trade", "trade.submitted", False),
        ("trade.*", "trade.submitted", True),
        ("trade.*", "trade.submitted.late", False),
        ("trade.*", "trade", False),
        ("trade.>", "trade.submitted.late", True),
        ("trade.>", "trade", False),
        ("*.submitted", "trade.submitted", True),
        ("*.*", "trade.submitted", True),
        (">", "trade", True),
        (">", "trade.submitted", True),
        ("*.submitted.>", "trade.submitted.late", True),
        ("*.submitted.>", "trade.withdrawn.late", False),
    ],
)
def test_types_are_matched_token_by_token(pattern, type_, heard):
    listeners = index(trigger(pattern))
    assert bool(listeners.match("default", type_, {})) is heard
    assert listeners.hears("default", type_) is heard


def test_outcomes_are_no_external_events():
    listeners = index(trigger(">"), trigger(OUTCOME + "load", "after"))
    [found] = listeners.match("default", OUTCOME + "load", None)
    assert found.stream == stream("after")


def test_tenants_hear_nothing_of_one_another():
    listeners = index(trigger("a", tenant="acme"), trigger("a.>", tenant="acme"))
    assert listeners.match("default", "a", {}) == []
    assert listeners.match("default", "a.b", {}) == []
    assert [each.stream for each in listeners.match("acme", "a", {})] == [stream("job", "acme")]


def test_only_the_execution_that_waits_for_the_value_is_found():
    one, two = waiting("done", order="o-1"), waiting("done", order="o-2")
    listeners = index(one, two)
    assert listeners.match("default", "done", {"order": "o-2", "more": 1}) == [two.listener]
    assert listeners.match("default", "done", {"order": "o-3"}) == []
    assert listeners.match("default", "done", {}) == []
    assert listeners.match("default", "done", None) == []


def test_values_are_compared_as_json_has_them():
    listeners = index(waiting("done", n=1))
    assert listeners.match("default", "done", {"n": 1.0})
    assert not listeners.match("default", "done", {"n": True})
    assert not listeners.match("default", "done", {"n": "1"})
    assert not listeners.match("default", "done", {"n": None})


def test_all_of_several_values_have_to_stand_in_the_data_in_whatever_order():
    listeners = index(waiting("done", **{"b.c": 2, "a": [1, {"x": 0}]}))
    assert listeners.match("default", "done", {"a": [1, {"x": 0}], "b": {"c": 2}})
    assert not listeners.match("default", "done", {"a": [1, {"x": 0}], "b": 2})


def test_ends_come_before_confirmations_and_triggers():
    end, wait = waiting("e", role=Role.CANCEL, a=1), waiting("e", role=Role.CONFIRM, a=1)
    keep = Interest("default", "e", Listener(Role.KEEP, stream("job")))
    listeners = index(keep, trigger("e"), wait, end)
    found = [each.role for each in listeners.match("default", "e", {"a": 1})]
    assert found == [Role.CANCEL, Role.CONFIRM, Role.TRIGGER, Role.KEEP]


def test_what_is_added_twice_is_there_once_and_gone_when_removed():
    listeners = index(trigger("a"), trigger("a"))
    assert len(listeners) == 1
    listeners.remove(trigger("a"))
    assert (len(listeners), listeners.match("default", "a", {})) == (0, [])
    listeners.remove(trigger("a"))
    assert (len(listeners), listeners.hears("default", "a")) == (0, False)


def test_removing_one_leaves_the_others():
    first, second = waiting("a", n=1), waiting("a", n=2)
    listeners = index(first, second, trigger("a"), trigger("a", "other"), trigger("a.*"))
    listeners.remove(first)
    listeners.remove(trigger("a"))
    listeners.remove(trigger("a.*"))
    assert listeners.match("default", "a", {"n": 1}) == [trigger("a", "other").listener]
    assert listeners.match("default", "a", {"n": 2})[0] == second.listener
    assert not listeners.hears("default", "a.b")
    assert len(listeners) == 2


def test_listeners_of_partitions_are_forgotten_together():
    names = [f"job-{number}" for number in range(40)]
    interests = [trigger(event, name) for name in names for event in ("a", "b.*")]
    listeners = index(*interests, waiting("a", names[0], n=1))
    gone = {partition_of_stream(stream(name)) for name in names[:20]}
    listeners.drop(gone)
    left = {stream(name) for name in names if partition_of_stream(stream(name)) not in gone}
    assert {each.stream for each in listeners.match("default", "a", {"n": 1})} == left
    assert {each.stream for each in listeners.match("default", "b.c", {})} == left
    assert len(listeners) == 2 * len(left)
    assert set(listeners.partitions) == {partition_of_stream(each) for each in left}
    listeners.drop(range(64))
    assert (len(listeners), listeners.hears("default", "a")) == (0, False)


def test_paths_lead_through_objects_only():
    assert value_at({"a": {"b": 0}}, "a.b") == 0
    assert value_at({"a": None}, "a") is None
    assert not isinstance(value_at({"a": [1]}, "a.0"), int)


TOKENS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)


@given(
    st.lists(st.tuples(TOKENS, st.booleans()), max_size=8),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
)
def test_patterns_hear_what_a_comparison_of_tokens_says(patterns, tokens):
    listeners = Listeners()
    expected = set()
    for number, (named, rest) in enumerate(patterns):
        name = f"job-{number}"
        listeners.add(trigger(".".join([*named, ">"] if rest else named), name))
        fits = all(a in ("*", b) for a, b in zip(named, tokens, strict=False))
        if fits and (len(tokens) > len(named) if rest else len(tokens) == len(named)):
            expected.add(stream(name))
    found = listeners.match("default", ".".join(tokens), {})
    assert {each.stream for each in found} == expected


def test_patterns_are_told_from_types():
    assert is_pattern("a.*")
    assert is_pattern(">")
    assert not is_pattern("a.b")


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        ("a.b", 1, True),
        ("a.b", 1.0, True),
        ("a.b", True, False),
        ("a.b", "1", False),
        ("a", {"b": 1}, True),
        ("a.c", None, False),
        ("n", None, True),
    ],
)
def test_value_in_data_is_compared_as_json(path, value, same):
    assert same_at({"a": {"b": 1}, "n": None}, path, value) is same
