"""Rows as they are answered: the JSON objects of the interface."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from horae_domain.definition import Definition
from horae_domain.durations import format_duration, parse_duration
from horae_domain.events import COMMAND
from horae_domain.instants import format_instant, parse_instant
from horae_domain.timers import of_execution
from horae_domain.tracing import trace_id
from horae_projections import planned, sagas
from horae_projections.hiding import without_secrets
from horae_projections.rows import Attempt, Counts, DecisionRow, ExecutionRow, ScheduleRow

LARGE = 4096
"""Bytes of JSON over which a list leaves a result out."""

WAITING = {"active": "scheduled", "pending": "scheduled", "paused": "paused"}
"""How a command is called that waits for its instant, by the status of its schedule."""

AGAIN = {"retry", "poll"}
"""What a delayed execution waits for that has been tried before."""

TRIGGERS = {"calendar": "cron", "key": "manual", "chain": "outcome"}
"""The trigger, as handlers are told it, of the kinds of identity that are named otherwise."""


def instant(value: datetime | None) -> str | None:
    """The wire form of an instant, or null."""
    return None if value is None else format_instant(value)


def _millis(first: datetime | None, last: datetime | None) -> float | None:
    if first is None or last is None:
        return None
    return round((last - first).total_seconds() * 1000, 3)


def plain(value: Any) -> Any:
    """JSON values of what a row may hold, such as times."""
    return msgspec.to_builtins(value)


# --- schedules -----------------------------------------------------------------------------------


_LEAST = {"trigger": {"type": "manual"}, "action": {"type": "queue", "queue": "q"}}


@cache
def _defaults(trigger: str, action: str) -> dict[str, Any]:
    """The full form of a definition that says nothing but the kinds of its trigger and action."""
    least: dict[str, dict[str, Any]] = {
        "cron": {"expression": "0 0 * * *"},
        "interval": {"every": 60},
        "once": {"after": 0},
        "manual": {},
        "event": {"event": "e"},
        "outcome": {"schedule": "s"},
        "condition": {"check": "c"},
        "rrule": {"rule": "FREQ=DAILY"},
        "function": {"name": "f"},
        "queue": {"queue": "q"},
        "process": {"command": ["c"]},
        "command": {"service": "s", "command": "c"},
        "http": {"url": "https://h"},
        "steps": {"steps": [{"name": "s", "action": {"type": "queue", "queue": "q"}}]},
        "none": {},
        "schedule": {"template": _LEAST},
    }
    definition = Definition.model_validate(
        {
            "id": "i",
            "trigger": {"type": trigger, **least[trigger]},
            "action": {"type": action, **least[action]},
            "wait_for": {"event": "e", "match": {"p": 1}} if action == "none" else None,
        }
    )
    full = definition.model_dump(mode="json")
    if action == "none":
        full["wait_for"] = None
    if trigger == "once":
        full["trigger"]["after"] = None
    return full


NOTHING_YET = Counts()

_OPEN = {"metadata", "payload", "template"}
"""Parts of a definition that are the user's own: nothing is filled in."""


def _filled(default: Any, told: Any) -> Any:
    if not isinstance(default, dict) or not isinstance(told, dict):
        return told
    merged = {name: _copy(value) for name, value in default.items()}
    for name, value in told.items():
        merged[name] = value if name in _OPEN else _filled(default.get(name), value)
    return merged


def _copy(value: Any) -> Any:
    return _filled(value, {}) if isinstance(value, dict) else value


def definition_of(id_: str, row: ScheduleRow) -> dict[str, Any]:
    """The whole definition, with its defaults and its id."""
    told = row.told
    full = _filled(_defaults(told["trigger"]["type"], told["action"]["type"]), told)
    full["id"] = id_
    full["name"] = full["name"] or id_
    return full  # type: ignore[no-any-return]


def schedule(id_: str, tenant: str, row: ScheduleRow, now: datetime) -> dict[str, Any]:
    """A schedule as `schedule.get` and `schedule.list` answer it."""
    counts = row.counts or NOTHING_YET
    definition = definition_of(id_, row)
    cooldown = _cooldown(counts, now)
    definition["payload"] = without_secrets(definition["action"].get("name"), definition["payload"])
    return definition | {
        "tenant": tenant,
        "status": status_of(row, now),
        "note": row.note or "",
        "paused_at": instant(row.pause.at) if row.pause else None,
        "paused_by": row.pause.by if row.pause else None,
        "tripped": row.pause is not None and row.pause.tripped,
        "revision": row.revision,
        "created_at": instant(row.created_at),
        "created_by": row.created_by,
        "causation_id": row.causation_id,
        "changed_at": instant(row.changed_at or row.created_at),
        "next_due": instant(row.fires_at),
        "planned": planned.answer(row, now),
        "last_due": instant(row.last_due),
        "last_execution_id": row.last_execution_id,
        "cooldown_until": instant(cooldown),
        "cooldown_left": (cooldown - now).total_seconds() if cooldown else 0.0,
        "last_check": _last_check(counts),
        "running": counts.running,
        "buffered": counts.buffered,
        "held": counts.held,
        "waiting": counts.waiting,
        "statistics": {
            "fired": counts.fired,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "timed_out": counts.timed_out,
            "cancelled": counts.cancelled,
            "skipped": counts.skipped,
            "missed": counts.missed,
            "dead": counts.dead,
        },
    }


def _cooldown(counts: Counts, now: datetime) -> datetime | None:
    """Until when nothing fires because something has; None if that is over."""
    until = counts.cooldown_until
    return until if until is not None and until > now else None


