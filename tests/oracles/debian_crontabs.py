"""Every crontab that a selection of Debian's packages ships, imported, computed and run.

Downloads the packages with the ordinary client and unpacks them without installing. Each crontab
goes through `horae import crontab` as it stands, and what the engine then has is compared with
another reading of the file; every instant of 400 days in three zones is compared with a
brute-force walk; then the jobs run by the clock for some minutes, with commands that write to a
ledger. Prints figures; exits with 1 on a difference, or if too few packages ship such files.

    python tests/oracles/debian_crontabs.py [--minutes 4]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "domain" / "time"))

import crontab_imports
from crontab_engine import Desk, with_idle_engine
from crontab_ledger import Run, minute, table
from crontab_reading import Job, read
from crontab_real_time import run_by_the_clock
from debian_packages import NEEDED, Crontab, crontabs
from oracle import expected

from horae.cli.logs import configure
from horae_domain.recurrence import cron_recurrence, span

Json = dict[str, Any]
Read = tuple[Crontab, list[Job]]
"""A file, and the jobs in it."""
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(days=400)
TICK = timedelta(microseconds=1)
MINUTES = 4
"""Whole minutes of the run by the clock, unless told."""


def import_each(found: list[Read], desk: Desk) -> tuple[list[str], list[Json]]:
    """Import every file, the zones taking turns; complaints, and the schedules that the engine has."""
    said = [
        desk.import_crontab(
            file.path, system=file.system, zone=ZONES[n % len(ZONES)], source=file.source
        )
        for n, (file, _) in enumerate(found)
    ]
    wanted = sum(not job.at_start for _, jobs in found for job in jobs)
    schedules = desk.rows("schedule", at_least=wanted)
    complaints = []
    for n, (file, jobs) in enumerate(found):
        own = {row["id"]: row for row in schedules if row["tags"] == ["crontab", file.source]}
        zone = ZONES[n % len(ZONES)]
        different = crontab_imports.differences(jobs, zone, said[n], own)
        complaints += [f"{file.source}:{each}" for each in different]
    if len(schedules) != wanted:
        complaints.append(f"{len(schedules)} schedules, not {wanted}")
    begun = [row["id"] for row in desk.rows("execution") if row["attempts"]]
    complaints += [f"an imported command was run: {id_}" for id_ in begun]
    figure("schedules", len(schedules))
    figure("different", len(complaints))
    return complaints, schedules


def compare_instants(expressions: Collection[str]) -> list[str]:
    """Compare every instant in each zone; complaints."""
    compared, complaints = 0, []
    for expression in sorted(expressions):
        for zone in ZONES:
            ours = [
                one.due
                for one in span(cron_recurrence(expression, zone), START - TICK, END - TICK, 10**6)
            ]
            theirs = expected(expression, zone, START, END)
            compared += len(theirs)
            if ours != theirs:
                different = len(set(ours) ^ set(theirs))
                complaints.append(f"{expression}: {different} instants differ in {zone}")
    figure("expressions", len(expressions))
    figure("instants", f"{compared} in {len(ZONES)} zones")
    figure("different", len(complaints))
    return complaints


def say_run(runs: list[Run], minutes: int) -> list[str]:
    """Print what was due and what has run; complaints."""
    print(*table(runs), sep="\n")
    often = sum(len(run.expected) > minutes for run in runs)
    late = [at - minute(at) for run in runs for at in run.written]
    figure("jobs that wait", len(runs))
    figure("every minute", often)
    figure("due", sum(len(run.expected) for run in runs))
    figure("lines in ledger", len(late))
    figure("succeeded", sum(run.succeeded for run in runs))
    figure(
        "latest line", f"{max(late, default=timedelta()).total_seconds():.2f} s after its instant"
    )
    complaints = [each for run in runs for each in run.complaints()]
    figure("different", len(complaints))
    return complaints if often else [*complaints, "no job is due every minute"]


def figure(name: str, value: object) -> None:
    print(f"{name:>18} {value}", flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    print(f"--- {name}", flush=True)
    began = time.monotonic()
    yield
    figure("seconds", f"{time.monotonic() - began:.1f}")


def read_all(folder: Path) -> list[Read]:
    """The crontabs with their jobs; their figures are printed."""
    found = [(file, read(file.text, system=file.system)) for file in crontabs(folder)]
    jobs = [job for _, of_file in found for job in of_file]
    figure("packages", len({file.package for file, _ in found}))
    figure("files", len(found))
    figure("jobs", sum(not job.at_start for job in jobs))
    figure("@reboot", sum(job.at_start for job in jobs))
    return found


def compare(folder: Path, minutes: int) -> list[str]:
    """Everything; all complaints."""
    with step("download and read"):
        found = read_all(folder)
    with step("import"):
        complaints, schedules = with_idle_engine(folder, partial(import_each, found))
    with step("every instant"):
        complaints += compare_instants({row["trigger"]["expression"] for row in schedules})
    with step("run by the clock"):
        files = [file for file, _ in found]
        runs, strays = run_by_the_clock(folder, files, ZONES, minutes)
        complaints += strays + say_run(runs, minutes)
    if len(packages := {file.package for file in files}) < NEEDED:
        complaints.append(f"{len(packages)} packages, not {NEEDED}")
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=MINUTES, help="of the run by the clock")
    minutes = parser.parse_args().minutes
    configure("console:warning")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        complaints = compare(folder, minutes)
    for each in complaints:
        print(each)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
