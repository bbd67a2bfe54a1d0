"""`horae schedule …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.bulk import bulk
from horae.cli.definitions import create, patch, update
from horae.cli.executions import runs_table
from horae.cli.options import (
    AsJson,
    Cursor,
    Limit,
    Nats,
    Note,
    Since,
    Tenant,
    Until,
)
from horae.cli.output import (
    action_text,
    cell,
    changed,
    error_text,
    print_answer,
    print_facts,
    print_json,
    print_line,
    print_page,
    trigger_text,
)
from horae.cli.validation import validate

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Schedules: what fires when.")

app.command()(bulk)
app.command()(validate)
app.command()(create)
app.command()(update)
app.command()(patch)

Id = Annotated[str, typer.Argument(metavar="ID")]
Json = dict[str, Any]
ENDED_BADLY = ("failed", "timed_out", "dead")
"""The statistics that the column FAILED adds up."""


@app.command("list")
def list_(
    status: Annotated[
        str | None,
        typer.Option(help="pending, active, paused, completed, cancelled, failed; with commas."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="cron, interval, once, rrule, manual, event, outcome, condition, command; "
            "with commas.",
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Any of these; may be repeated.")] = None,
    all_tags: Annotated[
        list[str] | None, typer.Option("--all-tags", help="All of these; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    handler: Annotated[str | None, typer.Option(help="What it runs.")] = None,
    created_by: Annotated[str | None, typer.Option(help="Who has made it.")] = None,
    created_from: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Created from then; inclusive.")
    ] = None,
    created_to: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Created until then; inclusive.")
    ] = None,
    next_from: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Next due from then; inclusive.")
    ] = None,
    next_to: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Next due until then; inclusive.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="created, next_run, name, priority.")] = None,
    order: Annotated[str | None, typer.Option(help="asc, desc.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List schedules."""
    from horae.cli.session import given, query

    body = given(
        status=status, type=kind, tags=tag, tags_all=all_tags, name_contains=name, handler=handler,
        created_by=created_by, created_from=created_from, created_to=created_to,
        next_from=next_from, next_to=next_to, sort=sort, order=order, limit=limit, cursor=cursor,
    )  # fmt: skip
    print_page(
        query(nats, tenant, "schedule.list", body),
        "schedules",
        ("ID", "STATUS", "TRIGGER", "NEXT", "RUNS", "FAILED", "WAITING"),
        _row,
        as_json=as_json,
        whole=("ID", "NEXT"),
        extra=("WAITING",),
    )


def _row(schedule: Json) -> tuple[object, ...]:
    counts = schedule["statistics"]
    return (
        schedule["id"], schedule["status"], trigger_text(schedule["trigger"]),
        schedule["next_due"], counts["fired"], sum(counts[each] for each in ENDED_BADLY),
        schedule["waiting"],
    )  # fmt: skip


