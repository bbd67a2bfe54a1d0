"""What `horae import crontab` has made of a file, compared with what the file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from crontab_reading import Job

Json = dict[str, Any]


def facts(job: Job, zone: str) -> Json:
    """What its schedule has to say; `zone` is the one that the import was told."""
    environment = dict(job.environment)
    zone = environment.pop("CRON_TZ", zone)
    return {
        "status": "active",
        "type": "cron",
        "expression": job.expression,
        "timezone": zone,
        "action": "process",
        "command": [environment["SHELL"], "-c", job.command],
        "user": job.user,
        "stdin": job.stdin,
        "env": environment,
    }


def facts_of(schedule: Json) -> Json:
    """The same of a schedule, as `horae schedule list --json` has it."""
    trigger, action = schedule["trigger"], schedule["action"]
    return {
        "status": schedule["status"],
        "type": trigger["type"],
        "expression": trigger.get("expression"),
        "timezone": trigger.get("timezone"),
        "action": action["type"],
        **{name: action.get(name) for name in ("command", "user", "stdin", "env")},
    }


def differences(
    jobs: list[Job], zone: str, said: Json, schedules: Mapping[str, Json]
) -> Iterator[str]:
    """Complaints about one import; none if each job has one schedule that says the same.

    Args:
        jobs: of the file.
        zone: that the import was told.
        said: by `horae import crontab --json`.
        schedules: of this source, as the engine has them, by id.
    """
    results = {row["line"]: row for row in said["lines"]}
    known = {job.number for job in jobs}
    for number in sorted(results.keys() - known, key=str):
        yield f"{number}: is no job: {results[number]}"
    expected = {}
    for job in jobs:
        row = results.get(job.number, {"result": "lost", "id": None})
        if job.at_start:
            if row["result"] != "problem":
                yield f"{job.number}: {row['result']}, though it has no instant"
        elif row["result"] != "created" or row["id"] in expected:
            yield f"{job.number}: {row['result']}: {row.get('reason') or row['id']}"
        else:
            expected[row["id"]] = job
    for id_ in schedules.keys() - expected.keys():
        yield f"a schedule that no line has made: {id_}"
    for id_, job in expected.items():
        yield from complaints(job, zone, schedules.get(id_))


def complaints(job: Job, zone: str, schedule: Json | None) -> Iterator[str]:
    if schedule is None:
        yield f"{job.number}: the engine does not have its schedule"
        return
    theirs = facts_of(schedule)
    for name, wanted in facts(job, zone).items():
        if theirs[name] != wanted:
            yield f"{job.number}: {name} is {theirs[name]!r}, not {wanted!r}"
