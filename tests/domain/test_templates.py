"""Schedules that are made from templates: what is refused when one is written, and how it is filled (T5)."""

from __future__ import annotations

from typing import Any

import pytest

from horae_domain.definition import parse_definition, restore_definition
from horae_domain.errors import InvalidField
from horae_domain.templates import MAX_PLACES, fill, made_id, open_text

DAILY = {
    "id": "mails-${trigger.data.name}",
    "trigger": {
        "type": "cron",
        "expression": "0 10 * * *",
        "timezone": "${trigger.data.timezone}",
    },
    "action": {"type": "function", "name": "mail"},
}
KNOWN = {
    "trigger": {"data": {"name": "ada", "count": 7, "share": 0.5, "vip": True, "none": None}},
    "payload": {"a": [1, 2]},
    "execution_id": "x-1",
}


def written(template: Any) -> Any:
    told = {"id": "s", "trigger": {"type": "event", "event": "user.signed-up"}}
    return parse_definition(told | {"action": {"type": "schedule", "template": template}})


def refusal(template: Any) -> str:
    with pytest.raises(InvalidField) as caught:
        written(template)
    assert caught.value.field == "action.template"
    return caught.value.message.removeprefix("action.template: ")


# --- written -------------------------------------------------------------------------------------


def test_template_is_kept_as_it_is_written():
    definition = written(DAILY)
    canonical = definition.canonical()
    assert canonical["action"] == {"type": "schedule", "template": DAILY}
    assert restore_definition({**canonical}) == definition


def test_template_needs_no_id():
    assert written({each: DAILY[each] for each in ("trigger", "action")})


@pytest.mark.parametrize(
    "told",
    [
        {"max_executions": "${trigger.data.count}"},
        {"priority": "${trigger.data.priority}", "tags": ["${trigger.data.tag}", "plain"]},
        {"trigger": "${payload.trigger}"},
        {"trigger": {"type": "${payload.type}", "every": "1h"}},
        {"trigger": {"type": "once", "at": "${trigger.data.at}"}},
        {"trigger": {"type": "event", "event": "order.${trigger.data.id}"}},
        {"trigger": {"type": "event", "event": "x", "delay": "${trigger.data.delay}"}},
        {"requires": "${trigger.data.check}", "retry": {"delay": "${payload.delay}"}},
        {"action": {"type": "function", "name": "${trigger.data.handler}"}},
        {"cancel_on": {"event": "x", "match": {"id": "${trigger.data.place}"}}},
        {"description": "$${not.a.place} and ${due} of ${schedule_id}, ${execution_id}"},
        {"payload": ["${result.rows}", None], "max_executions": 7, "enabled": False},
    ],
)
def test_what_a_run_will_say_is_left_open(told: dict[str, Any]):
    assert written(DAILY | told)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"trigger": {"type": "cron", "expression": "61 * * * *"}}, "trigger.expression: "),
        ({"trigger": {"type": "cron", "timezone": "${payload.tz}"}}, "trigger.expression: "),
        ({"trigger": {"type": "corn", "expression": "${payload.x}"}}, "trigger: "),
        ({"trigger": {"type": "once", "at": "tomorrow"}}, "trigger.at: "),
        ({"trigger": {"type": "event", "event": "${payload.x}", "delay": "soon"}}, "trigger.delay"),
        ({"colour": "${payload.colour}"}, "colour: Extra inputs are not permitted"),
        ({"tags": ["${payload.tag}", ""]}, "tags.1: "),
        ({"id": "no blanks"}, "id: "),
        ({"description": "${name}"}, "description: a place is ${path}"),
        ({"description": "${}"}, "description: a place is ${path}"),
        ({"description": "${trigger..data}"}, "description: a place is ${path}"),
        ({"tags": ["${trigger.data.x"]}, "tags[0]: a place is ${path}"),
        ({"payload": ["${due}"] * (MAX_PLACES + 1)}, "a template has at most 64 places"),
    ],
)
def test_what_no_value_would_mend_is_refused_at_once(told: dict[str, Any], reason: str):
    assert refusal(DAILY | told).startswith(reason)


def test_what_the_whole_of_a_template_lacks_is_said_without_a_path():
    template = {"trigger": {"type": "manual"}, "action": {"type": "none"}}
    assert refusal(template) == "an action of type none needs `wait_for`"


def test_template_without_a_trigger_is_refused():
    assert refusal({"action": DAILY["action"]}) == "trigger: Field required"


def test_as_many_places_as_are_allowed_are_accepted():
    assert written(DAILY | {"id": "made", "payload": ["${due}"] * (MAX_PLACES - 1)})


def test_template_in_a_template_is_checked_by_itself():
    inner = {"type": "schedule", "template": DAILY | {"id": "${trigger.data.id}"}}
    assert written(DAILY | {"action": inner})
    inner = {"type": "schedule", "template": DAILY | {"colour": "${payload.colour}"}}
    assert refusal(DAILY | {"action": inner}).startswith("action.template: colour")


def test_template_is_of_any_depth_that_json_may_have():
    deep = DAILY
    for _ in range(40):
        deep = DAILY | {"action": {"type": "schedule", "template": deep}}
    assert written(deep)


# --- filled --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${trigger.data.name}", "ada"),
        ("mail-${trigger.data.name}-${execution_id}", "mail-ada-x-1"),
        ("${trigger.data.count}", 7),
        ("${trigger.data.none}", None),
        ("${payload}", {"a": [1, 2]}),
        ("n${trigger.data.count}/${trigger.data.share}/${trigger.data.vip}", "n7/0.5/true"),
        ("$${trigger.data.name}", "${trigger.data.name}"),
        ("$5 and {braces}", "$5 and {braces}"),
        (["${trigger.data.count}", 3], [7, 3]),
        (None, None),
    ],
)
def test_places_are_filled_with_values(text: Any, value: Any):
    assert fill({"payload": text}, KNOWN) == {"payload": value}


def test_values_are_not_filled_again():
    known = {"payload": "${execution_id}", "execution_id": "x-1"}
    assert fill({"payload": "${payload}", "name": "of ${payload}"}, known) == {
        "payload": "${execution_id}",
        "name": "of ${execution_id}",
    }


def test_template_in_a_template_is_left_for_its_own_run():
    inner = {"type": "schedule", "template": DAILY}
    assert fill({"action": inner}, KNOWN) == {"action": inner}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("${trigger.data.email}", "template.tags[0]: trigger.data.email leads nowhere"),
        ("of ${payload.b}", "template.tags[0]: payload.b leads nowhere"),
        ("of ${payload}", "template.tags[0]: payload is no text, number or truth value"),
        ("of ${trigger.data.none}", "template.tags[0]: trigger.data.none is no text"),
    ],
)
def test_value_that_is_not_there_is_named(text: str, reason: str):
    with pytest.raises(InvalidField) as caught:
        fill({"tags": [text]}, KNOWN)
    assert caught.value.message.startswith(reason)
    assert caught.value.field == "template.tags[0]"


def test_id_of_one_without_an_id_is_of_schedule_and_execution():
    run = "0" * 36
    assert made_id("welcome", run) == f"welcome:{run}"
    assert made_id("s" * 91, run) == "s" * 91 + f":{run}"
    assert len(made_id("s" * 128, run)) == 128


def test_text_is_open_only_with_a_place():
    assert open_text("a ${due}")
    assert not open_text("a $${due} {due}")
    assert not open_text(7)
