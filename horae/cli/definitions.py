"""`horae schedule create`, `update` and `patch`: what a schedule is."""

from __future__ import annotations

from typing import Annotated

import typer

from horae.cli.options import AllowUnknown, AsJson, DefinitionFile, Expected, Nats, Tenant
from horae.cli.output import changed

Id = Annotated[str, typer.Argument(metavar="ID")]


def create(
    file: DefinitionFile,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    allow_unknown: AllowUnknown = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Create a schedule; the same one again is accepted and changes nothing."""
    from horae.cli.session import ask, read_json_file

    body = read_json_file(file)
    if allow_unknown:
        body["allow_unknown"] = True
    answer = ask(nats, tenant, lambda caller: caller.command("schedule.create", body, key=key))
    changed(answer, as_json)


def update(
    id_: Id,
    file: DefinitionFile,
    expected_revision: Expected = None,
    allow_unknown: AllowUnknown = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Replace a schedule's whole definition."""
    from horae.cli.session import command, given, read_json_file
    from horae_domain.errors import InvalidField

    body = read_json_file(file)
    if body.setdefault("id", id_) != id_:
        raise InvalidField("the file is of another schedule", field="id", value=body["id"])
    body |= given(expected_revision=expected_revision, allow_unknown=allow_unknown or None)
    changed(command(nats, tenant, "schedule.update", body), as_json)


def patch(
    id_: Id,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE", help="A merge patch; - is standard input."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Such as retry.max_attempts=2; may be repeated."
        ),
    ] = None,
    expected_revision: Expected = None,
    allow_unknown: AllowUnknown = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Change some fields of a definition by a JSON merge patch (RFC 7396).

    A value is JSON, else text; null gives a field its default again.
    """
    from horae.cli.patches import patch_of
    from horae.cli.session import command, given, read_json_file
    from horae_domain.errors import InvalidField

    if (file is None) == (not set_):
        raise typer.BadParameter("either --file FILE or --set PATH=VALUE")
    body = read_json_file(file) if file is not None else patch_of(set_ or [])
    if body.setdefault("id", id_) != id_:
        raise InvalidField("the id of a schedule does not change", field="id", value=body["id"])
    body |= given(expected_revision=expected_revision, allow_unknown=allow_unknown or None)
    changed(command(nats, tenant, "schedule.patch", body), as_json)
