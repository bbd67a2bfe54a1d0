"""The stored history as plain rows, read with the databases' own drivers. Nothing of Horae."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import Any, NamedTuple

from tests.faults.oracle import micros

SQL = (
    "SELECT {position}, recorded_at, {stream}, originator_version, topic, state"
    " FROM horae_events WHERE {position} > {after} ORDER BY 1"
)


class Row(NamedTuple):
    """One event."""

    position: int
    recorded_at: int
    stream: str
    version: int
    name: str
    data: dict[str, Any]

    @property
    def at(self) -> int:
        return micros(self.data["at"])


class History(NamedTuple):
    """All events, and on PostgreSQL who committed them: (session, owner, events)."""

    rows: list[Row]
    witness: list[tuple[str, str | None, int]]


def read_history(url: str, after: int = 0) -> History:
    """Everything that a store holds, after a position."""
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            sql = SQL.format(position="rowid", stream="hex(originator_id)", after=after)
            return History(list(map(_row, connection.execute(sql))), [])
    import psycopg

    with psycopg.connect(url) as connection:
        stream = "replace(originator_id::text, '-', '')"
        sql = SQL.format(position="notification_id", stream=stream, after=after)
        rows = list(map(_row, connection.execute(sql)))
        witness = connection.execute("SELECT session, owner, events FROM faults_witness")
        return History(rows, witness.fetchall())


def _row(raw: tuple) -> Row:
    position, recorded_at, stream, version, name, state = raw
    return Row(position, recorded_at, stream.lower(), version, name, json.loads(state))


def by_stream(rows: list[Row]) -> dict[str, list[Row]]:
    """The streams, each in order of position."""
    streams: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        streams[row.stream].append(row)
    return streams


def stream_of(execution_id: str) -> str:
    """The stream of an execution."""
    return execution_id.replace("-", "")
