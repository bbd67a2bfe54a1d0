"""One attempt of an execution, as whoever does it is told."""

from __future__ import annotations

from typing import Any

import msgspec

from horae_application.work import Work
from horae_domain import stages, waits
from horae_domain.definition import Definition
from horae_domain.durations import format_duration
from horae_domain.execution import Execution, Status
from horae_domain.instants import format_instant, parse_instant
from horae_domain.ledger import Line
from horae_domain.tracing import traceparent_of
from horae_domain.triggers import CronTrigger, IntervalTrigger, RruleTrigger


def work_of(line: Line, run: Execution) -> Work:
    """One attempt of an execution for whoever does it: the one handed over, or the next."""
    definition = line.definition_of(run)
    command = stages.command_of(definition, run)
    assert command is not None  # noqa: S101 - nothing else is handed out
    running = run.status is Status.RUNNING
    limit, silence = definition.timeout.start_to_close, definition.timeout.heartbeat
    attempt = run.attempt if running else run.attempt + 1
    return Work(
        execution_id=run.id,
        schedule_id=run.schedule_id,
        tenant=run.tenant,
        attempt=attempt,
        lease=run.lease if running else f"{attempt}.1",
        due=run.due,
        action=command.action.model_dump(mode="json"),
        payload=command.payload,
        stage=command.stage,
        reason=run.because.reason if run.because else None,
        error=run.because.error if run.because else {},
        results=run.results,
        confirmations=[msgspec.to_builtins(each) for each in run.confirmations],
        polls=run.polls,
        waited=run.waited,
        wait_timeout=waits.limit(definition, run),
        queue=run.queue,
        priority=run.priority,
        revision=run.revision,
        run_number=run.run_number,
        trigger=_trigger_of(definition, run),
        timeout=limit.total_seconds() if limit is not None else None,
        heartbeat=silence.total_seconds() if silence is not None else None,
        next_due=line.fires_at,
        cooldown_until=line.cooldown_until,
        conditions=run.conditions,
        moved_to=run.moved_to,
        correlation_id=run.correlation_id,
        metadata=definition.metadata,
        traceparent=traceparent_of(run.id, run.traceparent),
        carried=run.carried,
    )


def _trigger_of(definition: Definition, run: Execution) -> dict[str, Any]:
    """Why it runs, as the handler is told."""
    if run.kind == "key":
        return {"kind": "manual", "key": run.nominal}
    if run.kind in {"event", "chain"}:
        kind = "event" if run.kind == "event" else "outcome"
        waited = run.due - parse_instant(run.trigger["at"], field="at")
        return {"kind": kind, **run.trigger, "delay": format_duration(waited)}
    if run.kind == "condition":
        return {"kind": "condition", **run.trigger}
    if run.backfill_id is not None:
        return {"kind": "backfill", "nominal": run.nominal, "backfill_id": run.backfill_id}
    facts: dict[str, str] = {}
    match definition.trigger:
        case CronTrigger(expression=expression, timezone=timezone):
            facts = {"expression": expression, "timezone": timezone}
        case RruleTrigger(rule=rule):
            facts = {"rule": rule}
        case IntervalTrigger(every=every):
            facts = {"every": format_duration(every)}
        case _:
            pass
    return {"kind": definition.trigger.type, "nominal": run.nominal, **facts, **_plan_of(run)}


def _plan_of(run: Execution) -> dict[str, str]:
    """What somebody planned for it."""
    told = {
        "moved_to": format_instant(run.moved_to) if run.moved_to else None,
        "note": run.note,
        "planned_by": run.planned_by,
    }
    return {name: value for name, value in told.items() if value}
