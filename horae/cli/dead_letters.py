"""`horae dead-letter …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horae.cli.executions import executions_page
from horae.cli.options import AsJson, Cursor, Nats, Tenant
from horae.cli.output import print_answer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Dead letters: what is out of retries."
)

Schedule = Annotated[str | None, typer.Option(metavar="ID", help="Of this schedule.")]
ErrorType = Annotated[
    str | None, typer.Option("--error", metavar="TYPE", help="With this type of error.")
]
Since = Annotated[str | None, typer.Option(metavar="INSTANT", help="Dead since then; inclusive.")]


@app.command("list")
def list_(
    schedule: Schedule = None,
    error: ErrorType = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    cursor: Cursor = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List dead letters, the latest first."""
    from horae.cli.session import given, query

    body = given(schedule_id=schedule, error_type=error, since=since, limit=limit, cursor=cursor)
    executions_page(query(nats, tenant, "dead_letter.list", body), "dead_letters", as_json=as_json)


@app.command()
def requeue(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="One; else --all.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All that fit, at most 1,000 at a time.")
    ] = False,
    schedule: Schedule = None,
    error: ErrorType = None,
    since: Since = None,
    nats: Nats = None,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Try dead letters again."""
    from horae.cli.session import command, given

    body: dict[str, Any] = given(id=id_, schedule_id=schedule, error_type=error, since=since)
    if all_:
        body["all"] = True
    answer = command(nats, tenant, "dead_letter.requeue", body)
    if id_ is not None:
        text = f"execution {id_}: {answer['status']}, attempt {answer['attempt']}"
    else:
        text = (
            f"{answer['requeued']} tried again, {answer['refused']} refused, {answer['left']} left"
        )
    print_answer(answer, text, as_json=as_json)
