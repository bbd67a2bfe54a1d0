"""Whether every occurrence that the oracle knows has exactly one decision. Nothing of Horae."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Row
from tests.faults.oracle import instant, occurrences
from tests.faults.plans import Backfills, Plans

SINGLE = (
    "execution.requested.v1",
    "execution.buffered.v1",
    "execution.skipped.v1",
    "execution.held.v1",
    "execution.checking.v1",
)


@dataclass
class Segment:
    """A stretch of time under one definition: `after < due <= until`."""

    definition: dict[str, Any]
    revision: int
    anchor: int
    after: int
    until: int | None = None
    paused: list[list[int | None]] = field(default_factory=list)


@dataclass
class Life:
    """One incarnation of a schedule, and what was decided in it."""

    name: str
    segments: list[Segment] = field(default_factory=list)
    singles: list[Row] = field(default_factory=list)
    ranges: list[Row] = field(default_factory=list)
    plans: Plans = field(default_factory=Plans)
    backfills: Backfills = field(default_factory=Backfills)
    ended: bool = False

    @property
    def last(self) -> Segment:
        return self.segments[-1]

    def close(self, until: int) -> None:
        """No occurrence after this instant."""
        if self.last.until is None:
            self.last.until = until


class Findings:
    """Violations by their kind, each with what shows it."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, text: str) -> None:
        self.found[kind].append(text)


def lives(rows: list[Row]) -> list[Life]:
    """The incarnations of all schedules, by their own events in order of position."""
    current: dict[str, Life] = {}
    all_: list[Life] = []
    for row in rows:
        id_ = row.data.get("schedule_id", "")
        if row.name == "schedule.created.v1":
            current[id_] = Life(f"{id_}#{row.data.get('incarnation', 1)}")
            all_.append(current[id_])
            _begin(current[id_], row)
        elif id_ in current:
            _take(current[id_], row)
    return all_


def _begin(life: Life, row: Row) -> None:
    definition = row.data["definition"]
    once = definition["trigger"]["type"] == "once"
    life.segments.append(
        Segment(
            definition,
            row.data.get("revision", 1),
            _instant(row, "anchor"),
            row.at - once,
        )
    )


def _take(life: Life, row: Row) -> None:
    if life.backfills.take(row):
        return
    if row.name.startswith("schedule.occurrence_"):
        life.plans.take(row)
        return
    match row.name:
        case "schedule.updated.v1":
            paused = life.last.paused and life.last.paused[-1][1] is None
            life.close(row.at)
            if paused:
                life.last.paused[-1][1] = row.at
            _begin(life, row)
            if paused:
                life.last.paused.append([row.at, None])
        case "schedule.paused.v1":
            life.last.paused.append([row.at, None])
        case "schedule.resumed.v1":
            life.last.paused[-1][1] = row.at
        case "schedule.cancelled.v1":
            life.close(row.at)
            life.ended = True
        case "schedule.completed.v1":
            _complete(life, row)
        case "schedule.occurrences_decided.v1":
            life.ranges.append(row)
        case name if name in SINGLE and row.data["kind"] != "key":
            life.singles.append(row)


def _complete(life: Life, row: Row) -> None:
    """With its limit reached, nothing after the last that fired is expected."""
    until = row.at
    if row.data["reason"] == "max_executions":
        fired = [_instant(each, "due") for each in life.singles if each.name in SINGLE[:2]]
        until = max(fired, default=row.at)
    life.close(until)
    life.ended = True


def _instant(row: Row, key: str) -> int:
    from tests.faults.oracle import micros

    return micros(row.data[key])


def check_decisions(rows: list[Row], frontier: int, end: int, findings: Findings) -> Counter:
    """Lost, twice decided and unexpected occurrences; how many there were.

    Args:
        rows: the history.
        frontier: up to here everything must be decided, in microseconds.
        end: when the last engine ended.
        findings: where violations are noted.
    """
    totals: Counter = Counter()
    for life in lives(rows):
        _check_life(life, frontier, end, findings, totals)
    return totals


def _check_life(life: Life, frontier: int, end: int, findings: Findings, totals: Counter) -> None:
    expected: dict[int, tuple[Segment, bool]] = {}
    for segment in life.segments:
        until = end if segment.until is None else segment.until
        for due in occurrences(segment.definition, segment.anchor, segment.after, until):
            if due not in life.plans.moved:
                expected[due] = (segment, _open_pause(segment, due))
        for due, to in life.plans.moved.items():
            if segment.after < to <= until:
                expected[due] = (segment, _open_pause(segment, to))
    covered: Counter = Counter()
    for row in life.singles:
        due = _instant(row, "due")
        covered[due] += 1
        totals[row.name.split(".")[1]] += 1
        _check_single(life, row, due, expected, findings)
        life.plans.count(row, due, totals)
    for row in life.ranges:
        _check_range(life, row, expected, covered, findings, totals)
    for due, (_, paused) in expected.items():
        if covered[due] > 1:
            findings.add("dup_fire", f"{life.name} {instant(due)} decided {covered[due]} times")
        due_by_then = life.plans.comes(due) <= frontier and not paused
        if covered[due] == 0 and due_by_then:
            findings.add("lost", f"{life.name} {instant(due)}")
        totals["expected"] += due_by_then
    _check_names(life, findings)
    definitions = {each.revision: each.definition for each in life.segments}
    for kind, text in life.backfills.broken(definitions, frontier):
        findings.add(kind, f"{life.name} backfill {text}")
    totals["backfilled"] += sum(map(len, life.backfills.requested.values()))


def _open_pause(segment: Segment, due: int) -> bool:
    """True in a pause that never ended: its occurrences are decided when it does."""
    return any(begin < due for begin, until in segment.paused if until is None)


def _in_pause(segment: Segment, due: int) -> bool:
    return any(begin < due <= until for begin, until in segment.paused if until is not None)


def _check_single(
    life: Life,
    row: Row,
    due: int,
    expected: dict[int, tuple[Segment, bool]],
    findings: Findings,
) -> None:
    found = expected.get(due)
    shown = f"{life.name} {row.name} {instant(due)} at position {row.position}"
    if found is None:
        findings.add("ghost", f"{shown}: no such occurrence")
    elif row.data["revision"] != found[0].revision:
        findings.add("ghost", f"{shown}: decided by revision {row.data['revision']}")
    elif found[1] or _in_pause(found[0], due):
        findings.add("ghost", f"{shown}: it was paused")
    elif (broken := life.plans.broken(row, due)) is not None:
        findings.add("ghost", f"{shown}: {broken}")


def _check_range(
    life: Life,
    row: Row,
    expected: dict[int, tuple[Segment, bool]],
    covered: Counter,
    findings: Findings,
    totals: Counter,
) -> None:
    first, last = _instant(row, "first"), _instant(row, "last")
    alone = row.data.get("nominal") is not None
    within = [
        due for due in expected if first <= due <= last and (due in life.plans.moved) == alone
    ]
    for due in within:
        covered[due] += 1
    totals[f"{row.data['decision']} ({row.data['reason']})"] += len(within)
    count = row.data.get("count")
    if count is not None and count != len(within):
        findings.add(
            "ghost",
            f"{life.name} range {instant(first)} to {instant(last)} counts {count},"
            f" the oracle {len(within)}",
        )


def _check_names(life: Life, findings: Findings) -> None:
    """A nominal is decided once, whatever its instant."""
    names = Counter((row.data["kind"], row.data["nominal"]) for row in life.singles)
    for (_, nominal), times in names.items():
        if times > 1:
            findings.add("dup_fire", f"{life.name} {nominal} decided {times} times")
