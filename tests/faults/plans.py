"""Whether what somebody planned for single occurrences, and backfills, came true. Nothing of Horae."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Row
from tests.faults.oracle import instant, micros, occurrences

VERDICTS = {
    "schedule.occurrence_skipped.v1": "execution.skipped.v1",
    "schedule.occurrence_held.v1": "execution.held.v1",
}
"""What an occurrence has to come to, by the last that was said of it."""
BACKFILL = "backfill"


@dataclass
class Plans:
    """What was planned for the occurrences of a life, by their nominal instants."""

    moved: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, str] = field(default_factory=dict)
    payloads: dict[int, Any] = field(default_factory=dict)

    def take(self, row: Row) -> None:
        """One more thing that somebody said."""
        if row.data.get("execution_id") is not None:
            return  # of what was held already
        due = micros(row.data["due"])
        match row.name:
            case "schedule.occurrence_moved.v1":
                self.moved[due] = micros(row.data["to"])
            case "schedule.occurrence_payload_set.v1":
                self.payloads[due] = row.data.get("payload")
            case "schedule.occurrence_approved.v1":
                self.verdicts.pop(due, None)
            case name if name in VERDICTS:
                self.verdicts[due] = VERDICTS[name]

    def comes(self, due: int) -> int:
        """When an occurrence is to be decided."""
        return self.moved.get(due, due)

    def broken(self, row: Row, due: int) -> str | None:
        """What the decision on an occurrence has of its plan not kept, if anything."""
        told = row.data.get("moved_to")
        if (due if told is None else micros(told)) != self.comes(due):
            return f"came at {told or instant(due)}, planned for {instant(self.comes(due))}"
        if row.at < self.comes(due):
            return "decided before it was to come"
        if due in self.verdicts and row.name != self.verdicts[due]:
            return f"planned to be {self.verdicts[due]}"
        if row.name.startswith("execution.requested") and due in self.payloads:
            return None if row.data.get("payload") == self.payloads[due] else "another payload"
        return None

    def count(self, row: Row, due: int, totals: Counter) -> None:
        """Note which kinds of plans came true."""
        if due in self.moved:
            totals["planned: moved"] += 1
        if due in self.verdicts:
            totals[f"planned: {row.name.split('.')[1]}"] += 1
        if due in self.payloads:
            totals["planned: payload"] += 1


@dataclass
class Backfills:
    """The backfills of a life, by their ids."""

    started: dict[str, Row] = field(default_factory=dict)
    requested: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    completed: dict[str, Row] = field(default_factory=dict)

    def take(self, row: Row) -> bool:
        """True if it is an event of a backfill."""
        id_ = row.data.get("backfill_id")
        if id_ is None or row.name == "execution.requeued.v1":
            return False
        match row.name:
            case "schedule.backfill_started.v1":
                self.started[id_] = row
            case "schedule.backfill_completed.v1":
                self.completed[id_] = row
            case _:
                self.requested[id_].append(row)
        return True

    def broken(self, definitions: dict[int, dict], frontier: int) -> list[tuple[str, str]]:
        """Kinds of violations, each with what shows it."""
        found = []
        for id_, started in self.started.items():
            said = started.data
            definition = definitions[said["revision"]]
            window = micros(said["start"]), micros(said["last"])
            expected = set(occurrences(definition, micros(said["anchor"]), *window))
            seen = Counter(micros(row.data["due"]) for row in self.requested[id_])
            if len(expected) != said["count"]:
                found.append(("ghost", f"{id_} counts {said['count']}, the oracle {len(expected)}"))
            found += [("ghost", f"{id_} {instant(due)}") for due in seen if due not in expected]
            found += [("dup_fire", f"{id_} {instant(due)}") for due in seen if seen[due] > 1]
            end = self.completed.get(id_)
            left = end.data.get("left", 0) if end is not None else None
            if left is None and started.at <= frontier:
                found.append(("stuck", f"{id_} never ended"))
            elif left is not None and len(seen) + left != len(expected):
                found.append(("lost", f"{id_} ran {len(seen)} of {len(expected)}, {left} left"))
        return found
