"""What the worked examples wait for, read from the stored history alone. Nothing of Horae.

A wait begins and ends with a commit, and ends as one of three: `confirmed`, what it waited for came;
`timed out`, its time has passed and what follows then followed; `cancelled`, it was withdrawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Row
from tests.faults.oracle import micros, span

EXAMPLES = (
    "confirm-transfer", "hedge", "yield-position", "daily-rebalance", "sync-exchange",
    "escalate-ticket", "escalate-workflow", "after-workflow", "welcome", "remind",
    "cancel-order", "charge",
    "defer-migration", "health", "clean-up", "re-index", "weekly-backup", "daily-report",
    "new-tenant",
)  # fmt: skip
PARTS = {"workflow": "escalate-workflow"}
FAMILIES = {"sync-": "sync-exchange", "onboarding-": "welcome"}
COMMANDS = {"Migrate": "defer-migration"}
CALENDARS = {"interval", "cron"}
KINDS = {"once": "command", "calendar": "cron"}
"""What waits are called of which triggers and executions are named otherwise."""
WANTED = (
    ("confirm-transfer", "poll"), ("confirm-transfer", "fallback"),
    ("hedge", "condition"), ("hedge", "cooldown"),
    ("yield-position", "confirmation"), ("yield-position", "fallback"),
    ("daily-rebalance", "cron"),
    ("sync-exchange", "interval"),
    ("escalate-ticket", "delay"),
    ("escalate-workflow", "retry"), ("escalate-workflow", "delay"),
    ("after-workflow", "delay"),
    ("welcome", "cron"),
    ("remind", "delay"),
    ("cancel-order", "delay"),
    ("charge", "retry"), ("charge", "fallback"),
    ("defer-migration", "command"),
    ("health", "interval"),
    ("clean-up", "delay"),
    ("re-index", "interval"),
    ("weekly-backup", "cron"),
    ("daily-report", "cron"),
    ("new-tenant", "interval"), ("new-tenant", "cron"),
)  # fmt: skip
"""What the examples wait for: their delays, polls, retries, confirmations, fallbacks, and calendars."""
CONFIRMED, TIMED_OUT, CANCELLED = "confirmed", "timed out", "cancelled"
ENDS = {"succeeded", "failed", "timed_out", "dead_lettered", "cancelled", "dropped", "skipped"}
BEGIN = {
    "attempt_failed": "retry",
    "delayed": "poll",
    "awaiting_confirmation": "confirmation",
    "checking": "guard",
    "fallback_started": "fallback",
}
"""Events of an execution, and the wait that begins with each."""
END = {
    "confirmed": ("confirmation", CONFIRMED),
    "confirmation_timed_out": ("confirmation", TIMED_OUT),
    "conditions_met": ("guard", CONFIRMED),
}
AFTER_THE_END = {"confirmation_late", "report_refused"}


@dataclass
class Wait:
    """One wait; instants in microseconds of the store's clock."""

    example: str
    kind: str
    of: str
    """The stream of the execution, or the schedule, that waits."""
    begin: int
    asked: Row
    """The event that began it."""
    end: int | None = None
    outcome: str | None = None
    ended: Row | None = None
    """The event that ended it; a cooldown ends by itself."""

    def holds(self, at: float) -> bool:
        """Whether an instant, in seconds, is within it."""
        return self.end is not None and self.begin < at * 1e6 < self.end