def _last_check(counts: Counts) -> dict[str, Any] | None:
    """When the check of the schedule last answered otherwise than before, and how."""
    if counts.checked is None:
        return None
    at, outcome, error = counts.checked
    return {"at": instant(at), "outcome": outcome, "error": error}


def status_of(row: ScheduleRow, now: datetime) -> str:
    """Where a schedule stands: `pending` ends with `start_at`."""
    start = row.told.get("start_at") if row.status == "pending" else None
    if start and parse_instant(start, field="start_at") <= now:
        return "active"
    return row.status


# --- executions ----------------------------------------------------------------------------------


def execution(
    id_: str, row: ExecutionRow, *, whole: bool = True, now: datetime | None = None
) -> dict[str, Any]:
    """An execution; in a list without logs, timeline, stacks, and a large result."""
    answer: dict[str, Any] = {
        "id": id_,
        "schedule_id": row.schedule_id,
        "status": row.status,
        "due": instant(row.due),
        "nominal": row.nominal,
        "moved_to": instant(row.moved_to),
        "note": row.plan_note,
        "planned_by": row.planned_by,
        "backfill_id": row.backfill_id,
        "trigger": _trigger(row, whole=whole),
        "run_number": row.run_number,
        "requested_at": instant(row.requested_at),
        "started_at": instant(row.first_started_at),
        "finished_at": instant(row.ended_at),
        "lateness_ms": _millis(row.moved_to or row.due, row.first_started_at),
        "attempts": [_attempt(each, whole=whole) for each in row.attempts],
        "next_retry_at": instant(_resumes_at(row)),
        "stopping": "stop" in row.timers,
        "result": plain(row.result),
        "reason": row.reason,
        "blocked_by": row.blocked_by,
        "revision": row.revision,
        "priority": row.priority,
        "queue": row.queue,
        "metadata": plain(row.metadata),
        "correlation_id": row.correlation_id,
        "trace_id": trace_id(id_, row.traceparent),
    } | plain(sagas.answer(row, now))
    if whole:
        answer["payload"] = plain(row.payload)
        answer["logs"] = plain(row.logs)
        answer["timers"] = [
            {"id": str(of_execution(kind, id_, row.attempt)), "kind": kind, "due": instant(at)}
            for kind, at in sorted(row.timers.items(), key=lambda each: each[1])
        ]
        answer["timeline"] = [
            {"at": instant(at), "event": event, "detail": detail}
            for at, event, detail in row.timeline
        ]
    elif row.result is not None and len(msgspec.json.encode(row.result)) > LARGE:
        answer["result"] = None
    return answer


def _trigger(row: ExecutionRow, *, whole: bool) -> dict[str, Any]:
    """Why it runs; in a list without the data of an event."""
    told = {"kind": TRIGGERS.get(row.kind, row.kind), "nominal": row.nominal, **row.trigger}
    if row.kind in {"event", "chain"}:
        at = parse_instant(row.trigger["at"], field="at")
        told["delay"] = format_duration(row.due - at)
    if not whole:
        told.pop("data", None)
    return plain(told)  # type: ignore[no-any-return]


def _resumes_at(row: ExecutionRow) -> datetime | None:
    return next((at for kind, at in row.timers.items() if kind in AGAIN), None)


def _attempt(attempt: Attempt, *, whole: bool) -> dict[str, Any]:
    error = attempt.error
    if error is not None and not whole:
        error = {name: value for name, value in error.items() if name != "stack"}
    return {
        "number": attempt.number,
        "delivery": attempt.delivery,
        "stage": attempt.stage or None,
        "worker": attempt.worker,
        "started_at": instant(attempt.started_at),
        "finished_at": instant(attempt.finished_at),
        "duration_ms": _millis(attempt.started_at, attempt.finished_at),
        "outcome": attempt.outcome,
        "error": plain(error),
    }


# --- commands ------------------------------------------------------------------------------------


def command(id_: str, tenant: str, row: ScheduleRow, run: ExecutionRow | None) -> dict[str, Any]:
    """A scheduled command as `command.get` answers it, with its last run if there is one."""
    told = row.told
    status = WAITING.get(row.status) or (run.status if run is not None else row.status)
    error = next((each.error for each in reversed(run.attempts)), None) if run else None
    return {
        "id": id_,
        "tenant": tenant,
        "command": told["action"]["name"].removeprefix(COMMAND),
        "data": told.get("payload"),
        "execute_at": instant(row.next_due or row.last_due or _wanted(row)),
        "status": "skipped" if status == "completed" else status,
        "metadata": told.get("metadata", {}),
        "result": plain(run.result) if run else None,
        "error": plain(error),
        "correlation_id": row.correlation_id,
        "scheduled_at": instant(row.created_at),
        "scheduled_by": row.created_by,
        "execution_id": row.last_execution_id,
        "attempts": len(run.attempts) if run else 0,
        "finished_at": instant(run.ended_at) if run else None,
    }


def _wanted(row: ScheduleRow) -> datetime:
    """When a command that was never due was wanted."""
    trigger = row.told["trigger"]
    if "at" in trigger:
        return parse_instant(trigger["at"], field="at")
    return row.created_at + parse_duration(trigger.get("after", 0), field="after")


def decision(row: DecisionRow) -> dict[str, Any]:
    """A range or a change in a schedule's history."""
    facts = {
        name: format_instant(value) if isinstance(value, datetime) else plain(value)
        for name, value in row.facts.items()
    }
    return {
        "event": row.event,
        "status": row.status,
        "at": instant(row.at),
        "schedule_id": row.schedule_id,
    } | facts
