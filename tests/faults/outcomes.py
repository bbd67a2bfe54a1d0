"""Whether outcomes were accepted once and by the right lease, and limits held. Nothing of Horae."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from tests.faults.decisions import Findings
from tests.faults.history import Row, by_stream, stream_of

AFTER = {"kill", "stall", "continued"}
"""Faults after which work may be delivered again."""
AFTERMATH = 25
"""Seconds in which it is: the lease of an engine, the timeout of an attempt, a redelivery."""
BEGINS = ("requested", "buffered", "held")
ENDS = ("succeeded", "failed", "timed_out", "cancelled", "dropped", "dead_lettered")
ASIDE = ("released", "approved", "reprioritised", "cancellation_requested")
"""What happens to an execution without touching its lease."""


@dataclass
class Story:
    """One execution, as its stream tells it."""

    id: str
    requested: Row
    leases: dict[str, Row] = field(default_factory=dict)
    ended: Row | None = None
    lease: str | None = None
    """The one that may report now."""
    accepted: dict[str, Row] = field(default_factory=dict)
    """By the lease whose outcome was taken."""
    lost: list[Row] = field(default_factory=list)
    """Attempts that ended without a report."""


def check_streams(rows: list[Row], findings: Findings) -> None:
    """Versions without a gap, positions and times that only grow, one answer to a key."""
    for before, after in itertools.pairwise(rows):
        if after.position <= before.position or after.recorded_at < before.recorded_at:
            findings.add("order", f"position {after.position} after {before.position}")
    for stream, events in by_stream(rows).items():
        versions = [row.version for row in events]
        if versions != list(range(1, len(versions) + 1)):
            findings.add("versions", f"stream {stream} has versions {versions[:12]}")
        if events[0].name == "request.answered.v1" and len(events) > 1:
            findings.add("versions", f"a key was answered {len(events)} times: {stream}")


def stories(rows: list[Row], findings: Findings) -> dict[str, Story]:
    """The executions by stream; what breaks the rules of a single one is noted."""
    told: dict[str, Story] = {}
    for row in rows:
        kind, _, name = row.name.removesuffix(".v1").partition(".")
        if kind != "execution":
            continue
        if name in BEGINS:
            if row.stream in told:
                findings.add("dup_fire", f"execution {row.stream} was {name} twice")
                continue
            story = told[row.stream] = Story(row.data["execution_id"], row)
            if row.data.get("worker") is not None:
                story.lease = "1.1"
                story.leases["1.1"] = row
        elif row.stream in told:
            _tell(told[row.stream], row, name, findings)
    return told


def _tell(story: Story, row: Row, name: str, findings: Findings) -> None:
    if name == "report_refused":
        return
    if story.ended is not None:
        kind = "double_outcome" if name in {*ENDS, "attempt_failed"} else "after_end"
        findings.add(kind, f"{story.id}: {name} at {row.position} after its end")
        return
    if name in ASIDE:
        return
    if name == "attempt_started":
        story.lease = f"{row.data['attempt']}.{row.data.get('delivery', 1)}"
        if story.lease in story.leases:
            findings.add("double_outcome", f"{story.id}: lease {story.lease} was given twice")
        story.leases[story.lease] = row
        return
    if name in {"succeeded", "delayed"} or (
        name == "attempt_failed" and row.data["outcome"] == "failed"
    ):
        _accept(story, row, name, findings)
    elif name == "attempt_failed":
        story.lost.append(row)
    if name != "attempt_failed" or story.lease is not None:
        story.lease = None
    if name in ENDS:
        story.ended = row


def _accept(story: Story, row: Row, name: str, findings: Findings) -> None:
    lease = story.lease
    said = str(row.data["attempt"])
    if name == "succeeded":
        said += f".{row.data.get('delivery', 1)}"
    if lease is None or not (lease == said or (name != "succeeded" and lease.startswith(said))):
        findings.add("stale_accept", f"{story.id}: {name} of {said} while {lease} is current")
    elif lease in story.accepted:
        findings.add("double_outcome", f"{story.id}: two outcomes of lease {lease}")
    story.accepted[lease or said] = row


def check_ledger(told: dict[str, Story], notes: list[dict], findings: Findings) -> None:
    """What handlers did against what the store says: runs without lease, outcomes of others."""
    ends = {note["nonce"]: note for note in notes if note["what"] == "end"}
    for note in notes:
        if note["what"] != "start":
            continue
        story = told.get(stream_of(note["execution"]))
        if story is None or note["lease"] not in story.leases:
            findings.add("ghost", f"{note['execution']} ran under {note['lease']} without a lease")
    for story in told.values():
        for lease, row in story.accepted.items():
            nonce = _nonce(row)
            if nonce not in ends:
                findings.add("ghost", f"{story.id}: an outcome that no handler had ({nonce})")
            elif ends[nonce]["lease"] != lease:
                findings.add(
                    "stale_accept",
                    f"{story.id}: accepted for {lease} what was done under {ends[nonce]['lease']}",
                )


def _nonce(row: Row) -> str:
    if "error" in row.data:
        return row.data["error"].get("message", "")
    return (row.data.get("result") or {}).get("nonce", "")


def check_runs(
    told: dict[str, Story], notes: list[dict], faults: list[dict], findings: Findings
) -> dict[str, int]:
    """Handlers that were started again without having failed; each needs its excuse."""
    runs: dict[str, list[dict]] = defaultdict(list)
    for note in notes:
        if note["what"] == "start":
            runs[stream_of(note["execution"])].append(note)
    kills = [fault["wall"] for fault in faults if fault["what"] in AFTER]
    counts = {"dup_run": 0, "by_fault": 0, "by_timeout": 0}
    for stream, starts in runs.items():
        story = told.get(stream)
        for before, after in itertools.pairwise(starts):
            if before["lease"] == after["lease"]:
                findings.add("dup_run", f"{before['execution']}: {before['lease']} ran twice")
            if story is None or before["lease"] in story.accepted:
                continue
            counts["dup_run"] += 1
            timed_out = any(
                row.data["outcome"] == "timed_out"
                and str(row.data["attempt"]) == before["lease"].split(".")[0]
                for row in story.lost
            )
            if any(before["wall"] - AFTERMATH <= wall <= after["wall"] for wall in kills):
                counts["by_fault"] += 1
            elif timed_out:
                counts["by_timeout"] += 1
            else:
                findings.add("dup_run", f"{before['execution']}: ran again without an excuse")
    return counts


def check_unfinished(told: dict[str, Story], frontier: int, findings: Findings) -> None:
    """After the drain nothing that was asked for before it may be open."""
    for story in told.values():
        if story.ended is None and story.requested.recorded_at < frontier:
            about = story.requested.data
            findings.add("stuck", f"{story.id} of {about['schedule_id']} ({about['due']})")


FIRES = ("requested", "released")
UNCOUNTED = ("key", "backfill")
"""Kinds that count for no limit of the calendar."""


def check_limits(rows: list[Row], findings: Findings) -> None:
    """Overlap, concurrency and `max_executions`, by replaying the log in its order."""
    counted = Counted()
    for row in rows:
        kind, _, name = row.name.removesuffix(".v1").partition(".")
        id_ = row.data.get("schedule_id", "")
        if kind == "schedule":
            counted.schedule(id_, name, row)
        elif kind == "execution":
            counted.execution(id_, name, row)
            if row.stream in counted.requested and name in {*FIRES, "attempt_started"}:
                definition = counted.definition(row)
                if name == "released":
                    _check_order(counted, row, findings)
                live, running = len(counted.live[id_]), len(counted.running[id_])
                _check_limit(definition, live, running, counted.fired[id_], row, findings)


class Counted:
    """What is alive, what runs and how much has fired, by schedule."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[str, int], dict] = {}
        self.live: dict[str, set[str]] = defaultdict(set)
        self.running: dict[str, set[str]] = defaultdict(set)
        self.fired: dict[str, int] = defaultdict(int)
        self.requested: dict[str, Row] = {}
        self.buffered: dict[str, dict[str, Row]] = defaultdict(dict)

    def definition(self, row: Row) -> dict:
        """The one that an execution runs by."""
        revision = self.requested[row.stream].data["revision"]
        return self.definitions[row.data["schedule_id"], revision]

    def schedule(self, id_: str, name: str, row: Row) -> None:
        if name in {"created", "updated"}:
            self.definitions[id_, row.data.get("revision", 1)] = row.data["definition"]
        if name == "created":
            self.fired[id_] = 0

    def execution(self, id_: str, name: str, row: Row) -> None:
        if name in BEGINS:
            self.requested[row.stream] = row
        if name == "buffered":
            self.buffered[id_][row.stream] = row
        if name == "approved":
            self.buffered[id_][row.stream] = self.requested[row.stream]
        if name in FIRES and row.stream in self.requested:
            self.live[id_].add(row.stream)
            self.fired[id_] += self.requested[row.stream].data["kind"] not in UNCOUNTED
        if name == "attempt_started" or (row.data.get("worker") and name == "requested"):
            self.running[id_].add(row.stream)
        elif name not in {"report_refused", *BEGINS, *ASIDE}:
            self.running[id_].discard(row.stream)
        if name in ENDS:
            self.live[id_].discard(row.stream)
            self.buffered[id_].pop(row.stream, None)


def _check_order(counted: Counted, row: Row, findings: Findings) -> None:
    """What was buffered is released in the order in which it came; nobody changes priorities here."""
    waiting = counted.buffered[row.data["schedule_id"]]
    first = min(waiting, key=lambda stream: waiting[stream].position, default=None)
    if first != row.stream:
        findings.add("order", f"{row.data['schedule_id']}: {row.stream} released before {first}")
    waiting.pop(row.stream, None)


def _check_limit(
    definition: dict, live: int, running: int, fired: int, row: Row, findings: Findings
) -> None:
    id_, where = row.data["schedule_id"], f"at position {row.position}"
    limit = definition.get("concurrency")
    if definition.get("overlap", "skip") != "allow":
        if row.name != "execution.attempt_started.v1" and live > (limit or 1):
            findings.add("limit", f"{id_}: {live} at once, {limit or 1} allowed, {where}")
    elif limit is not None and running > limit:
        findings.add("limit", f"{id_}: {running} running, {limit} allowed, {where}")
    most = definition.get("max_executions")
    if most is not None and fired > most:
        findings.add("limit", f"{id_}: {fired} fired, {most} allowed, {where}")
