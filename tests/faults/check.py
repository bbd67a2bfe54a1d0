"""Counts from a store, a ledger and two logs what a run has broken. Imports nothing of Horae.

`python -m tests.faults.check STORE_URL FOLDER` prints a table and one line of JSON, and ends with 1
if any promise was broken.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

from tests.faults.decisions import Findings, check_decisions
from tests.faults.history import History, Row, by_stream, read_history, stream_of
from tests.faults.journal import read
from tests.faults.oracle import micros
from tests.faults.outcomes import (
    Story,
    check_ledger,
    check_limits,
    check_runs,
    check_streams,
    check_unfinished,
    stories,
)

KINDS = (
    "lost", "dup_fire", "ghost", "stale_accept", "double_outcome", "acked_lost", "limit",
    "versions", "order", "after_end", "dup_run", "stuck", "stale_commit", "exit", "scenario",
)  # fmt: skip
NOTED = {
    "schedule.paused.v1": "schedule.pause",
    "schedule.resumed.v1": "schedule.resume",
    "schedule.cancelled.v1": "schedule.cancel",
}
PLANNED = {
    "schedule.occurrence_skipped.v1": ("occurrence.skip", "occurrence.approve"),  # or rejected
    "schedule.occurrence_moved.v1": ("occurrence.move",),
    "schedule.occurrence_held.v1": ("occurrence.hold",),
    "schedule.occurrence_approved.v1": ("occurrence.approve",),
    "schedule.occurrence_payload_set.v1": ("occurrence.set_payload",),
    "schedule.backfill_started.v1": ("schedule.backfill",),
}
CHANGES = {*NOTED, "schedule.created.v1", "schedule.completed.v1"}
BUFFERS = {"buffer_one", "buffer_all"}
LATE = 1.0
"""Seconds after which a start is overdue."""


def check(url: str, folder: Path) -> dict:
    """The report of a run; `violations` is empty if every promise held."""
    history = read_history(url)
    notes, intents = read(folder / "ledger"), read(folder / "intent.log")
    faults = read(folder / "faults.log")
    marks = {each["what"]: each for each in faults}
    frontier = round(marks["frontier"]["wall"] * 1e6)
    end = round(marks["stopped"]["wall"] * 1e6)
    findings = Findings()
    totals = check_decisions(history.rows, frontier, end, findings)
    check_streams(history.rows, findings)
    told = stories(history.rows, findings)
    check_ledger(told, notes, findings)
    check_limits(history.rows, findings)
    check_unfinished(told, frontier, findings)
    check_acknowledged(history.rows, told, intents, findings)
    check_witness(history, findings)
    for name, code in marks["stopped"]["codes"].items():
        if code != 0:
            findings.add("exit", f"{name} ended with {code}")
    for each in faults:
        if each["what"] == "failed":
            findings.add("scenario", each["text"])
    runs = check_runs(told, notes, faults, findings)
    return {
        "events": len(history.rows),
        "executions": len(told),
        "decisions": dict(totals),
        "handler_starts": sum(note["what"] == "start" for note in notes),
        "commands": Counter(each["outcome"] for each in intents if each["outcome"] != "sent"),
        "runs": runs,
        "late_effects": late_effects(history.rows, intents),
        "kills": recoveries(waiting(history.rows), told, notes, faults),
        "measured": [each for each in faults if each["what"] == "measured"],
        "violations": {kind: findings.found[kind] for kind in KINDS if findings.found[kind]},
    }


def check_acknowledged(
    rows: list[Row], told: dict[str, Story], intents: list[dict], findings: Findings
) -> None:
    """Everything that was answered with ok is in the store, at or before the answer's position."""
    notes, streams = commanded(rows), by_stream(rows)
    keys: dict[str, str] = {}
    for intent in intents:
        if intent["outcome"] != "ok":
            continue
        rest = _resting_place(intent, notes, streams, told)
        position = int(intent["reply"]["position"].rsplit(".", 1)[1])
        if rest is None and not _holds(intent, position, rows):
            findings.add("acked_lost", f"{intent['op']} {intent['id']} {intent['schedule']}")
        elif rest is not None and rest > position:
            findings.add("acked_lost", f"{intent['id']} was answered before its commit {rest}")
        if intent["op"] == "schedule.trigger":
            execution = intent["reply"]["execution_id"]
            if keys.setdefault(f"{intent['schedule']}/{intent['key']}", execution) != execution:
                findings.add("dup_fire", f"the key {intent['key']} had two executions")


def _holds(intent: dict, position: int, rows: list[Row]) -> bool:
    """Whether the effect of a command held already, so that it had nothing to do."""
    last = None
    for row in rows:
        if row.position > position:
            break
        if row.data.get("schedule_id") == intent["schedule"] and row.name in CHANGES:
            last = row.name
    return last is not None and NOTED.get(last) == intent["op"]


def late_effects(rows: list[Row], intents: list[dict]) -> int:
    """Commands that were refused and yet done: by a process that slept, from an old request."""
    notes = commanded(rows)
    return sum(
        (intent["op"], intent["schedule"], intent["id"]) in notes
        for intent in intents
        if intent["outcome"] == "fail"
    )


def commanded(rows: list[Row]) -> dict[tuple[str, str, str], int]:
    """The positions of what commands on schedules did: by command, schedule and mark."""
    notes: dict[tuple[str, str, str], int] = {}
    for row in rows:
        id_ = row.data.get("schedule_id", "")
        match row.name:
            case "schedule.created.v1":
                notes.setdefault(("schedule.create", id_, ""), row.position)
            case "schedule.updated.v1":
                marker = row.data["definition"].get("description", "")
                notes["schedule.update", id_, marker] = row.position
            case name if name in NOTED:
                notes[NOTED[name], id_, row.data.get("note", "")] = row.position
            case name if name in PLANNED:
                for op in PLANNED[name]:
                    notes[op, id_, row.data.get("note", "")] = row.position
    return notes


