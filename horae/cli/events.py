"""`horae event publish`: say that something has happened elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from horae.cli.options import AsJson, Nats, Tenant
from horae.cli.output import print_json, print_line

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What happens elsewhere.")


@app.callback()
def group() -> None:
    """Keep `publish` a command of its own."""


@app.command()
def publish(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Such as trade.submitted.")],
    data: Annotated[str, typer.Option(metavar="JSON", help="What is said of it.")] = "null",
    id_: Annotated[
        str | None,
        typer.Option("--id", help="The same id is the same event; a new one unless told."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="When it happened; now unless told.")
    ] = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Publish an external event to the schedules and executions that listen for it."""
    from horae.cli.session import command, given, read_json_value

    told = given(id=id_, source=source, time=time)
    body = {"type": type_, "data": read_json_value(data, "--data"), **told}
    answer = command(nats, tenant, "event.publish", body)
    if as_json:
        print_json(answer)
    elif answer["duplicate"]:
        print_line(f"{answer['id']} was recorded before")
    elif answer["recorded"]:
        print_line(f"{answer['id']} recorded")
    else:
        print_line(f"{answer['id']}: nobody listens for {type_}")
