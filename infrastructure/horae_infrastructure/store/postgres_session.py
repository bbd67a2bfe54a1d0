"""Sessions with a PostgreSQL server: parameters, checks, what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from select import POLLIN, poll
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import UniqueViolation

from horae_application.ports import (
    AlreadyWritten,
    CommitUnknown,
    Crowded,
    Fenced,
    StoreError,
    StoreUnavailable,
)
from horae_infrastructure.store.errors import StoreNotDurable
from horae_infrastructure.store.postgres_arrays import register

Connection = psycopg.Connection[tuple[Any, ...]]

_TIMES = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Bounds on a server that is silent, unless the URL has its own."""

_SETTINGS = {
    "enable_seqscan": "off",  # plans are kept, and made while the tables are small
    "enable_bitmapscan": "off",
    "jit": "off",
    "lock_timeout": "10s",
    "client_encoding": "utf8",
}

_STALE, _CROWDED = "HR001", "HR002"
_KEY = re.compile(r"=\(([0-9a-f-]{36}), (\d+)\)")
_UNSURE = ("08", "57P")
"""Classes of SQLSTATE that a session's end in the middle of a commit can have."""


def connect(chosen: dict[str, Any]) -> Connection:
    """A session in which every statement is a transaction."""
    connection: Connection = psycopg.connect(**chosen, autocommit=True)
    register(connection)
    return connection


def parameters(url: str) -> tuple[dict[str, Any], str]:
    """The driver's parameters of a URL, and the schema that it names."""
    base, _, query = url.partition("?")
    pairs = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
    schema = pairs.pop("schema", "public")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ValueError(f"{schema!r} is no name for a schema: [a-z_][a-z0-9_]*")
    rest = "&".join(f"{key}={value}" for key, value in pairs.items())
    chosen: dict[str, Any] = _TIMES | conninfo_to_dict(f"{base}?{rest}")
    settings = _SETTINGS | {"search_path": schema}
    given = str(chosen.get("options") or "")  # comes last and so has the last word
    chosen["options"] = " ".join([*(f"-c {k}={v}" for k, v in settings.items()), given])
    return chosen, schema


def check_durable(connection: Connection, *, allow_unsafe: bool) -> None:
    """Refuse a server that may lose what it has acknowledged.

    Raises:
        StoreNotDurable: by a setting, or because it is a standby.
    """
    if allow_unsafe:
        return
    [row] = connection.execute(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'),"
        " current_setting('synchronous_commit'), pg_is_in_recovery()"
    ).fetchall()
    for setting, value in zip(
        ("fsync", "full_page_writes", "synchronous_commit"), row, strict=False
    ):
        if value not in {"on", "remote_apply"}:
            raise StoreNotDurable(setting, value)
    if row[3]:
        raise StoreNotDurable("pg_is_in_recovery()", "true")


def is_silent(connection: Connection) -> bool:
    """Whether the server has said nothing since the last answer: a farewell can be read at once."""
    waiting = poll()  # select() has no room for descriptors above 1023
    try:
        waiting.register(connection, POLLIN)
    except psycopg.OperationalError:  # it is closed
        return False
    return not waiting.poll(0)


def failure(error: psycopg.Error) -> StoreError:
    """What an error after the statement was sent means."""
    state, detail = error.sqlstate, error.diag.message_detail or ""
    if state == _STALE:
        return Fenced(int(partition) for partition in detail.split(","))
    if state == _CROWDED:
        return Crowded(detail.split(","))
    if isinstance(error, UniqueViolation):
        key = _KEY.search(detail)
        return AlreadyWritten(key[1], int(key[2])) if key else AlreadyWritten(None, None)
    if isinstance(error, psycopg.InterfaceError | psycopg.OperationalError) and (
        state is None or state.startswith(_UNSURE)
    ):
        return CommitUnknown(str(error))
    if isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return StoreUnavailable(str(error))
    return StoreError(str(error))


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors of a statement that wrote nothing as the port's."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise StoreUnavailable(str(error)) from error
    except psycopg.Error as error:
        raise StoreError(str(error)) from error