def _resting_place(
    intent: dict,
    notes: dict[tuple[str, str, str], int],
    streams: dict[str, list[Row]],
    told: dict[str, Story],
) -> int | None:
    """The position of what a command did."""
    match intent["op"]:
        case "schedule.trigger":
            rows = streams.get(stream_of(intent["reply"]["execution_id"]))
            fits = rows and rows[0].data["nominal"] == intent["key"]
            return rows[0].position if fits else None
        case "start":
            story = told.get(stream_of(intent["execution"]))
            row = story.leases.get(intent["lease"]) if story else None
            return row.position if row else None
        case "report":
            story = told.get(stream_of(intent["execution"]))
            row = story.accepted.get(intent["lease"]) if story else None
            return row.position if row else None
        case "schedule.create":
            return notes.get(("schedule.create", intent["schedule"], ""))
        case "schedule.update":
            return notes.get(("schedule.update", intent["schedule"], intent["marker"]))
        case name:
            return notes.get((name, intent["schedule"], intent["id"]))


def check_witness(history: History, findings: Findings) -> None:
    """On PostgreSQL: each commit was made by the owner of its partitions, by its process id."""
    pids: dict[str, set[str]] = defaultdict(set)
    for session, owner, events in history.witness:
        told = owner or "nobody"
        pid = told.rsplit("-", 2)[1] if told.count("-") >= 2 else told
        pids[pid].add(session)
        if owner is None:
            findings.add("stale_commit", f"{session} committed {events} events of no owner")
    for pid, sessions in pids.items():
        if len(sessions) > 1:
            findings.add("stale_commit", f"{sorted(sessions)} committed for the owner {pid}")


def waiting(rows: list[Row]) -> set[str]:
    """Schedules whose executions wait for one another or were planned: a late start says nothing."""
    return {
        row.data["schedule_id"]
        for row in rows
        if row.name in PLANNED
        or (
            row.name in {"schedule.created.v1", "schedule.updated.v1"}
            and (
                "concurrency" in row.data["definition"]
                or row.data["definition"].get("overlap") in BUFFERS
            )
        )
    }


def recoveries(
    patient: set[str], told: dict[str, Story], notes: list[dict], faults: list[dict]
) -> dict:
    """For each target: kills, handlers in flight, and when the last overdue start came after it."""
    first: dict[str, dict] = {}
    for note in notes:
        if note["what"] == "start":
            first.setdefault(note["execution"], note)
    late = [
        (micros(note["due"]) / 1e6, note["wall"])
        for note in first.values()
        if (story := told.get(stream_of(note["execution"]))) is not None
        and story.requested.data["kind"] != "key"
        and note["schedule"] not in patient
        and note["wall"] - micros(note["due"]) / 1e6 > LATE
    ]
    kills = [each for each in faults if each["what"] in {"kill", "stall"}]
    table: dict[str, dict] = {}
    for number, kill in enumerate(kills):
        if kill["what"] != "kill":
            continue
        within = [wall - kill["wall"] for due, wall in late if culprit(kills, due, wall) == number]
        entry = table.setdefault(kill["target"], {"kills": 0, "in_flight": [], "recovery": []})
        entry["kills"] += 1
        entry["in_flight"].append(kill["in_flight"])
        entry["recovery"].append(max(within, default=0.0))
    return {
        target: {
            "kills": entry["kills"],
            "least_in_flight": min(entry["in_flight"]),
            "recovery_median_s": round(median(entry["recovery"]), 2),
            "recovery_max_s": round(max(entry["recovery"]), 2),
        }
        for target, entry in table.items()
    }


def culprit(kills: list[dict], due: float, wall: float) -> int | None:
    """Which kill made a start overdue: the first between due and start, else the last before."""
    between = [n for n, kill in enumerate(kills) if due - LATE < kill["wall"] < wall]
    before = [n for n, kill in enumerate(kills) if kill["wall"] <= due - LATE]
    return between[0] if between else before[-1] if before else None


def shown(report: dict) -> str:
    """The report for people."""
    lines = [
        (
            f"{report['executions']} executions, {report['events']} events,"
            f" {report['handler_starts']} handler starts; commands {dict(report['commands'])}"
        ),
        f"decisions {report['decisions']}",
        f"runs again {report['runs']}; refused and done late {report['late_effects']}",
        f"{'target':12}{'kills':>7}{'in flight ≥':>13}{'recovery s: median':>20}{'max':>8}",
    ]
    lines += [
        f"{target:12}{row['kills']:7}{row['least_in_flight']:13}"
        f"{row['recovery_median_s']:20}{row['recovery_max_s']:8}"
        for target, row in report["kills"].items()
    ]
    lines += [f"measured {each['name']}: {each['value']}" for each in report["measured"]]
    counts = {kind: len(report["violations"].get(kind, ())) for kind in KINDS}
    lines.append("  ".join(f"{kind} {count}" for kind, count in counts.items()))
    for kind, texts in report["violations"].items():
        lines += [f"  {kind}: {text}" for text in texts[:8]]
        if len(texts) > 8:
            lines.append(f"  {kind}: and {len(texts) - 8} more")
    return "\n".join(lines)


def main() -> int:
    """Check a run that has ended."""
    report = check(sys.argv[1], Path(sys.argv[2]))
    print(shown(report))
    print(json.dumps(report))
    return bool(report["violations"])


if __name__ == "__main__":
    sys.exit(main())
