"""`horae dev` and `horae serve`."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horae.cli.options import AsJson, Config, DataDir, Store
from horae.cli.output import print_json, print_line

if TYPE_CHECKING:
    from horae.app import Horae
    from horae.runtime import Runtime
    from horae_infrastructure.settings import Settings

App = Annotated[
    str | None,
    typer.Argument(metavar="APP", help="module:attribute or path/file.py:attribute."),
]
AllowProcesses = Annotated[
    bool | None,
    typer.Option(
        "--allow-processes/--no-processes",
        envvar="HORAE_ALLOW_PROCESSES",
        help="Run actions of type process, as imported crontabs have them.",
    ),
]


def dev(
    app: App = None,
    data: DataDir = None,
    store: Store = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep nothing; the store is in memory.")
    ] = False,
    allow_processes: AllowProcesses = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run everything here: all roles, with NATS and Valkey embedded.

    With --store postgres PostgreSQL is embedded, too. Ctrl-C stops in order, twice at once.
    """
    from horae.cli.loading import load_app
    from horae.cli.presence import Presence
    from horae.dev import located, run, working_directory

    settings = _settings(
        quiet=not as_json,
        config=config,
        data_dir=data,
        store_url=store or ("memory://" if ephemeral else None),
        allow_processes=allow_processes,
    )
    served = load_app(app)
    with working_directory(settings.data_dir, ephemeral=ephemeral) as directory:
        settings = located(settings.model_copy(update={"data_dir": directory}))
        presence = Presence(directory)
        try:
            run(lambda: _dev(served, settings, presence, ephemeral=ephemeral, as_json=as_json))
        finally:
            presence.close()


async def _dev(
    app: Horae, settings: Settings, presence: Any, *, ephemeral: bool, as_json: bool
) -> None:
    from horae.cli.logs import configure
    from horae.cli.watch import Watcher
    from horae.dev import Signals, embedded
    from horae.housekeeping import keeping_house

    began = time.monotonic()
    signals = Signals(settings.stop_limit)
    try:
        async with (
            embedded(settings, ephemeral=ephemeral) as complete,
            app.serve(complete) as runtime,
            keeping_house(runtime),
        ):
            signals.serve(runtime, configure)
            facts = ready_facts(runtime)
            presence.announce(facts)
            if as_json:
                print_json(facts)
                await signals.wait()
                return
            _welcome(app, facts, settings.data_dir, time.monotonic() - began, ephemeral)
            assert runtime.store is not None  # noqa: S101 - all roles run here
            with Watcher(runtime.store, write_run):
                await signals.wait()
    except asyncio.CancelledError:
        print_line("stopped while starting")


