"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Nats = Annotated[
    str | None,
    typer.Option(
        "--nats",
        envvar="HORAE_NATS_URL",
        metavar="URL",
        help="Where the engine is reached; else that of `horae dev` running here.",
    ),
]
Tenant = Annotated[
    str, typer.Option("--tenant", envvar="HORAE_TENANT", help="Whose schedules these are.")
]
DefinitionFile = Annotated[
    str, typer.Option("--file", "-f", metavar="FILE", help="A JSON object; - is standard input.")
]
AllowUnknown = Annotated[
    bool, typer.Option("--allow-unknown", help="Accept a handler that nobody serves yet.")
]
Expected = Annotated[int | None, typer.Option(help="Refuse if it has another one by now.")]
Note = Annotated[str, typer.Option(help="Why; it is kept in the history.")]
Limit = Annotated[int | None, typer.Option(help="How many at most.")]
Cursor = Annotated[str | None, typer.Option(help="Where the page before ended.")]
Since = Annotated[
    str | None, typer.Option("--from", metavar="INSTANT", help="Due from then; inclusive.")
]
Until = Annotated[
    str | None, typer.Option("--to", metavar="INSTANT", help="Due until then; inclusive.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data", envvar="HORAE_DATA_DIR", metavar="DIR", help="Data; .horae unless told."
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="HORAE_STORE_URL",
        metavar="URL",
        help="sqlite:///FILE, postgresql://…, memory://.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="HORAE_CONFIG",
        metavar="FILE",
        help="Settings in TOML; the environment and options win.",
    ),
]
