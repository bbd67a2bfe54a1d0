"""Counts from a store, the ledger and the examples' own database what became of every wait.

`python -m tests.faults.sagas.check STORE_URL FOLDER` prints a table and one line of JSON, and ends with
1 if any promise was broken. Imports nothing of Horae.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from tests.faults.decisions import Findings, check_decisions
from tests.faults.history import Row, read_history, stream_of
from tests.faults.journal import read
from tests.faults.oracle import micros
from tests.faults.outcomes import check_streams
from tests.faults.sagas.table import first, shown
from tests.faults.sagas.waits import (
    CALENDARS,
    CANCELLED,
    CONFIRMED,
    EXAMPLES,
    TIMED_OUT,
    WANTED,
    Reading,
    Wait,
    owner,
)

KINDS = (
    "unmet", "twice", "lost", "wrong", "effect", "acked_lost", "dup_fire", "ghost", "versions",
    "order", "exit",
)  # fmt: skip
TARGETS = ("engine", "executor", "nats")
EVENT = "external_event.received.v1"
EFFECTS = {
    "confirm-transfer": (r"\S+ is confirmed \d+ times", r"\S+ is not confirmed: PollLimit"),
    "hedge": (r"hedged at 0\.08", None),
    "yield-position": (r"t-\S+ yields 0\.04", r"\S+ is unwound: confirmation_not_received"),
    "escalate-ticket": (r"ticket \S+ is open for two days", None),
    "escalate-workflow": (r"still broken: a step .* has failed", None),
    "after-workflow": (r"the workflow is done", None),
    "onboarding-mail": (r"mail \d to \S+", None),
    "remind": (r"offer \S+ is not answered", None),
    "cancel-order": (r"order \S+", None),
    "charge": (None, r"\d+ by empty: Http503"),
    "Migrate": (r"t-\d+ at \d\d:\d\d", None),
    "clean-up": (r"p-\d+: \d+ days", None),
    "re-index": (r"\d+ tables", None),
    "weekly-backup": (r"orders \w+", None),
    "daily-report": (r"sales of .*", None),
    "daily-rebalance": (r"A on \w+", None),
    "sync-exchange": (r"\w+ \d+", None),
}
"""What is written down by a schedule's handler, and by its fallback; None for nothing."""
ONCE = {"transfers", "positions", "escalations", "reminders", "cancelled", "unpaid", "clean-ups",
        "mails", "migrations"}  # fmt: skip
"""Kinds of which no two are the same."""


class Left(NamedTuple):
    """What a run leaves behind: the history, what handlers, clients and the harness have noted, and
    what the examples have written down, as (execution, kind, text)."""

    rows: list[Row]
    notes: list[dict]
    intents: list[dict]
    faults: list[dict]
    done: list[tuple[str, str, str]]


def left(url: str, folder: Path) -> Left:
    """What is in a store and in a folder."""
    noted = [read(folder / name) for name in ("ledger", "intent.log", "faults.log")]
    with sqlite3.connect(folder / "sagas" / "sagas.db") as database:
        done = database.execute("SELECT id, kind, text FROM done").fetchall()
    return Left(read_history(url).rows, *noted, done)


