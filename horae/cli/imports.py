"""`horae import crontab`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horae.cli.options import AsJson, Nats, Tenant
from horae.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from horae_infrastructure.nats.client import NatsCaller

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Schedules from elsewhere.")

Json = dict[str, Any]


@app.callback()
def _group() -> None:
    """Schedules from elsewhere."""


@app.command()
def crontab(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    system: Annotated[
        bool | None,
        typer.Option(
            "--system/--user",
            help="With a column for the user, or without; told by the path unless said.",
        ),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="In which cron ran it; this machine's unless told.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The crontab's name, its path unless told; part of the ids.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show only.")] = False,
    skip_problems: Annotated[
        bool, typer.Option("--skip-problems", help="Import the rest of a file with problems.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Cancel what an earlier import made of gone lines.")
    ] = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make schedules of a crontab's lines; again, only what has changed is changed.

    Nothing is imported while a line cannot be read, unless with --skip-problems.
    """
    from horae.cli.session import ask
    from horae_domain.crontab import Problem, parse_crontab, to_definition

    zone = timezone or local_zone()
    name = source or str(file.resolve())
    found = parse_crontab(_read(file), style=_style(file, system))
    problems = [
        {
            "line": each.number,
            "id": None,
            "result": "problem",
            "reason": each.reason,
            "text": each.text,
        }
        for each in found
        if isinstance(each, Problem)
    ]
    jobs = [
        (each, to_definition(each, name, timezone=zone))
        for each in found
        if not isinstance(each, Problem)
    ]
    blocked = bool(problems) and not skip_problems
    definitions = [definition for _, definition in jobs]
    if dry_run or blocked:
        results = {each["id"]: "not imported" for each in definitions}
    else:
        results = ask(nats, tenant, lambda caller: bring(caller, name, definitions, prune=prune))
    rows: list[Json] = [
        {"line": job.number, "id": each["id"], "result": results.pop(each["id"]), "text": job.text}
        for job, each in jobs
    ]
    rows = sorted(rows + problems, key=lambda row: int(row["line"]))
    rows += [{"line": None, "id": id_, "result": how, "text": None} for id_, how in results.items()]
    _show(rows, zone, as_json=as_json, ok=not blocked)
    if blocked and not as_json:
        print_line("nothing is imported; --skip-problems imports the other lines")
    if blocked:
        raise typer.Exit(1)


async def bring(
    caller: NatsCaller, source: str, definitions: Iterable[Json], *, prune: bool
) -> dict[str, str]:
    """Create what is new, update what differs, find what has gone; what was done, by id."""
    revisions = await _existing(caller, source)
    results = {}
    for definition in definitions:
        before = revisions.pop(definition["id"], None)
        verb = "schedule.create" if before is None else "schedule.update"
        answer = await caller.command(verb, definition)
        same = before == answer["revision"]
        results[definition["id"]] = "created" if before is None else "same" if same else "changed"
    for id_ in revisions:
        if prune:
            await caller.command("schedule.cancel", {"id": id_, "note": "gone from the crontab"})
        results[id_] = "gone: cancelled" if prune else "gone: still runs, see --prune"
    return results


async def _existing(caller: NatsCaller, source: str) -> dict[str, int]:
    """Revisions of what earlier imports of this source have made, by id."""
    asked: Json = {
        "tags_all": ["crontab", source[-128:]],
        "status": "pending,active,paused",
        "limit": 1000,
    }
    found: dict[str, int] = {}
    while True:
        page = await caller.query("schedule.list", asked)
        found |= {row["id"]: row["revision"] for row in page["schedules"]}
        if page["cursor"] is None:
            return found
        asked["cursor"] = page["cursor"]


def _read(file: Path) -> str:
    from horae.cli.errors import FileUnreadable

    try:
        return file.read_text(errors="surrogateescape")
    except OSError as error:
        raise FileUnreadable(f"{file}: {error.strerror}", field="FILE", value=file) from error


def _style(file: Path, system: bool | None) -> Any:
    if system is None:
        path = file.resolve()
        system = path == Path("/etc/crontab") or path.parent == Path("/etc/cron.d")
    return "system" if system else "user"


def local_zone() -> str:
    """The name of this machine's time zone, in which its cron runs."""
    told = os.environ.get("TZ", "").removeprefix(":")
    if told and not told.startswith("/"):
        return told
    target = os.path.realpath("/etc/localtime")
    _, found, name = target.partition("/zoneinfo/")
    return name if found else "UTC"


def _show(rows: list[Json], zone: str, *, as_json: bool, ok: bool) -> None:
    if as_json:
        print_json({"ok": ok, "timezone": zone, "lines": rows})
        return
    print_table(
        ("LINE", "RESULT", "SCHEDULE OR REASON", "TEXT"),
        [(row["line"], row["result"], row.get("reason") or row["id"], row["text"]) for row in rows],
        whole=("RESULT", "SCHEDULE OR REASON"),
    )
    print_line(f"{len(rows)} lines, times in {zone} unless CRON_TZ says otherwise")
