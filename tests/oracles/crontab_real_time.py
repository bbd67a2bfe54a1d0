"""Crontabs run by the wall clock: a real `horae dev` runs commands that write to a ledger."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "domain" / "time"))

from crontab_engine import SETTLE, Desk, engine
from crontab_ledger import MINUTE, Run, fill, key_of, ledger_lines, minute, with_ledger
from debian_packages import Crontab
from oracle import expected

Json = dict[str, Any]
HALF = timedelta(seconds=30)
"""From the last minute that counts to the end: what was due has begun, and nothing else is due."""


def run_by_the_clock(
    folder: Path, crontabs: Sequence[Crontab], zones: Iterable[str], minutes: int
) -> tuple[list[Run], list[str]]:
    """Import every job in every zone and wait; the jobs, and complaints about what is of no job.

    Args:
        folder: for the engine's data, the crontabs and the ledger.
        crontabs: whose times are taken.
        zones: in each of which they are imported.
        minutes: whole ones that are waited for after the import.
    """
    ledger = folder / "ledger"
    ledger.touch()
    with engine(folder, "--data", str(folder / "data"), "--allow-processes") as desk:
        runs: dict[str, Run] = {}
        keys: dict[str, str] = {}
        for zone in zones:
            imported, made = import_all(desk, folder, crontabs, zone, ledger)
            keys |= imported
            runs |= {run.key: run for run in made}
        end = minute(datetime.now(UTC)) + (minutes + 1) * MINUTE + HALF
        for row in desk.rows("schedule", at_least=len(keys)):
            expect(runs[keys[row["id"]]], instant(row["created_at"]), end)
        wait_until(end)
        rows = settled(desk, end, sum(len(run.expected) for run in runs.values()))
    executions = [
        (keys.get(id_ := row["schedule_id"], id_), instant(row["due"]), outcome(row))
        for row in rows
    ]
    strays = fill(runs, ledger_lines(ledger.read_text()), executions, end)
    return list(runs.values()), strays


def import_all(
    desk: Desk, folder: Path, crontabs: Sequence[Crontab], zone: str, ledger: Path
) -> tuple[dict[str, str], list[Run]]:
    """Import all jobs in one zone; the ledger's keys by the ids of the schedules, and the jobs."""
    texts, runs = [], []
    for each in crontabs:
        text, found = with_ledger(
            each.text, ledger, system=each.system, source=each.source, zone=zone
        )
        texts.append(text)
        runs += found
    file = folder / zone.replace("/", "-")
    file.write_text("\n".join(texts), encoding="utf-8")
    said = desk.import_crontab(file, system=False, zone=zone, source=zone)
    keys = {row["id"]: key_of(row["text"]) for row in said["lines"]}
    if sorted(keys.values()) != sorted(run.key for run in runs):
        raise RuntimeError(f"not every line was imported in {zone}: {said['lines']}")
    return keys, runs


def expect(run: Run, created: datetime, end: datetime) -> None:
    """What is due after the schedule was made and before the end."""
    due = expected(run.expression, run.zone, minute(created), end)
    run.expected = [at for at in due if at > created]


def wait_until(end: datetime) -> None:
    while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
        time.sleep(min(left, 5.0))


def settled(desk: Desk, end: datetime, due: int) -> list[Json]:
    """The executions due before the end: all that are known when they have ended, or in the end."""
    deadline = time.monotonic() + SETTLE
    while True:
        rows = [row for row in desk.rows("execution") if instant(row["due"]) < end]
        ended = len(rows) >= due and all(row["finished_at"] for row in rows)
        if ended or time.monotonic() > deadline:
            return rows


def outcome(row: Json) -> str:
    """The status of an execution, with what else is to be said of it."""
    tries = len(row["attempts"])
    return row["status"] if tries == 1 else f"{row['status']} in {tries} attempts"


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
