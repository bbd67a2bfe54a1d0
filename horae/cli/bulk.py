"""`horae schedule bulk`: one operation on all schedules that match."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Nats, Note, Tenant
from horae.cli.output import print_json, print_line

Json = dict[str, Any]


def bulk(
    operation: Annotated[
        str, typer.Argument(metavar="OPERATION", help="pause, resume, cancel, retag.")
    ],
    tag: Annotated[list[str] | None, typer.Option(help="Any of these; may be repeated.")] = None,
    status: Annotated[str | None, typer.Option(help="Of this status.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Of this type of trigger.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Other filters of a list.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All schedules of the tenant.")] = False,
    add: Annotated[list[str] | None, typer.Option("--add", help="A tag to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to remove.")] = None,
    note: Note = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change.")] = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Pause, resume, cancel or retag all schedules that match."""
    from horae.cli.session import command, given, read_json_value
    from horae_domain.errors import InvalidField

    told = read_json_value(filter_, "filter") if filter_ is not None else {}
    if not isinstance(told, dict):
        raise InvalidField("filters are a JSON object", field="--filter", value=filter_)
    told |= given(tags=tag, status=status, type=kind, name_contains=name)
    if bool(told) == all_:
        raise typer.BadParameter("either filters or --all")
    body: Json = {"operation": operation, "note": note, "dry_run": dry_run}
    body |= {"all": True} if all_ else {"filter": told}
    if add or remove:
        body["tags"] = {"add": add or [], "remove": remove or []}
    answer = command(nats, tenant, "schedule.bulk", body)
    if as_json:
        print_json(answer)
        return
    done = "would change" if dry_run else "changed"
    print_line(f"{answer['matched']} match, {answer['changed']} {done}, {answer['failed']} failed")
    for failure in answer["failures"]:
        print_line(f"{failure['id']}: {failure['error']['code']}: {failure['error']['message']}")