class Checked:
    """What a run has left behind, and what is wrong with it."""

    def __init__(self, run: Left) -> None:
        self.rows, self.notes, self.intents, faults, self.done = run
        self.marks = {each["what"]: each for each in faults}
        self.kills = [each for each in faults if each["what"] == "kill"]
        self.findings = Findings()
        self.reading = Reading()
        for row in self.rows:
            self.reading.take(row)
        self.events = [row for row in self.rows if row.name == EVENT]

    def all(self) -> None:
        """Every promise."""
        for kind, text in self.reading.faults:
            self.findings.add(kind, text)
        check_streams(self.rows, self.findings)
        self._calendars()
        self._waits_ended()
        for wait in self.reading.waits:
            self._outcome(wait)
        self._events()
        self._chains()
        self._effects()
        for name, code in self.marks["stopped"]["codes"].items():
            if code != 0:
                self.findings.add("exit", f"{name} ended with {code}")
        for example, kind in WANTED:
            if not any(self.met(wait) for wait in self.of(example, kind)):
                self.findings.add("unmet", f"no kill fell into a {kind} of {example}")

    def of(self, example: str, kind: str) -> list[Wait]:
        """The waits of a kind."""
        return [each for each in self.reading.all() if (each.example, each.kind) == (example, kind)]

    def met(self, wait: Wait) -> list[dict]:
        """The kills within a wait."""
        return [kill for kill in self.kills if wait.holds(kill["at"])]

    # --- waits ------------------------------------------------------------------------------------

    def _calendars(self) -> None:
        """Every occurrence of the calendars has one decision."""
        told = {
            who
            for who, definition in self.reading.definitions.items()
            if definition["trigger"]["type"] in CALENDARS
        }
        rows = [
            row._replace(data=row.data | {"schedule_id": owner(row)})
            for row in self.rows
            if "schedule_id" in row.data and owner(row) in told
        ]
        frontier, end = (round(self.marks[name]["wall"] * 1e6) for name in ("frontier", "stopped"))
        check_decisions(rows, frontier, end, self.findings)

    def _waits_ended(self) -> None:
        """What began before the frontier has its outcome; calendars and the weather go on."""
        for wait in self.reading.all():
            if wait.outcome is None and wait.kind not in {*CALENDARS, "condition", "cooldown"}:
                self.findings.add(
                    "lost", f"{wait.example}: its {wait.kind} never ended ({wait.of})"
                )
        for stream, row in self.reading.began.items():
            if stream not in self.reading.ended and owner(row).startswith("default/"):
                self.findings.add("lost", f"{owner(row)}: {row.data['execution_id']} never ended")

    def _outcome(self, wait: Wait) -> None:
        """The outcome is the one that follows from what was recorded before its time was over."""
        if wait.kind == "confirmation":
            self._confirmation(wait)
        elif wait.kind == "delay":
            self._delay(wait)
        elif wait.kind in {"retry", "poll"} and wait.outcome == TIMED_OUT:
            until = micros(wait.asked.data.get("retry_at") or wait.asked.data["until"])
            self._not_before(wait, until)
        elif wait.kind == "guard" and not _crowded_out(wait):
            due = micros(wait.asked.data["due"]) // 1_000_000
            wanted = CONFIRMED if due // 6 % 2 == 0 else CANCELLED
            self._is(wait, wanted, "by the market's hours")

    def _confirmation(self, wait: Wait) -> None:
        """Confirmed if what it waits for was received before its deadline, else timed out."""
        (awaited,) = wait.asked.data["waits"]
        deadline = micros(wait.asked.data["deadline"])
        began = self.reading.began[wait.of].position
        came = [
            event
            for event in self.events
            if event.data["type"] == awaited["event"]
            and event.position > began
            and event.at < deadline
            and event.recorded_at <= wait.end
            and awaited["match"].items() <= event.data["data"].items()
        ]
        if wait.outcome == CANCELLED:
            return  # by somebody's command; that it did not end twice is counted
        self._is(wait, CONFIRMED if came else TIMED_OUT, f"{len(came)} events came in time")
        if wait.outcome == TIMED_OUT:
            self._not_before(wait, deadline)

    def _delay(self, wait: Wait) -> None:
        """Cancelled if the event that ends it was received before it was due, else it went on.

        What is due and has not begun, because a process is down, may be ended by it still.
        """
        definition = self.reading.definitions[owner(wait.asked)]
        due = micros(wait.asked.data["due"])
        came = [event for event in self.events if _ends_it(event, wait, definition)]
        before = [event for event in came if event.at < due]
        if wait.outcome == TIMED_OUT:
            self._is(wait, CANCELLED if before else TIMED_OUT, f"{len(before)} events came before")
            self._not_before(wait, due)
        elif wait.ended.data.get("event_id") not in {event.data["id"] for event in came}:
            self._is(wait, TIMED_OUT, "by no event")

    def _is(self, wait: Wait, wanted: str, why: str) -> None:
        if wait.outcome != wanted:
            text = f"{wait.example}: a {wait.kind} ended as {wait.outcome}, {why} ({wait.of})"
            self.findings.add("wrong", text)

    def _not_before(self, wait: Wait, until: int) -> None:
        if wait.end < until:
            self.findings.add("wrong", f"{wait.example}: a {wait.kind} ended before its time")

    # --- events -----------------------------------------------------------------------------------

    def _events(self) -> None:
        """Each event that was answered is recorded, and made each listener fire once."""
        recorded = Counter(event.data["id"] for event in self.events)
        for intent in self.intents:
            published = intent["op"] == "event.publish" and intent["outcome"] == "ok"
            if published and recorded[intent["event"]] != intent["reply"]["recorded"]:
                self.findings.add("acked_lost", f"{intent['event']} {intent['type']}")
        fired = Counter(
            (owner(row), row.data["trigger"]["id"])
            for row in self.reading.began.values()
            if row.data["kind"] == "event"
        )
        for who, definition in self.reading.definitions.items():
            trigger = definition["trigger"]
            for event in self.events:
                if trigger["type"] == "event" and trigger["event"] == event.data["type"]:
                    self._once(fired[who, event.data["id"]], f"{who} for {event.data['id']}")

    def _once(self, count: int, of: str) -> None:
        if count == 0:
            self.findings.add("lost", of)
        elif count > 1:
            self.findings.add("dup_fire", f"{of}: {count} times")

    def _chains(self) -> None:
        """What follows from an outcome, and what a handler makes, is there once for each."""
        followed = Counter(
            (owner(row), stream_of(row.data["trigger"]["execution_id"]))
            for row in self.reading.began.values()
            if row.data["kind"] == "chain"
        )
        ends = defaultdict(list)
        for stream, row in self.reading.ended.items():
            ends[owner(row).removeprefix("default/"), row.name.split(".")[1]].append(row)
            outcome = row.name.split(".")[1]
            if owner(row) == "default/workflow" and outcome != "skipped":
                follower = "after-workflow" if outcome == "succeeded" else "escalate-workflow"
                self._once(followed[f"default/{follower}", stream], f"{follower} of {stream}")
        users = sum(who.startswith("default/onboarding-") for who in self.reading.definitions)
        tenants = sum(not who.startswith("default/") for who in self.reading.definitions)
        scheduled = Counter(
            row.data["command"] for row in self.rows if row.name.startswith("command.")
        )
        self._same(scheduled["Migrate"], len(ends["defer-migration", "succeeded"]), "migrations")
        self._same(users, len(ends["welcome", "succeeded"]), "schedules of users")
        self._same(tenants, 2 * len(ends["new-tenant", "succeeded"]), "schedules of tenants")

    def _same(self, count: int, wanted: int, of: str) -> None:
        if count != wanted:
            self.findings.add(
                "lost" if count < wanted else "dup_fire", f"{of}: {count}, not {wanted}"
            )

    # --- effects ----------------------------------------------------------------------------------

    def _effects(self) -> None:
        """What was to be done is done once, as its outcome says, and nothing else."""
        by_run = defaultdict(list)
        for id_, _, text in self.done:
            by_run[stream_of(id_)].append(text)
        for stream, row in self.reading.began.items():
            wanted, found = self._effect_of(row), by_run.pop(stream, [])
            ended = self.reading.ended.get(stream)
            if ended is None or ended.name != "execution.succeeded.v1":
                if found and not self.reading.attempts[stream]:
                    self.findings.add("effect", f"{stream} never began, and did {found}")
            elif wanted is None and found:
                self.findings.add("effect", f"{stream} did {found}")
            elif wanted is not None and not (
                len(found) == 1 and re.fullmatch(wanted, found[0], re.DOTALL)
            ):
                self.findings.add("effect", f"{owner(row)} {stream} did {found}, not {wanted}")
        for stream, found in by_run.items():
            self.findings.add("ghost", f"{stream} is in no store, and did {found}")
        texts = Counter((kind, text) for _, kind, text in self.done if kind in ONCE)
        for (kind, text), times in texts.items():
            if times > 1:
                self.findings.add("effect", f"{kind}: {text}, {times} times")
        self._ledger()

    def _effect_of(self, row: Row) -> str | None:
        """What an execution that succeeded has written down."""
        definition = self.reading.definitions[owner(row)]
        schedule = row.data["schedule_id"]
        if "command" in definition:
            schedule = definition["command"]
        if schedule.startswith("onboarding-"):
            schedule = "onboarding-mail"
        if schedule.startswith("sync-"):
            schedule = "sync-exchange"
        of = EFFECTS.get(schedule, (None, None))
        return of[row.stream in self.reading.fell_back]

    def _ledger(self) -> None:
        """What is in the database was done by a handler that noted it."""
        noted = {
            (each["execution"], each["text"]) for each in self.notes if each["what"] == "start"
        }
        for id_, kind, text in self.done:
            if (id_, text) not in noted:
                self.findings.add("ghost", f"{kind}: {text} by no handler of the ledger")

    # --- the report -------------------------------------------------------------------------------

    def table(self) -> list[dict]:
        """Each kind of wait: how many, how many were hit, by what, when, and how they ended."""
        lines = []
        for example, kind in sorted(
            {(each.example, each.kind) for each in self.reading.all()},
            key=lambda key: (EXAMPLES.index(key[0]), key[1]),
        ):
            waits = [each for each in self.of(example, kind) if each.outcome is not None]
            hits = [(wait, kill) for wait in waits for kill in self.met(wait)]
            hits.sort(key=lambda hit: TARGETS.index(hit[1]["target"]))
            lines.append(
                {
                    "example": example,
                    "wait": kind,
                    "waits": len(waits),
                    "hit": len({id(wait) for wait, _ in hits}),
                    "killed": Counter(kill["target"] for _, kill in hits),
                    "first": first(*hits[0]) if hits else None,
                    "ends": Counter(wait.outcome for wait in waits),
                    "ends_of_hit": Counter(wait.outcome for wait, _ in hits),
                }
            )
        return lines

    def report(self) -> dict:
        """Everything, for a program."""
        return {
            "events": len(self.rows),
            "executions": len(self.reading.began),
            "handler_starts": sum(each["what"] == "start" for each in self.notes),
            "commands": Counter(
                each["outcome"] for each in self.intents if each["outcome"] != "sent"
            ),
            "kills": Counter(each["target"] for each in self.kills),
            "waits": self.table(),
            "violations": {
                kind: self.findings.found[kind] for kind in KINDS if self.findings.found[kind]
            },
        }


def _ends_it(event: Row, wait: Wait, definition: dict) -> bool:
    """Whether an event is the one that ends a delayed execution."""
    ends = definition.get("cancel_on")
    if ends is None or event.data["type"] != ends["event"] or event.position < wait.asked.position:
        return False
    ((path, place),) = ends["match"].items()
    value = wait.asked.data
    for name in place.split("."):
        value = value[name]
    return event.data["data"][path] == value


def _crowded_out(wait: Wait) -> bool:
    """Whether something else took its place before its condition was known."""
    return wait.outcome == CANCELLED and wait.ended.data["reason"] == "overlap"


def main() -> int:
    """Check a run that has ended."""
    checked = Checked(left(sys.argv[1], Path(sys.argv[2])))
    checked.all()
    report = checked.report()
    print(shown(report, KINDS))
    print(json.dumps(report))
    return bool(report["violations"])


if __name__ == "__main__":
    sys.exit(main())
