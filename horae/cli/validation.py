"""`horae schedule validate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Nats, Tenant
from horae.cli.output import cell, complaint, print_json, print_line

Json = dict[str, Any]


def validate(
    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="FILE", help="One definition or many; - is standard input."
        ),
    ],
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Only warn of a handler that nobody serves.")
    ] = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Say what a definition would be refused for, and what to know of it; nothing is created.

    The exit code is 1 if one would be refused.
    """
    from horae.cli.files import read_schedules
    from horae.cli.session import ask

    asked = [_asked(each, allow_unknown) for each in read_schedules(file).schedules]

    async def each(caller: Any) -> list[Json]:
        return [await caller.command("schedule.validate", body) for body in asked]

    answers = ask(nats, tenant, each)
    valid = all(answer["valid"] for answer in answers)
    if as_json:
        print_json({"ok": True, "valid": valid, "results": answers})
    else:
        for answer in answers:
            _show(answer)
    if not valid:
        raise typer.Exit(1)


def _asked(definition: Any, allow_unknown: bool) -> Json:
    """A request's body; what is no object is refused for its fields."""
    told = definition if isinstance(definition, dict) else {}
    return told | ({"allow_unknown": True} if allow_unknown else {})


def _show(answer: Json) -> None:
    print_line(f"{answer['id'] or '-'}: {'valid' if answer['valid'] else 'refused'}")
    for kind in ("errors", "warnings"):
        for each in answer[kind]:
            print_line(f"  {kind[:-1]}: {complaint(each)}")
    if answer["next"]:
        print_line(f"  next: {', '.join(map(cell, answer['next']))}")
