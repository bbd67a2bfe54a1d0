"""Asking an engine: where it is, and one request at a time or several on one connection."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from horae.cli.errors import FileUnreadable, NoEngine
from horae.cli.presence import running_here
from horae_domain.errors import InvalidField
from horae_domain.wire import MAX_BULK, read_object
from horae_infrastructure.settings_sources import look

if TYPE_CHECKING:
    from horae_infrastructure.nats.client import NatsCaller

T = TypeVar("T")
Json = dict[str, Any]


def ask(
    nats: str | None,
    tenant: str,
    work: Callable[[NatsCaller], Awaitable[T]],
    *,
    actor: str | None = None,
) -> T:
    """Run `work` with a connection to the engine.

    Raises:
        NoEngine: it is not said where it is, and no `horae dev` runs here.
        HoraeError: what the engine refuses.
    """

    async def run() -> T:
        async with caller(nats or here(), tenant, actor) as opened:
            return await work(opened)

    return asyncio.run(run())


def command(nats: str | None, tenant: str, name: str, body: Mapping[str, Any]) -> Json:
    """The answer to one command."""
    return ask(nats, tenant, lambda caller: caller.command(name, body))


def query(nats: str | None, tenant: str, name: str, body: Mapping[str, Any]) -> Json:
    """The answer to one query."""
    return ask(nats, tenant, lambda caller: caller.query(name, body))


@asynccontextmanager
async def caller(url: str, tenant: str, actor: str | None = None) -> AsyncIterator[NatsCaller]:
    """A connection that is closed at the end."""
    from horae.cli.logs import configure
    from horae_infrastructure.nats.client import NatsCaller
    from horae_infrastructure.nats.connection import close, connect

    configure("console:error")
    connection = await connect(url, name="horae-cli")
    try:
        yield NatsCaller(connection, tenant, actor=actor or getpass.getuser())
    finally:
        await close(connection)


def here() -> str:
    """The URL of the engine that `horae dev` runs in this directory."""
    data_dir = Path(look("data_dir", os.environ) or ".horae")
    running = running_here(data_dir)
    if running is None:
        raise NoEngine(
            f"no `horae dev` runs in {data_dir}; start one, or say where with --nats"
            " or HORAE_NATS_URL"
        )
    return str(running["nats_url"])


def given(**fields: Any) -> Json:
    """A request's body of the options that were given."""
    return {name: value for name, value in fields.items() if value not in (None, [], ())}


def read_json_file(name: str) -> Json:
    """The JSON object of a file, or of standard input for `-`.

    Raises:
        FileUnreadable: it cannot be read.
        InvalidField, PayloadTooLarge: it is no JSON object, or too large for any request.
    """
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{name}: {error.strerror}", field="--file", value=name) from error
    if not content.strip():
        raise InvalidField("the file is empty, a JSON object is needed", field="--file", value=name)
    return read_object(content, MAX_BULK)


def read_json_value(text: str, field: str) -> Any:
    """The JSON value of an option.

    Raises:
        InvalidField: it is not JSON.
    """
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise InvalidField(f"not JSON: {error}", field=field, value=text) from error