@app.command()
def show(id_: Id, nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show a schedule with its state, its next fire times and its last runs."""
    from horae.cli.session import query

    answer = query(nats, tenant, "schedule.get", {"id": id_, "count": 5, "executions": 5})
    if as_json:
        print_json(answer)
        return
    action = answer["action"]
    print_facts(
        {
            "id": answer["id"],
            "name": answer["name"],
            "status": _status(answer),
            "note": answer["note"],
            "trigger": trigger_text(answer["trigger"]),
            "action": action_text(action),
            "payload": answer["payload"],
            "tags": ", ".join(answer["tags"]),
            "revision": answer["revision"],
            "created": _created(answer),
            "counts": ", ".join(f"{n} {what}" for what, n in answer["statistics"].items() if n),
            "running": answer["running"] or None,
            "waiting": answer["waiting"] or None,
            "next": ", ".join(map(cell, answer["next"])),
            "check": check_text(answer["last_check"]),
            "cools until": answer["cooldown_until"],
        }
    )
    for each in answer["planned"]:
        print_line(f"planned  {planned_text(each)}")
    if answer.get("executions"):
        print_line()
        runs_table(answer["executions"])


def check_text(check: Json | None) -> str | None:
    """What the check of a condition has answered, and since when; None if it was not asked yet."""
    if check is None:
        return None
    error = f": {check['error']}" if check["error"] else ""
    return f"{check['outcome']} since {cell(check['at'])}{error}"


def planned_text(plan: Json) -> str:
    """What is planned for an occurrence, on one line."""
    told = [name for name in ("skipped", "held", "approved") if plan[name]]
    if plan["moved_to"]:
        told.insert(0, f"moved to {cell(plan['moved_to'])}")
    if "payload" in plan:
        told.append("payload of its own")
    by = f" by {plan['author']}" if plan["author"] else ""
    note = f": {plan['note']}" if plan["note"] else ""
    return f"{cell(plan['due'])}  {', '.join(told)}{by}{note}"


def _created(answer: Json) -> str:
    by = f" by {answer['created_by']}" if answer["created_by"] else ""
    return f"{cell(answer['created_at'])}{by}"


def _status(answer: Json) -> str:
    """The status; of a paused schedule with its author, and since when."""
    if answer["paused_at"] is None:
        return str(answer["status"])
    by = "by its failures" if answer["tripped"] else f"by {answer['paused_by'] or 'somebody'}"
    return f"{answer['status']} {by} since {cell(answer['paused_at'])}"


@app.command()
def preview(
    id_: Annotated[str | None, typer.Argument(metavar="ID")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="A definition, or a trigger.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many.")] = 10,
    from_: Annotated[str | None, typer.Option("--from", help="An instant, exclusive.")] = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show the next fire times of a schedule, or of a file that is not one yet."""
    from horae.cli.session import given, query, read_json_file

    if (id_ is None) == (file is None):
        raise typer.BadParameter("either ID or --file FILE")
    body = given(id=id_, count=count)
    if from_ is not None:
        body["from"] = from_
    if file is not None:
        content = read_json_file(file)
        trigger = content.get("trigger", content)
        names = ("dst", "start_at", "end_at", "calendars")
        kept = {name: content[name] for name in names if name in content}
        body |= kept | {"trigger": trigger}
    answer = query(nats, tenant, "schedule.preview", body)
    if as_json:
        print_json(answer)
        return
    for instant in answer["next"]:
        print_line(instant)
    if not answer["next"]:
        print_line("never")


@app.command()
def pause(
    id_: Id, note: Note = "", nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False
) -> None:
    """Fire nothing until resumed."""
    _noted("schedule.pause", id_, note, nats, tenant, as_json)


@app.command()
def resume(
    id_: Id, note: Note = "", nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False
) -> None:
    """Fire again."""
    _noted("schedule.resume", id_, note, nats, tenant, as_json)


@app.command()
def cancel(
    id_: Id, note: Note = "", nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False
) -> None:
    """End a schedule, and with it what has not started."""
    _noted("schedule.cancel", id_, note, nats, tenant, as_json)


@app.command()
def trigger(
    id_: Id,
    payload: Annotated[
        str | None, typer.Option(metavar="JSON", help="Instead of the schedule's.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The same key gives the same execution again.")
    ] = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Run a schedule now."""
    from horae.cli.session import command, given, read_json_value

    body = given(id=id_, key=key)
    if payload is not None:
        body["payload"] = read_json_value(payload, "payload")
    answer = command(nats, tenant, "schedule.trigger", body)
    reason = f", {answer['reason']}" if "reason" in answer else ""
    text = f"execution {answer['execution_id']}: {answer['status']}{reason}"
    print_answer(answer, text, as_json=as_json)


@app.command()
def skip(
    id_: Id,
    at: Annotated[str, typer.Option(metavar="INSTANT", help="When it is nominally due.")],
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let one occurrence not fire; the same as `horae occurrence skip`."""
    from horae.cli.session import command

    body = {"id": id_, "at": at, "note": note}
    changed(command(nats, tenant, "occurrence.skip", body), as_json)


@app.command()
def backfill(
    id_: Id,
    from_: Annotated[str, typer.Option("--from", metavar="INSTANT", help="Inclusive.")],
    to: Annotated[str, typer.Option(metavar="INSTANT", help="Inclusive, in the past.")],
    overlap: Annotated[
        str | None, typer.Option(help="buffer_all (one after another), allow, skip.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many there are.")
    ] = False,
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Run the occurrences of a past window again, with their own times."""
    from horae.cli.session import ask, given

    body = {"id": id_, "from": from_, "to": to, "note": note}
    body |= given(overlap=overlap, dry_run=dry_run or None)
    answer = ask(nats, tenant, lambda caller: caller.command("schedule.backfill", body, key=key))
    if as_json:
        print_json(answer)
        return
    what = "would run again" if dry_run else f"run again by backfill {answer['backfill_id']}"
    print_line(f"{id_}: {answer['count']} occurrences {what}, the first of {answer['first'][0]}")


@app.command()
def history(
    id_: Id,
    status: Annotated[str | None, typer.Option(help="Of executions, or missed, paused, …")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show what was decided for a schedule, the latest first."""
    from horae.cli.session import given, query

    body = given(id=id_, status=status, limit=limit, cursor=cursor, **{"from": since, "to": until})
    print_page(
        query(nats, tenant, "schedule.history", body),
        "history",
        ("DUE OR AT", "WHAT", "TRIES", "DETAIL"),
        _entry,
        as_json=as_json,
        whole=("DUE OR AT",),
        called="entries",
    )


def _entry(entry: Json) -> tuple[object, ...]:
    if entry["event"] != "execution":
        facts = {
            name: entry.get(name)
            for name in (
                "first",
                "last",
                "count",
                "revision",
                "due",
                "moved_to",
                "note",
                "reason",
                "actor",
            )
        }
        detail = " ".join(f"{name}={cell(v)}" for name, v in facts.items() if v not in (None, ""))
        return entry["at"], entry["status"] or entry["event"], None, detail
    attempts = entry["attempts"]
    detail = entry["reason"] or error_text(attempts[-1] if attempts else {})
    return entry["due"], entry["status"], len(attempts), f"{entry['id']} {detail}".strip()


def _noted(name: str, id_: str, note: str, nats: str | None, tenant: str, as_json: bool) -> None:
    from horae.cli.session import command

    changed(command(nats, tenant, name, {"id": id_, "note": note}), as_json)
