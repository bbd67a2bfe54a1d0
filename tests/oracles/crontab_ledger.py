"""Crontabs whose commands write to a ledger, and what the ledger and the engine must then have."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crontab_reading import read

APPEND = Path(__file__).with_name("append_to_ledger.py")
MINUTE = timedelta(minutes=1)


@dataclass
class Run:
    """One job: what was to happen until the end of a run, and what has happened.

    Attributes:
        key: its name in the ledger.
        expression: as it stands in the crontab.
        zone: in which it is meant.
        expected: the instants due, from the oracle.
        written: the instants in the ledger.
        executions: due instant and status of each in the engine.
    """

    key: str
    expression: str
    zone: str
    expected: list[datetime] = field(default_factory=list)
    written: list[datetime] = field(default_factory=list)
    executions: list[tuple[datetime, str]] = field(default_factory=list)

    @property
    def succeeded(self) -> int:
        return sum(status == "succeeded" for _, status in self.executions)

    def complaints(self) -> Iterator[str]:
        """Each instant must have one line, written within its minute, and one execution."""
        expected = Counter(self.expected)
        lines = Counter(minute(at) for at in self.written)
        decided = Counter(due for due, _ in self.executions)
        for at in sorted(expected | lines | decided):
            counts = expected[at], lines[at], decided[at]
            if counts not in {(1, 1, 1), (0, 0, 0)}:
                yield (
                    f"{self.key} {self.expression} {self.zone} {at:%H:%M:%S}: due {counts[0]} "
                    f"times, {counts[1]} lines in the ledger, {counts[2]} executions"
                )
        for due, status in self.executions:
            if status != "succeeded":
                yield f"{self.key} {self.expression} {self.zone} {due:%H:%M:%S}: {status}"


def with_ledger(
    text: str, ledger: Path, *, system: bool, source: str, zone: str
) -> tuple[str, list[Run]]:
    """A user's crontab with times and settings as they stand and each command replaced; its jobs.

    The users of a column are left out, for this machine does not have them; so are lines without
    an instant. The ledger's key is the last word of a line.
    """
    lines = text.split("\n")
    runs = []
    for job in read(text, system=system):
        key = f"{source}:{job.number}:{zone}"
        called = shlex.join([sys.executable, "-I", "-S", str(APPEND), str(ledger), key])
        command = called.replace("%", r"\%")
        lines[job.number - 1] = "" if job.at_start else f"{job.time}{command}"
        if not job.at_start:
            runs.append(Run(key, job.expression, job.environment.get("CRON_TZ", zone)))
    return "\n".join(lines), runs


def key_of(line: str) -> str:
    """The ledger's key in a line of `with_ledger`."""
    return shlex.split(line)[-1]


def minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def ledger_lines(text: str) -> list[tuple[str, datetime]]:
    """Key and instant of each line."""
    parts = [line.split(" ") for line in text.splitlines()]
    return [(key, datetime.fromisoformat(at)) for key, at in parts]


def fill(
    runs: dict[str, Run],
    ledger: Iterable[tuple[str, datetime]],
    executions: Iterable[tuple[str, datetime, str]],
    end: datetime,
) -> list[str]:
    """Give each run what has happened before `end`; complaints about what is of no run.

    Args:
        runs: by key.
        ledger: key and instant of each line.
        executions: key, due instant and status of each.
        end: of the comparison; what was due later is not looked at.
    """
    strays = []
    for key, at in ledger:
        if key not in runs:
            strays.append(f"a line of nobody in the ledger: {key} {at}")
        elif minute(at) < end:
            runs[key].written.append(at)
    for key, due, status in executions:
        if key not in runs:
            strays.append(f"an execution of nobody: {key} {due} {status}")
        elif due < end:
            runs[key].executions.append((due, status))
    return strays


def table(runs: Iterable[Run]) -> Iterator[str]:
    """A row for each expression and zone of which a job was due or has run, the most frequent first."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.expected or run.written or run.executions:
            groups.setdefault((run.expression, run.zone), []).append(run)
    yield row("EXPRESSION", "ZONE", "LINES", "DUE", "LEDGER", "SUCCEEDED", "WRONG")
    for (expression, zone), same in sorted(groups.items(), key=rank):
        yield row(
            expression,
            zone,
            len(same),
            sum(len(one.expected) for one in same),
            sum(len(one.written) for one in same),
            sum(one.succeeded for one in same),
            sum(1 for one in same for _ in one.complaints()),
        )


def row(expression: str, zone: str, *figures: object) -> str:
    return f"{expression:20} {zone:20}" + "".join(f"{figure!s:>10}" for figure in figures)


def rank(group: tuple[tuple[str, str], list[Run]]) -> tuple[Any, ...]:
    (expression, zone), same = group
    return -max(len(one.expected) for one in same), expression, zone
