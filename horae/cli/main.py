"""The commands together, and how they end: 0 done, 1 refused or failed, 2 usage."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from horae.cli import (
    dead_letters,
    declarative,
    events,
    executions,
    imports,
    occurrences,
    queues,
    running,
    schedules,
    timers,
)
from horae.cli.defaults import defaults
from horae.cli.options import AsJson, Config, DataDir, Nats, Store, Tenant
from horae.cli.output import fail, print_facts, print_json, print_line, print_table

app = typer.Typer(
    name="horae",
    help="Event-sourced scheduling: run an engine, and ask one.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(running.dev)
app.command()(running.serve)
app.add_typer(schedules.app, name="schedule")
app.add_typer(occurrences.app, name="occurrence")
app.add_typer(executions.app, name="execution")
app.add_typer(dead_letters.app, name="dead-letter")
app.add_typer(queues.app, name="queue")
app.add_typer(queues.tenants, name="tenant")
app.add_typer(timers.app, name="timers")
app.add_typer(events.app, name="event")
app.command()(declarative.apply)
app.command()(declarative.diff)
app.add_typer(imports.app, name="import")


def run() -> NoReturn:
    """Run the command of `sys.argv`, and exit with its code."""
    as_json = "--json" in sys.argv
    try:
        app(default_map=defaults(app))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has seen enough
        sys.exit(0)
    except Exception as error:
        from horae.cli.errors import EXPECTED

        if not isinstance(error, EXPECTED):
            raise
        fail(error, as_json=as_json)
    sys.exit(0)


@app.command()
def health(nats: Nats = None, tenant: Tenant = "default", as_json: AsJson = False) -> None:
    """Show the components and their state; exit with 1 if unhealthy."""
    from horae.cli.session import query

    answer = query(nats, tenant, "health", {})
    if as_json:
        print_json(answer)
    else:
        print_facts({"status": answer["status"]})
        print_table(
            ("COMPONENT", "STATE", "LATENCY", "FACTS"),
            [
                (name, state.pop("status"), f"{state.pop('latency_ms'):.1f} ms", _facts(state))
                for name, state in answer["components"].items()
            ],
        )
        for issue in answer["issues"]:
            print_line(f"{issue['severity']}: {issue['component']}: {issue['message']}")
    if answer["status"] == "unhealthy":
        raise typer.Exit(1)


def _facts(state: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in state.items()) or "-"


@app.command()
def config(config: Config = None, as_json: AsJson = False) -> None:
    """Show every setting with its value and who said it; secrets are hidden."""
    from horae_infrastructure.settings import Settings

    settings = Settings.read(config=config)
    shown = settings.shown()
    if as_json:
        print_json({"ok": True, "settings": shown, "unknown": dict(settings.unknown)})
        return
    print_table(
        ("SETTING", "VALUE", "SOURCE", "DEFAULT"),
        [(row["variable"], row["value"], row["source"], row["default"]) for row in shown.values()],
        whole=("SETTING", "VALUE"),
    )
    for name, near in settings.unknown.items():
        hint = f"; did you mean {near}?" if near else ""
        sys.stderr.write(f"horae: {name} is no setting{hint}\n")


@app.command()
def replay(
    from_: Annotated[
        str | None, typer.Option("--from", metavar="POSITION|INSTANT", help="Inclusive.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="POSITION|INSTANT", help="Inclusive.")] = None,
    store: Store = None,
    data: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print the history of a store, one JSON event a line (with --json, too)."""
    del as_json
    from horae.cli.history import replay as replay_history

    replay_history(store, data, from_, to, config=config)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Show the version."""
    import platform

    from horae import __version__

    if as_json:
        print_json({"ok": True, "version": __version__, "python": platform.python_version()})
    else:
        print_line(f"horae {__version__} (Python {platform.python_version()})")
