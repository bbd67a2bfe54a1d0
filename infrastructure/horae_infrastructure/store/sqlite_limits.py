"""What is used of limits, in the tables of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from horae_application.ports import Batch, Crowded, Setting, Usage
from horae_domain.limits import counts_until

_SET = """
INSERT INTO horae_limits (key, concurrency, rate, per, paused, weight) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE
SET concurrency = excluded.concurrency, rate = excluded.rate, per = excluded.per,
    paused = excluded.paused, weight = excluded.weight
"""
_USE = """
INSERT INTO horae_limits (key, running) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET running = running + excluded.running
RETURNING running, concurrency, rate, per, paused
"""


def take(writer: sqlite3.Connection, batch: Batch) -> None:
    """Count what a batch uses, and set what it sets, in its transaction.

    Raises:
        Crowded: the transaction has to be undone.
    """
    crowded = []
    for key, change, starts, most in batch.uses:
        [row] = writer.execute(_USE, (key, change)).fetchall()
        running, concurrency, rate, per, paused = row
        if not starts:
            continue
        full = paused or (concurrency is not None and running - change + most > concurrency)
        if rate is not None and not _begin(writer, key, batch.at, rate, per, starts):
            full = True
        if full:
            crowded.append(key)
    if crowded:
        raise Crowded(crowded)
    for setting in batch.settings:
        writer.execute(_SET, setting)


def _begin(writer: sqlite3.Connection, key: str, at: int, rate: int, per: int, starts: int) -> bool:
    """Count attempts for a rate; False if they are too many."""
    writer.execute("DELETE FROM horae_starts WHERE key = ? AND until <= ?", (key, at))
    sql = "SELECT coalesce(sum(starts), 0) FROM horae_starts WHERE key = ?"
    [(begun,)] = writer.execute(sql, (key,)).fetchall()
    writer.execute(
        "INSERT INTO horae_starts VALUES (?, ?, ?)"
        " ON CONFLICT (key, until) DO UPDATE SET starts = starts + excluded.starts",
        (key, counts_until(at, per), starts),
    )
    return bool(begun + starts <= rate)


LIMITS = """
SELECT key, concurrency, rate, per, paused, weight, running, until, starts
FROM horae_limits LEFT JOIN horae_starts USING (key)
WHERE concurrency IS NOT NULL OR rate IS NOT NULL OR paused OR weight <> 1
ORDER BY key, until
"""


def usages(rows: Iterable[tuple[Any, ...]]) -> list[Usage]:
    """What the rows of `LIMITS` say."""
    found: dict[str, Usage] = {}
    for key, concurrency, rate, per, paused, weight, running, until, starts in rows:
        setting = Setting(key, concurrency, rate, per, bool(paused), weight)
        usage = found.setdefault(key, Usage(setting, running, []))
        if until is not None:
            usage.starts.append((until, starts))
    return list(found.values())