def serve(
    app: App = None,
    roles: Annotated[
        str, typer.Option(help="engine,executor,views; separated by commas.")
    ] = "engine,executor,views",
    data: DataDir = None,
    store: Store = None,
    nats: Annotated[
        str | None, typer.Option("--nats", envvar="HORAE_NATS_URL", metavar="URL")
    ] = None,
    redis: Annotated[
        str | None, typer.Option("--redis", envvar="HORAE_REDIS_URL", metavar="URL")
    ] = None,
    allow_processes: AllowProcesses = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run chosen roles against given servers. Ctrl-C stops in order, twice at once."""
    from horae.bootstrap import ROLES
    from horae.cli.loading import load_app
    from horae.dev import located, run
    from horae_domain.errors import InvalidField
    from horae_infrastructure.settings import EMBEDDED_POSTGRES

    chosen = tuple(dict.fromkeys(part.strip() for part in roles.split(",")))
    if unknown := set(chosen) - set(ROLES):
        raise typer.BadParameter(f"no such roles: {', '.join(sorted(unknown))}; there are {ROLES}")
    settings = _settings(
        config=config, data_dir=data, store_url=store, nats_url=nats, redis_url=redis,
        allow_processes=allow_processes,
    )  # fmt: skip
    if settings.nats_url is None:
        raise InvalidField(
            "a NATS server is needed: --nats or HORAE_NATS_URL; `horae dev` embeds one",
            field="nats_url",
        )
    settings = located(settings)
    if settings.store_url in EMBEDDED_POSTGRES:
        raise InvalidField("`horae dev` alone embeds PostgreSQL", field="store_url")
    served = load_app(app)
    run(lambda: _serve(served, settings, chosen, as_json=as_json))


async def _serve(app: Horae, settings: Settings, roles: tuple[str, ...], *, as_json: bool) -> None:
    from horae.cli.logs import configure
    from horae.dev import Signals
    from horae.housekeeping import keeping_house
    from horae_application.log import get_logger
    from horae_infrastructure.settings import hide

    signals = Signals(settings.stop_limit)
    try:
        async with app.serve(settings, roles=roles) as runtime, keeping_house(runtime):
            signals.serve(runtime, configure)
            facts = {name: hide(value) for name, value in ready_facts(runtime).items()}
            if as_json:
                print_json(facts)
            else:
                get_logger("horae").info("ready", **facts)
            await signals.wait()
    except asyncio.CancelledError:
        print_line("stopped while starting")


def _settings(*, quiet: bool = False, **given: Any) -> Settings:
    """Settings, and the log as they say; a quiet one has warnings only, unless they say."""
    from horae.cli.logs import configure
    from horae_application.log import get_logger
    from horae_infrastructure.settings import Settings

    settings = Settings.read(**given)
    configure("console:warning" if quiet and not settings.told("log") else settings.log)
    for name, near in settings.unknown.items():
        get_logger("horae").warning("unknown setting", variable=name, nearest=near or None)
    return settings


def write_run(line: str) -> None:
    """A line about a run, at once, also into a pipe."""
    print_line(line)
    sys.stdout.flush()


def ready_facts(runtime: Runtime) -> dict[str, Any]:
    """What the ready line says."""
    settings = runtime.settings
    return {
        "ready": True,
        "nats_url": settings.nats_url,
        "redis_url": settings.redis_url,
        "store_url": settings.store_url,
        "http_url": None,
        "pid": os.getpid(),
        "roles": list(runtime.roles),
    }


def _welcome(
    app: Horae, facts: dict[str, Any], data_dir: Path, took: float, ephemeral: bool
) -> None:
    from horae_infrastructure.settings import hide

    me = _own_name()
    kept = "kept nowhere" if ephemeral else f"in {_short(data_dir)}"
    print_line(f"Horae is ready after {took:.1f} s; data {kept}; Ctrl-C stops.\n")
    for label, name in (("NATS", "nats_url"), ("Valkey", "redis_url"), ("store", "store_url")):
        print_line(f"  {label:6} {hide(facts[name])}")
    print_line(f"  {'app':6} {app.name}: {', '.join(app.schedules) or 'no schedules'}\n")
    print_line("Try in another terminal here:\n")
    if ephemeral:
        print_line(f"  export HORAE_NATS_URL={facts['nats_url']}")
    elif data_dir != Path(".horae").absolute():
        print_line(f"  export HORAE_DATA_DIR={data_dir}")
    print_line(f"  {me} schedule list")
    for id_ in list(app.schedules)[:1]:
        print_line(f"  {me} schedule show {id_}")
        print_line(f"  {me} schedule trigger {id_}")
    print_line(f"  {me} execution list")
    print_line(f"  {me} health")
    print_line("\nRuns, as they end (HORAE_LOG=console:info shows more):\n")
    sys.stdout.flush()


def _own_name() -> str:
    """How the user calls this program."""
    called = sys.argv[0]
    if shutil.which("horae") == str(Path(called).resolve()) or "/" not in called:
        return "horae"
    if called.endswith("__main__.py"):
        return f"{_short(Path(sys.executable))} -m horae"
    return _short(Path(called))


def _short(path: Path) -> str:
    """Relative to the working directory if it is inside."""
    absolute = path.absolute()
    if absolute.is_relative_to(Path.cwd()):
        return str(absolute.relative_to(Path.cwd()))
    return str(absolute)
