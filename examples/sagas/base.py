"""What the examples share: the application, its database, and its calls to the partner."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from examples.sagas.partner import partner_url
from horae import Call, Context, Horae

app = Horae("sagas")


def keep(ctx: Context | Call, kind: str, text: str) -> str:
    """Write down what was done, once for each execution, however often it is delivered."""
    with closing(_database()) as database, database:
        row = (ctx.execution_id, kind, text)
        database.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?)", row)
    return text


def kept(kind: str) -> list[str]:
    """What was written down, the oldest first."""
    with closing(_database()) as database:
        found = database.execute("SELECT text FROM done WHERE kind = ? ORDER BY rowid", (kind,))
        return [text for (text,) in found]


def ask(path: str, body: Any = None) -> Any:
    """Call the partner: GET, or POST if there is something to tell it."""
    content = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(partner_url() + path, data=content), timeout=5) as response:
            return json.load(response)
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"the partner answered {error.code}") from None


def _database() -> sqlite3.Connection:
    folder = Path(os.environ.get("SAGAS_DIR", ".horae/sagas"))
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "sagas.db", timeout=10)
    database.execute(
        "CREATE TABLE IF NOT EXISTS done (id TEXT, kind TEXT, text TEXT, PRIMARY KEY (id, kind))"
    )
    return database
