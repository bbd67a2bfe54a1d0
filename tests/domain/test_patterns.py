"""What is expected of a text is told in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from horae_application.messages import COMMANDS
from horae_domain.definition import Definition, parse_definition
from horae_domain.errors import InvalidField
from horae_domain.patterns import EXPECTED
from horae_domain.wire import validate
from horae_projections.messages import QUERIES, GetExecution


def patterns_of(schema: Any) -> Iterator[str]:
    """Every regular expression of a JSON schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from schema.get("patternProperties", {})
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from patterns_of(part)


def test_every_pattern_of_a_message_is_told_in_words() -> None:
    kinds = [Definition, *COMMANDS.values(), *QUERIES.values()]
    used = {found for kind in kinds for found in patterns_of(kind.model_json_schema())}
    assert used == EXPECTED.keys()


@pytest.mark.parametrize("pattern", EXPECTED)
def test_examples_are_what_is_expected(pattern: str) -> None:
    examples = re.findall(r"`([^`]+)`", EXPECTED[pattern])
    assert examples
    assert all(re.search(pattern, example) for example in examples)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"id": "a b"}, "id: expected: 1 to 128 of A-Z a-z 0-9 _ . : -, such as `nightly-report`"),
        (
            {"action": {"type": "http", "url": "https://h", "headers": {"a b": "c"}}},
            "action.headers.a b.[key]: expected: 1 to 128 characters of a header's name, such as `x-request-id`",
        ),
    ],
)  # fmt: skip
def test_refusal_says_what_is_expected(told: dict[str, Any], said: str) -> None:
    content = {
        "id": "job",
        "trigger": {"type": "manual"},
        "action": {"type": "function", "name": "work"},
    }
    with pytest.raises(InvalidField) as caught:
        parse_definition(content | told)
    assert caught.value.message == said


def test_refusal_within_a_template_says_it_in_words() -> None:
    made = {"trigger": {"type": "manual"}, "action": {"type": "queue", "queue": "a b"}}
    content = {
        "id": "job",
        "trigger": {"type": "manual"},
        "action": {"type": "schedule", "template": made},
    }
    with pytest.raises(InvalidField, match=r"action\.queue: expected: 1 to 128 of A-Z"):
        parse_definition(content)


def test_refused_id_of_an_execution_is_told_in_words() -> None:
    with pytest.raises(InvalidField) as caught:
        validate(GetExecution, {"id": "7"})
    assert caught.value.message.startswith("id: expected: an execution's id, such as `2a019b8b-")
