"""What commands print: one JSON document, or tables for people; reasons go to standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

WIDEST = 10_000
"""Columns of a table that goes to a file or a pipe, where nothing is cut."""
GAP = 2
LONGEST_ID = 36
"""An execution's id stays on one line."""
_FRACTION = re.compile(r"\.\d+(?=Z$|[+-]\d\d:)")


def print_json(document: object) -> None:
    """One JSON document and a newline; times and paths as text."""
    sys.stdout.write(msgspec.json.encode(document, enc_hook=str).decode() + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> None:
    """A table without lines.

    On a narrow terminal it has no `extra` columns, the `whole` ones wrap rather than lose a
    character, and the others are cut. In a pipe every row is one line, unless COLUMNS says how
    wide. Escape codes are for terminals alone.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if narrow else WIDEST, highlight=False)
    cells = [[name, *map(cell, each)] for name, *each in zip(columns, *rows, strict=True)]
    widths = {
        name: max(map(len, column)) + GAP for name, column in zip(columns, cells, strict=True)
    }
    if sum(widths.values()) - GAP > console.width:
        cells = [column for column in cells if column[0] not in extra]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name, *_ in cells:
        kept = name in whole
        table.add_column(
            name,
            no_wrap=not kept,
            overflow="fold" if kept else "ellipsis",
            min_width=min(widths[name] - GAP, LONGEST_ID) if kept else None,
        )
    for row in zip(*(column[1:] for column in cells), strict=True):
        table.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print_line(line.rstrip())


def print_page(
    answer: Mapping[str, Any],
    listed: str,
    columns: Sequence[str],
    row: Callable[[Any], Sequence[object]],
    *,
    as_json: bool,
    whole: Sequence[str] = (),
    extra: Sequence[str] = (),
    called: str | None = None,
) -> None:
    """One page of a list, and how to see the next one.

    Args:
        answer: of the query; under `listed` it has what the page shows.
        listed: such as `dead_letters`.
        columns: their names.
        row: the cells of one of those listed.
        as_json: print the answer as it is.
        whole: see `print_table`.
        extra: see `print_table`.
        called: what several of them are, unless as they are `listed`.
    """
    if as_json:
        print_json(answer)
        return
    rows = [row(each) for each in answer[listed]]
    print_table(columns, rows, whole=whole, extra=extra)
    what = called or listed.replace("_", " ")
    if answer.get("cursor"):
        print_line(f"{len(rows)} of {answer.get('total')} {what}; for the next page:")
        print_line(f"--cursor {answer['cursor']}")
    elif not rows:
        print_line(f"no {what}")


def print_answer(answer: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The answer to a command: a line for people, or the document."""
    if as_json:
        print_json(answer)
    else:
        print_line(text)


def changed(answer: Mapping[str, Any], as_json: bool) -> None:
    """How a schedule stands after a command."""
    following = f", next {cell(answer['next_due'])}" if answer.get("next_due") else ""
    revision = f", revision {answer['revision']}" if "revision" in answer else ""
    text = f"{answer.get('id', 'schedule')}: {answer.get('status', 'ok')}{revision}{following}"
    print_answer(answer, text, as_json=as_json)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line; what is empty is left out."""
    shown = {name: cell(value) for name, value in facts.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print_line(f"{name:{width}}  {value}")


def print_line(text: str = "") -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def cell(value: object) -> str:
    """A value as it stands in a table: instants to the second, nothing as a dash."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return _FRACTION.sub("", value) if value[:1].isdigit() else value
        case int() | float():
            return str(value)
        case _:
            text: str = msgspec.json.encode(value, enc_hook=str).decode()
            return text


def trigger_text(trigger: Mapping[str, Any]) -> str:
    """A trigger in a few words."""
    match trigger.get("type"):
        case "cron":
            zone = trigger.get("timezone", "UTC")
            return str(trigger["expression"]) + ("" if zone == "UTC" else f" {zone}")
        case "interval":
            return f"every {trigger['every']}"
        case "once":
            return f"once {cell(trigger.get('at')) if trigger.get('at') else trigger.get('after')}"
        case "rrule":
            return " ".join(str(trigger["rule"]).split())
        case "event":
            return f"on {trigger['event']}" + _if(trigger["filter"])
        case "outcome":
            return f"on {trigger['schedule']} {', '.join(trigger['of'])}"
        case "condition":
            return f"on {trigger['check']}" + _if(trigger["when"])
        case kind:
            return str(kind)


def _if(expression: str | None) -> str:
    return "" if expression is None else f" if {expression}"


def error_text(attempt: Mapping[str, Any]) -> str:
    """What went wrong in an attempt, on one line."""
    error = attempt.get("error") or {}
    text = f"{error.get('type', '')}: {error.get('message', '')}" if error else ""
    return " ".join(text.split())[:200]


def action_text(action: Mapping[str, Any]) -> str:
    """An action in a few words."""
    match action["type"]:
        case "function":
            return f"function {action['name']}"
        case "queue":
            return f"queue {action['queue']}"
        case "command":
            return f"command {action['service']}.{action['command']}"
        case kind:
            return f"{kind} {' '.join(action.get('command', []))}".strip()


def fail(error: Exception, *, as_json: bool) -> NoReturn:
    """Say why on standard error, with code and field, and exit with 1."""
    from horae.cli.errors import as_refusal

    refusal = as_refusal(error)
    if as_json:
        print_json({"ok": False, "error": refusal.to_json()})
    for problem in refusal.details.get("problems") or [refusal.to_json()]:
        sys.stderr.write(f"horae: {complaint(problem)}\n")
    sys.exit(1)


def complaint(error: dict[str, Any]) -> str:
    """One refusal on a line: code, field, reason, value."""
    field, value = error.get("field"), error.get("value")
    where = f" ({field})" if field else ""
    message = str(error["message"]).removeprefix(f"{field}: ")
    return f"{error['code']}{where}: {message}{'' if value is None else f' [{value}]'}"
