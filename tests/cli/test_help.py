"""What the commands say of themselves is what queries take."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import typer

from horae.cli.main import app
from horae.cli.output import trigger_text
from horae.cli.schedules import check_text
from horae_projections.messages import (
    ExecutionStatus,
    RunKind,
    ScheduleStatus,
    TimerKind,
    TriggerType,
)


@pytest.mark.parametrize(
    ("command", "option", "taken"),
    [
        ("schedule list", "status", ScheduleStatus),
        ("schedule list", "kind", TriggerType),
        ("execution list", "status", ExecutionStatus),
        ("execution list", "kind", RunKind),
        ("timers list", "kind", TimerKind),
    ],
)
def test_help_of_a_filter_names_all_that_it_takes(command: str, option: str, taken: Any) -> None:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    (text,) = (each.help for each in found.params if each.name == option)
    told = text.partition(";")[0].rpartition(":")[2]
    assert sorted(told.replace(" ", "").split(",")) == sorted(get_args(taken))


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        ({"type": "rrule", "rule": "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY"},
         "DTSTART:20260101T090000Z RRULE:FREQ=DAILY"),
        ({"type": "event", "event": "trade.*", "filter": None}, "on trade.*"),
        ({"type": "event", "event": "trade", "filter": "data.a > 1"}, "on trade if data.a > 1"),
        ({"type": "outcome", "schedule": "load", "of": ["failed", "timed_out"]},
         "on load failed, timed_out"),
        ({"type": "condition", "check": "vix", "when": "v > 1"}, "on vix if v > 1"),
        ({"type": "condition", "check": "vix", "when": None}, "on vix"),
        ({"type": "manual"}, "manual"),
    ],
)  # fmt: skip
def test_trigger_is_told_in_a_few_words(trigger: dict[str, Any], text: str) -> None:
    assert trigger_text(trigger) == text


def test_check_is_told_with_its_trouble() -> None:
    at = "2026-01-05T08:00:00.123Z"
    assert check_text(None) is None
    met = {"at": at, "outcome": "met", "error": None}
    assert check_text(met) == "met since 2026-01-05T08:00:00Z"
    failed = {"at": at, "outcome": "failed", "error": "KeyError: 'vix'"}
    assert check_text(failed) == "failed since 2026-01-05T08:00:00Z: KeyError: 'vix'"
