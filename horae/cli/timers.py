"""`horae timers …`."""

from __future__ import annotations

from operator import itemgetter
from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Cursor, Limit, Nats, Note, Since, Tenant, Until
from horae.cli.output import print_answer, print_page

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Everything that waits, by name."
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the timer, as `list` shows it.")]


@app.command("list")
def list_(
    schedule: Annotated[str | None, typer.Option(metavar="ID", help="Of this schedule.")] = None,
    execution: Annotated[str | None, typer.Option(metavar="ID", help="Of this execution.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="schedule, moved, held, backfill, cooldown, look, retry, poll, delay, check, "
            "schedule_to_start, start_to_close, overall, heartbeat, stop, confirmation; several "
            "with commas."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List what waits, the soonest first."""
    from horae.cli.session import given, query

    body = given(
        schedule_id=schedule, execution_id=execution, kind=kind, limit=limit, cursor=cursor,
        **{"from": since, "to": until},
    )  # fmt: skip
    print_page(
        query(nats, tenant, "timer.list", body),
        "timers",
        ("DUE", "KIND", "SCHEDULE", "ID"),
        itemgetter("due", "kind", "schedule_id", "id"),
        as_json=as_json,
        whole=("ID",),
    )


@app.command()
def move(
    id_: Id,
    to: Annotated[str, typer.Option(metavar="INSTANT", help="When it is to come instead.")],
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let a timer come at another instant, sooner or later."""
    _change("timer.move", {"id": id_, "to": to, "note": note}, nats, tenant, as_json)


@app.command()
def cancel(
    id_: Id,
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let a timer not come: skip an occurrence, give up a retry, lift a timeout."""
    _change("timer.cancel", {"id": id_, "note": note}, nats, tenant, as_json)


def _change(name: str, body: dict[str, Any], nats: str | None, tenant: str, as_json: bool) -> None:
    from horae.cli.session import command

    answer = command(nats, tenant, name, body)
    due = f", due {answer['due']}" if answer["due"] else ""
    text = f"timer {answer['id']}: {answer['kind']}{due}, {answer['status']}"
    print_answer(answer, text, as_json=as_json)
