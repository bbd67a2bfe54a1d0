"""`horae occurrence …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Nats, Note, Tenant
from horae.cli.output import changed

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="One occurrence of a schedule, named by when it is nominally due.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the schedule.")]
At = Annotated[str, typer.Option(metavar="INSTANT", help="When it is nominally due.")]


@app.command()
def skip(
    id_: Id,
    at: At,
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let it not fire; drop it if it is held."""
    _plan("skip", {"id": id_, "at": at, "note": note}, nats, tenant, as_json)


@app.command()
def move(
    id_: Id,
    at: At,
    to: Annotated[str, typer.Option(metavar="INSTANT", help="When it is to fire instead.")],
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let it fire at another instant, earlier or later."""
    _plan("move", {"id": id_, "at": at, "to": to, "note": note}, nats, tenant, as_json)


@app.command()
def hold(
    id_: Id,
    at: At,
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let it wait for approval when it comes due."""
    _plan("hold", {"id": id_, "at": at, "note": note}, nats, tenant, as_json)


@app.command()
def approve(
    id_: Id,
    at: At,
    reject: Annotated[bool, typer.Option("--reject", help="Drop it instead.")] = False,
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let it fire although it is held or skipped."""
    body = {"id": id_, "at": at, "reject": reject, "note": note}
    _plan("approve", body, nats, tenant, as_json)


@app.command("set-payload")
def set_payload(
    id_: Id,
    at: At,
    payload: Annotated[str, typer.Option(metavar="JSON", help="Instead of the schedule's.")],
    note: Note = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let it run with a payload of its own."""
    from horae.cli.session import read_json_value

    value = read_json_value(payload, "payload")
    body = {"id": id_, "at": at, "payload": value, "note": note}
    _plan("set_payload", body, nats, tenant, as_json)


def _plan(name: str, body: dict[str, Any], nats: str | None, tenant: str, as_json: bool) -> None:
    from horae.cli.session import command

    changed(command(nats, tenant, f"occurrence.{name}", body), as_json)
