"""`horae apply` of a large file: the first time, again, and with a few differences."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, Failed

Row = dict[str, Any]
CHANGED = 100
"""Schedules of the third run that differ from what there is."""
LIMIT = 900.0
"""Seconds that one run may take."""


def definitions(count: int) -> list[Row]:
    """As many cron schedules as asked, all of them different."""
    return [
        {
            "id": f"job-{number}",
            "name": f"Job {number}",
            "tags": ["load", f"group-{number % 50}"],
            "trigger": {
                "type": "cron",
                "expression": f"{number % 60} {number // 60 % 24} 1 6 *",
                "timezone": "Europe/Berlin",
            },
            "action": {"type": "queue", "queue": "reports"},
            "payload": {"number": number},
        }
        for number in range(count)
    ]


def applying(store: str, count: int) -> list[Row]:
    """A row of each run of the command; `Failed` if anything is missing."""
    rows = []
    with Bench(store, 16) as bench:
        schedules = definitions(count)
        file = _write(bench.directory / "load.json", schedules)
        rows.append({"run": "first"} | _run(bench, file, {"created": count}))
        events = bench.count_events().get("schedule.created.v1", 0)
        if events != count:
            raise Failed(f"{events} schedules in the store of {count}")
        rows.append({"run": "again"} | _run(bench, file, {}, unchanged=count))
        changed = min(CHANGED, count)
        for each in schedules[:changed]:
            each["payload"] = {"number": -1}
        file = _write(bench.directory / "load.yaml", schedules)
        told = _run(bench, file, {"updated": changed}, unchanged=count - changed)
        rows.append({"run": f"YAML, {changed} changed"} | told)
    return [{"run": row.pop("run"), "schedules": count, **row} for row in rows]


def _write(file: Path, schedules: list[Row]) -> Path:
    content = {"set": "load", "schedules": schedules}
    if file.suffix == ".json":
        file.write_text(json.dumps(content))
    else:
        import yaml

        file.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False))
    return file


def _run(bench: Bench, file: Path, done: Row, *, unchanged: int = 0) -> Row:
    """One run of the command: seconds, CPU seconds of each process."""
    command = [sys.executable, "-m", "horae", "apply", str(file), "--json"]
    before, own = bench.cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    result = subprocess.run(
        command,
        env=os.environ | {"HORAE_NATS_URL": bench.nats.url},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    seconds = time.perf_counter() - began
    if result.returncode:
        raise Failed(f"apply failed: {result.stderr[-500:]}")
    told = json.loads(result.stdout)
    found = {name: number for name, number in told["done"].items() if number}
    if (found, told["unchanged"]) != (done, unchanged):
        raise Failed(f"applied {found}, {told['unchanged']} as they were")
    after, ended = bench.cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {name: round(after[name] - before[name], 2) for name in after}
    used["command"] = round(ended.ru_utime + ended.ru_stime - own.ru_utime - own.ru_stime, 2)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": used,
        "command_mb": round(ended.ru_maxrss / 1000),
        "engine_mb": bench.memory()["engine"],
    }
