"""`horae execution …`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Cursor, Nats, Since, Tenant, Until
from horae.cli.output import (
    cell,
    error_text,
    print_answer,
    print_facts,
    print_json,
    print_line,
    print_page,
    print_table,
)
from horae.cli.waits import wait_facts, waits_for

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Executions: what has run.")

Id = Annotated[str, typer.Argument(metavar="ID")]
Json = dict[str, Any]

_EXTRA = ("TRIES", "TOOK", "WAITS FOR")
_OF_RUNS = ("STATUS", "DUE", *_EXTRA)


@app.command("list")
def list_(
    schedule: Annotated[str | None, typer.Option(metavar="ID", help="Of this schedule.")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="pending, delayed, buffered, held, checking, running, waiting, succeeded, failed, "
            "timed_out, cancelled, skipped, dead; with commas."
        ),
    ] = None,
    queue: Annotated[str | None, typer.Option(help="In this queue.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What made it run: cron, interval, once, rrule, manual, backfill, event, outcome, "
            "condition; with commas."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List executions, the latest due first."""
    from horae.cli.session import given, query

    body = given(
        schedule_id=schedule, status=status, queue=queue, kind=kind, limit=limit,
        cursor=cursor, **{"from": since, "to": until},
    )  # fmt: skip
    executions_page(query(nats, tenant, "execution.list", body), "executions", as_json=as_json)


def executions_page(answer: Json, listed: str, *, as_json: bool) -> None:
    """A page of executions, one a line."""
    columns = ("ID", "SCHEDULE", *_OF_RUNS)
    print_page(answer, listed, columns, _row, as_json=as_json, whole=("ID",), extra=_EXTRA)


def runs_table(executions: Iterable[Json]) -> None:
    """Executions of one schedule, one a line."""
    rows = [(id_, *rest) for id_, _, *rest in map(_row, executions)]
    print_table(("ID", *_OF_RUNS), rows, whole=("ID",), extra=_EXTRA)


def _row(run: Json) -> tuple[object, ...]:
    attempts = run["attempts"]
    tried = len(attempts), _took(attempts)
    return run["id"], run["schedule_id"], run["status"], run["due"], *tried, waits_for(run)


def _took(attempts: list[Json]) -> str | None:
    lasted = attempts[-1]["duration_ms"] if attempts else None
    return None if lasted is None else f"{lasted:.0f} ms"


@app.command()
def show(id_: Id, nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show an execution with its attempts, its result and its timeline."""
    from horae.cli.session import query

    answer = query(nats, tenant, "execution.get", {"id": id_})
    if as_json:
        print_json(answer)
        return
    print_facts(
        {name: answer[name] for name in ("id", "schedule_id", "status", "due")}
        | _asked(answer)
        | {
            "late by": _late(answer),
            "run": answer["run_number"],
        }
        | wait_facts(answer)
        | {
            name: answer[name]
            for name in ("queue", "priority", "reason", "blocked_by", "next_retry_at", "trace_id")
        }
        | {name: answer[name] for name in ("payload", "result", "metadata")}
    )
    if answer["attempts"]:
        print_line()
        _show_attempts(answer["attempts"])
    print_line()
    for step in answer["timeline"]:
        print_line(f"{cell(step['at'])}  {step['event']}  {_detail(step['detail'])}".rstrip())


def _show_attempts(attempts: list[Json]) -> None:
    """A table of them; with several steps, a wait or a fallback it says whose each one was."""
    staged = any(each["stage"] for each in attempts)
    print_table(
        ("TRY", *(["STAGE"] if staged else []), "OUTCOME", "STARTED", "TOOK", "ERROR"),
        [
            (
                each["number"], *([each["stage"]] if staged else []), each["outcome"],
                each["started_at"], _took([each]), error_text(each) or None,
            )
            for each in attempts
        ],
    )  # fmt: skip


def _asked(answer: Json) -> Json:
    """By the calendar for a nominal time, or by somebody who triggered it under a key."""
    if answer["trigger"]["kind"] == "manual":
        return {"trigger": "manual", "key": answer["nominal"]}
    return {"nominal": answer["nominal"], "trigger": answer["trigger"]["kind"]}


def _late(answer: Json) -> str | None:
    late = answer["lateness_ms"]
    return None if late is None else f"{late:.1f} ms"


def _detail(detail: object) -> str:
    if isinstance(detail, dict):
        return " ".join(f"{name}={cell(value)}" for name, value in detail.items())
    return "" if detail is None else cell(detail)


@app.command()
def logs(id_: Id, nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show what a handler logged, and the stacks of failed attempts."""
    from horae.cli.session import query

    answer = query(nats, tenant, "execution.logs", {"id": id_})
    if as_json:
        print_json({"ok": True, "id": id_, "logs": answer["logs"]})
        return
    for line in answer["logs"]:
        facts = " ".join(f"{name}={cell(value)}" for name, value in line.get("facts", {}).items())
        level = f"{line['level']}: " if "level" in line else ""
        print_line(f"{cell(line.get('at'))}  {level}{line.get('message', '')}  {facts}".rstrip())
    for attempt in answer["attempts"]:
        stack = (attempt.get("error") or {}).get("stack")
        if stack:
            print_line(f"\nattempt {attempt['number']}:\n{stack.rstrip()}")


@app.command()
def cancel(
    id_: Id,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the history.")] = "",
    graceful: Annotated[
        bool, typer.Option("--graceful", help="Let a running handler stop by itself.")
    ] = False,
    grace: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it may take; 30s unless told.")
    ] = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """End an execution before its outcome."""
    from horae.cli.session import command, given

    body = {"id": id_, "reason": reason} | given(grace=grace)
    if graceful or grace is not None:
        body["mode"] = "graceful"
    answer = command(nats, tenant, "execution.cancel", body)
    until = f", asked to stop by {answer['until']}" if answer.get("stopping") else ""
    print_answer(answer, f"execution {id_}: {answer['status']}{until}", as_json=as_json)


@app.command()
def retry(id_: Id, nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Try again what has ended without success, or now what waits for a retry."""
    from horae.cli.session import command

    answer = command(nats, tenant, "execution.retry", {"id": id_})
    text = f"execution {id_}: {answer['status']}, attempt {answer['attempt']}"
    print_answer(answer, text, as_json=as_json)


@app.command()
def reprioritize(
    id_: Id,
    priority: Annotated[
        str, typer.Argument(metavar="PRIORITY", help="low, medium, high, critical.")
    ],
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let an execution that waits do so under another priority."""
    from horae.cli.session import command

    answer = command(nats, tenant, "execution.reprioritize", {"id": id_, "priority": priority})
    text = f"execution {id_}: {answer['status']}, priority {answer['priority']}"
    print_answer(answer, text, as_json=as_json)