@dataclass
class Reading:
    """The history, taken event by event."""

    waits: list[Wait] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By tenant and schedule."""
    named: dict[str, str] = field(default_factory=dict)
    """The example of each of them."""
    began: dict[str, Row] = field(default_factory=dict)
    """By execution, its first event."""
    ended: dict[str, Row] = field(default_factory=dict)
    """By execution, its last one; what is missing here has not ended."""
    fell_back: set[str] = field(default_factory=set)
    attempts: Counter = field(default_factory=Counter)
    _open: dict[tuple[str, str], Wait] = field(default_factory=dict)
    _last: int = 0

    def take(self, row: Row) -> None:
        """Go on by one event."""
        self._last = row.recorded_at
        kind, _, name = row.name.removesuffix(".v1").partition(".")
        if kind == "command":
            command = row.data["command"]
            told = {"trigger": {"type": "once"}, "command": command}
            self._begin_schedule(row, told, COMMANDS[command])
        elif kind == "schedule":
            self._of_schedule(row, name)
        elif kind == "execution":
            self._of_execution(row, name)

    def all(self) -> list[Wait]:
        """Those that have ended, and those that go on."""
        self._close_cooldowns()
        return [*self.waits, *self._open.values()]

    def going_on(self) -> set[tuple[str, str]]:
        """What is waited for now."""
        self._close_cooldowns()
        return {(each.example, each.kind) for each in self._open.values()}

    # --- schedules --------------------------------------------------------------------------------

    def _of_schedule(self, row: Row, name: str) -> None:
        who = owner(row)
        if name == "created":
            self._begin_schedule(row, row.data["definition"], example_of(row))
        elif name in {"cancelled", "completed"}:
            for kind in (*CALENDARS, "condition", "command"):
                self._end(who, kind, row, CANCELLED)

    def _begin_schedule(self, row: Row, definition: dict, example: str) -> None:
        who = owner(row)
        if who in self.definitions:
            self.faults.append(("twice", f"{who} was created twice"))
        self.definitions[who], self.named[who] = definition, example
        type_ = definition["trigger"]["type"]
        kind = KINDS.get(type_, type_)
        if kind in CALENDARS | {"command", "condition"}:
            self._begin(who, kind, row, example)

    # --- executions -------------------------------------------------------------------------------

    def _of_execution(self, row: Row, name: str) -> None:
        id_ = row.stream
        if id_ in self.ended:
            if name not in AFTER_THE_END:
                self.faults.append(("twice", f"{id_}: {name} after {self.ended[id_].name}"))
            return
        if id_ not in self.began:
            self._occurs(row, name)
        example = self.named[owner(row)]
        if name in BEGIN and (name != "attempt_failed" or row.data.get("retry_at")):
            self._begin(id_, BEGIN[name], row, example)
        elif name in END:
            kind, outcome = END[name]
            self._must_end(id_, kind, row, outcome)
        elif name == "attempt_started":
            self.attempts[id_] += 1
            for kind in ("delay", "retry", "poll"):
                self._end(id_, kind, row, TIMED_OUT)
        elif name in ENDS:
            self._ends(row, name)
        if name == "fallback_started":
            self.fell_back.add(id_)

    def _occurs(self, row: Row, name: str) -> None:
        """The first event of an execution."""
        self.began[row.stream] = row
        who, kind = owner(row), KINDS.get(row.data["kind"], row.data["kind"])
        example = self.named[who]
        if kind == "command":
            self._must_end(who, kind, row, TIMED_OUT)
        elif kind in CALENDARS:
            self._end(who, kind, row, TIMED_OUT)
            self._begin(who, kind, row, example)
        elif kind == "condition" and name == "requested":
            self._end(who, kind, row, CONFIRMED)
            self._begin(who, kind, row, example)
            self._cool(who, row, example)
        elif (
            kind in {"event", "chain"} and name == "requested" and micros(row.data["due"]) > row.at
        ):
            self._begin(row.stream, "delay", row, example)

    def _ends(self, row: Row, name: str) -> None:
        id_ = row.stream
        self.ended[id_] = row
        good = {"succeeded": CONFIRMED, "dropped": CANCELLED, "cancelled": CANCELLED}
        self._end(id_, "fallback", row, good.get(name, TIMED_OUT))
        self._end(id_, "guard", row, CANCELLED)
        if name == "cancelled":
            for kind in ("delay", "retry", "poll", "confirmation"):
                self._end(id_, kind, row, CANCELLED)
        for (of, kind), wait in list(self._open.items()):
            if of == id_:
                self.faults.append(("lost", f"{wait.example}: {name} while its {kind} went on"))

    def _cool(self, who: str, row: Row, example: str) -> None:
        """A cooldown follows; one that goes on still should have kept it from firing."""
        self._close_cooldowns()
        if (who, "cooldown") in self._open:
            self.faults.append(("twice", f"{who} fired within its cooldown, at {row.position}"))
            self._end(who, "cooldown", row, CANCELLED)
        self._begin(who, "cooldown", row, example)

    def _close_cooldowns(self) -> None:
        for (who, kind), wait in list(self._open.items()):
            if kind == "cooldown":
                end = wait.asked.at + span(self.definitions[who]["trigger"]["cooldown"])
                if end <= self._last:
                    wait.end, wait.outcome = end, TIMED_OUT
                    self.waits.append(self._open.pop((who, kind)))

    # --- waits ------------------------------------------------------------------------------------

    def _begin(self, of: str, kind: str, row: Row, example: str) -> None:
        if (of, kind) in self._open:
            self.faults.append(("twice", f"{of} waits twice for its {kind}"))
        self._open[of, kind] = Wait(example, kind, of, row.recorded_at, row)

    def _end(self, of: str, kind: str, row: Row, outcome: str) -> bool:
        wait = self._open.pop((of, kind), None)
        if wait is None:
            return False
        wait.end, wait.outcome, wait.ended = row.recorded_at, outcome, row
        self.waits.append(wait)
        return True

    def _must_end(self, of: str, kind: str, row: Row, outcome: str) -> None:
        if not self._end(of, kind, row, outcome):
            self.faults.append(("twice", f"{of}: {row.name} where nobody waited for its {kind}"))


def owner(row: Row) -> str:
    """The schedule of an event, with its tenant."""
    return f"{row.data.get('tenant', 'default')}/{row.data['schedule_id']}"


def example_of(row: Row) -> str:
    """The example that a schedule belongs to."""
    tenant, _, id_ = owner(row).partition("/")
    if tenant != "default":
        return "new-tenant"
    found = (name for prefix, name in FAMILIES.items() if id_.startswith(prefix))
    return next(found, PARTS.get(id_, id_))
