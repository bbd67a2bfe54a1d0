"""`horae queue …` and `horae tenant …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.options import AsJson, Cursor, Limit, Nats, Tenant
from horae.cli.output import print_answer, print_facts, print_json, print_page

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Queues: what waits, and what limits it."
)
tenants = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="A tenant: what limits all its queues."
)

Json = dict[str, Any]

COUNTS = ("waiting", "running", "delayed", "failed", "dead")

Queue = Annotated[str, typer.Argument(metavar="QUEUE")]
NoteOption = Annotated[str, typer.Option("--note", help="Kept in the history.")]
Concurrency = Annotated[
    str | None, typer.Option(metavar="N|none", help="The most that run at once; none lifts it.")
]
Rate = Annotated[
    str | None,
    typer.Option(metavar="RATE|none", help="Such as '100 per minute'; none lifts it."),
]


@app.command("list")
def list_(
    limit: Limit = None,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List the queues by name."""
    from horae.cli.session import given, query

    print_page(
        query(nats, tenant, "queue.list", given(limit=limit, cursor=cursor)),
        "queues",
        ("QUEUE", "STATE", "CONCURRENCY", "RATE", *(name.upper() for name in COUNTS)),
        _row,
        as_json=as_json,
        whole=("QUEUE",),
    )


def _row(queue: Json) -> tuple[object, ...]:
    state = "paused" if queue["paused"] else "open"
    return (
        queue["queue"], state, queue["concurrency"], queue["rate"],
        *(queue[name] for name in COUNTS),
    )  # fmt: skip


@app.command()
def show(
    queue: Queue, nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False
) -> None:
    """Show what is in a queue, and what limits it."""
    from horae.cli.session import query

    _show(query(nats, tenant, "queue.get", {"queue": queue}), as_json=as_json)


@app.command()
def limit(
    queue: Queue,
    concurrency: Concurrency = None,
    rate: Rate = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Limit how much of a queue runs at once, or begins in a while."""
    _command(
        nats, tenant, "queue.limit", {"queue": queue} | _limits(concurrency, rate), as_json=as_json
    )


@app.command()
def pause(
    queue: Queue,
    note: NoteOption = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let nothing of a queue begin; what runs goes on."""
    _command(nats, tenant, "queue.pause", {"queue": queue, "note": note}, as_json=as_json)


@app.command()
def resume(
    queue: Queue,
    note: NoteOption = "",
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let what waits in a queue begin."""
    _command(nats, tenant, "queue.resume", {"queue": queue, "note": note}, as_json=as_json)


@tenants.command("show")
def show_tenant(nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show what is in all queues of the tenant, and what limits them together."""
    from horae.cli.session import query

    _show(query(nats, tenant, "tenant.get", {}), as_json=as_json)


@tenants.command("limit")
def limit_tenant(
    concurrency: Concurrency = None,
    rate: Rate = None,
    weight: Annotated[
        int | None, typer.Option(help="Turns it has where other tenants have one.")
    ] = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Limit how much of the tenant runs at once, or begins in a while."""
    body = _limits(concurrency, rate)
    if weight is not None:
        body["weight"] = weight
    _command(nats, tenant, "tenant.limit", body, as_json=as_json)


def _limits(concurrency: str | None, rate: str | None) -> Json:
    told: Json = {}
    if concurrency is not None:
        number = concurrency.isdigit()
        told["concurrency"] = int(concurrency) if number else _lifted(concurrency)
    if rate is not None:
        told["rate"] = _lifted(rate)
    return told


def _lifted(text: str) -> str | None:
    return None if text == "none" else text


def _command(nats: str | None, tenant: str, name: str, body: Json, *, as_json: bool) -> None:
    from horae.cli.session import command

    answer = command(nats, tenant, name, body)
    whose = f"queue {answer['queue']}" if "queue" in answer else f"tenant {answer['tenant']}"
    state = "paused" if answer.get("paused") else "open"
    limits = [f"{each} {answer[each]}" for each in ("concurrency", "rate") if answer[each]]
    print_answer(answer, f"{whose}: {', '.join([state, *limits])}", as_json=as_json)


def _show(answer: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_facts(
            {name: value for name, value in answer.items() if name not in {"ok", "position"}}
        )
