"""`horae apply` and `horae diff`: schedules as a file wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from horae.cli.options import AsJson, Nats, Tenant
from horae.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from horae.client import Client
    from horae.manifest import Manifest, Outcome, Plan

T = TypeVar("T")
Json = dict[str, Any]

LISTED = 100
"""Schedules that a table names of each kind."""

File = Annotated[str, typer.Argument(metavar="FILE", help="JSON, JSON lines or YAML; - is stdin.")]
Set = Annotated[
    str | None,
    typer.Option("--set", help="The set's name; else the file's `set`, else the file's name."),
]


def apply(
    file: File,
    set_: Set = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Cancel what the set made and the file has no more.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Change what somebody else has created as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and compare only.")] = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make schedules as a file wants them; again, only what differs is changed.

    Nothing is changed unless all of it can be.
    """
    from horae.manifest import carry_out, check

    async def work(client: Client, manifest: Manifest, plan: Plan) -> Outcome | None:
        if plan.foreign and not adopt:
            raise _not_ours(plan)
        await check(client, manifest, plan)
        if dry_run:
            return None
        return await carry_out(client, manifest, plan, prune=prune, adopt=adopt)

    manifest, plan, outcome = _compared(file, set_, nats, tenant, work)
    _show(manifest, plan, outcome, prune=prune, as_json=as_json)
    if outcome is not None and outcome.refused:
        raise typer.Exit(1)


def diff(
    file: File,
    set_: Set = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if there is a difference.")
    ] = False,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would do."""
    from horae.manifest import details

    async def work(client: Client, manifest: Manifest, plan: Plan) -> dict[str, Json]:
        return await details(client, manifest, [*plan.update, *plan.foreign][:LISTED])

    manifest, plan, changes = _compared(file, set_, nats, tenant, work)
    if as_json:
        print_json(_facts(manifest, plan) | {"changes": changes})
    else:
        _differences(plan, changes)
    if exit_code and not plan.empty:
        raise typer.Exit(1)


def _compared(
    file: str,
    set_: str | None,
    nats: str | None,
    tenant: str,
    work: Callable[[Client, Manifest, Plan], Awaitable[T]],
) -> tuple[Manifest, Plan, T]:
    """A file, how it differs from what there is, and the result of `work` on both.

    The engine says what there is while the file is validated. What is wrong with the file is
    said before anything is about the engine.
    """
    from horae import interpreter
    from horae.cli.files import read_schedules
    from horae.cli.session import ask
    from horae.client import Client
    from horae.manifest import compare, made_by, owner_of, reading
    from horae_domain.errors import HoraeError

    interpreter.tune()
    content = read_schedules(file)
    name = set_ or content.set or ("stdin" if file == "-" else Path(file).stem)
    read = reading(name, content.schedules)
    del content  # large, and read once
    with ThreadPoolExecutor(1) as pool:
        manifested = pool.submit(read)
        del read

        async def run(client: Client) -> tuple[Manifest, Plan, T]:
            manifest, made = await asyncio.gather(
                asyncio.wrap_future(manifested), made_by(client, owner_of(name))
            )
            plan = await compare(client, manifest, made)
            return manifest, plan, await work(client, manifest, plan)

        try:
            return ask(nats, tenant, lambda caller: run(Client(caller)), actor=owner_of(name))
        except HoraeError:
            manifested.result()
            raise


def _not_ours(plan: Plan) -> Exception:
    from horae_domain.errors import IllegalState

    id_, owner = next(iter(plan.foreign.items()))
    return IllegalState(
        f"{len(plan.foreign)} schedules differ and were created by somebody else, such as {id_}"
        f" by {owner}; --adopt changes them as well",
        field="id", value=id_,
    )  # fmt: skip


def _facts(manifest: Manifest, plan: Plan) -> Json:
    return {
        "ok": True,
        "set": manifest.set,
        "schedules": len(manifest.wanted),
        "unchanged": plan.unchanged,
        "create": plan.create,
        "update": list(plan.update),
        "gone": plan.gone,
        "foreign": plan.foreign,
    }


def _show(
    manifest: Manifest, plan: Plan, outcome: Outcome | None, *, prune: bool, as_json: bool
) -> None:
    if as_json:
        done = outcome._asdict() if outcome is not None else None
        print_json(_facts(manifest, plan) | {"done": done, "ok": not (outcome and outcome.refused)})
        return
    if outcome is None:
        _differences(plan, {})
        return
    for id_, error in list(outcome.refused.items())[:LISTED]:
        print_line(f"refused {id_}: {error['message']}")
    gone = f"{outcome.cancelled} cancelled" if prune else f"{len(plan.gone)} gone, see --prune"
    parts = [f"{outcome.created} created", f"{outcome.updated} changed"]
    parts += [f"{plan.unchanged} as they were"] + ([gone] if plan.gone else [])
    print_line(f"{manifest.set}: {', '.join(parts)}")


def _differences(plan: Plan, changes: dict[str, Json]) -> None:
    rows: list[tuple[object, ...]] = [("create", id_, "") for id_ in plan.create[:LISTED]]
    for id_ in [*plan.update, *plan.foreign][:LISTED]:
        owner = f"created by {plan.foreign[id_]}: " if id_ in plan.foreign else ""
        told = ", ".join(
            f"{path}: {change['from']!r} -> {change['to']!r}"
            for path, change in changes.get(id_, {}).items()
        )
        rows.append(("adopt" if id_ in plan.foreign else "change", id_, owner + told))
    rows += [("gone", id_, "") for id_ in plan.gone[:LISTED]]
    if rows:
        print_table(("WHAT", "ID", "DIFFERENCE"), rows, whole=("WHAT", "ID"))
    counts = {"to create": plan.create, "to change": plan.update, "gone": plan.gone}
    parts = [f"{len(each)} {what}" for what, each in counts.items() if each]
    parts += [f"{len(plan.foreign)} of somebody else"] if plan.foreign else []
    print_line(", ".join([*parts, f"{plan.unchanged} as they are"]))
