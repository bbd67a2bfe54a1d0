"""A small trading desk: prices over HTTP, a ledger in SQLite, reports in files.

    horae dev examples.desk.app:app

What it writes is in `.horae/desk`, or where DESK_DIR says.
"""

import json
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydantic import BaseModel, Field

from examples.desk.market import market_url
from horae import Context, Horae, Retry, RetryAfter, cron, every, once

app = Horae("desk")


def folder() -> Path:
    """Where the desk keeps its files."""
    path = Path(os.environ.get("DESK_DIR", ".horae/desk"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def ledger() -> Iterator[sqlite3.Connection]:
    """The desk's own database, in one transaction."""
    database = sqlite3.connect(folder() / "desk.db", timeout=10)
    try:
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS quotes (at TEXT PRIMARY KEY, price REAL)")
            yield database
    finally:
        database.close()


# A plain function runs in a thread. The nominal instant is the key, so that a run that is
# delivered a second time, after a crash, writes the same row again instead of another one.
@app.schedule("quotes", every("5 seconds"), tags=["market"])
def quotes(ctx: Context) -> float:
    """Ask the market for its price and keep it."""
    with urlopen(f"{market_url()}/price", timeout=5) as response:
        price = float(json.load(response)["price"])
    with ledger() as database:
        database.execute(
            "INSERT OR REPLACE INTO quotes VALUES (?, ?)", (ctx.due.isoformat(), price)
        )
    return price


# Fails when the market is down. The answer says when to ask again, else the policy does.
@app.schedule(
    "settlement",
    every("15 seconds"),
    retry=Retry(5, delay="2 seconds", backoff=1.5),
    tags=["market"],
)
def settlement(ctx: Context) -> dict[str, bool]:
    """Settle the day's orders with the market."""
    order = Request(f"{market_url()}/settle", data=b'{"orders": 3}', method="POST")
    try:
        with urlopen(order, timeout=5) as response:
            answer: dict[str, bool] = json.load(response)
    except HTTPError as error:
        error.close()
        ctx.log("the market refused", status=error.code, attempt=ctx.attempt)
        raise RetryAfter("3 seconds", f"the market answered {error.code}") from error
    return answer


# Six fields: seconds first. In the time zone of the desk, whatever the machine's is.
@app.schedule("tape", cron("*/20 * * * * *", timezone="America/New_York"), tags=["reports"])
async def tape(ctx: Context) -> str:
    """Append the latest price to a file."""
    with ledger() as database:
        row = database.execute("SELECT price FROM quotes ORDER BY at DESC LIMIT 1").fetchone()
    line = f"{ctx.due:%H:%M:%S} {row[0] if row else 'no price yet'}"
    with (folder() / "tape.txt").open("a") as file:
        file.write(line + "\n")
    return line


@app.schedule("minute-report", cron("* * * * *"), tags=["reports"])
def minute_report(ctx: Context) -> str:
    """Write the high, the low and the mean of the minute that has ended."""
    since = (ctx.due - timedelta(minutes=1)).isoformat()
    with ledger() as database:
        found = database.execute(
            "SELECT count(*), max(price), min(price), avg(price) FROM quotes"
            " WHERE at >= ? AND at < ?",
            (since, ctx.due.isoformat()),
        ).fetchone()
    path = folder() / f"report-{ctx.due:%Y%m%dT%H%M}.json"
    path.write_text(json.dumps(dict(zip(("count", "high", "low", "mean"), found, strict=True))))
    return path.name


# A process of its own: it uses a core of its own, and a timeout really ends it.
@app.schedule("risk", every("30 seconds"), isolation="process", timeout={"start_to_close": "20s"})
def risk(ctx: Context) -> float:
    """Estimate the value at risk by simulation."""
    generator = random.Random(ctx.run_number)
    losses = sorted(sum(generator.gauss(0, 1) for _ in range(20)) for _ in range(5_000))
    return round(losses[250], 3)


@app.schedule("opening", once(after="3 seconds"))
async def opening(ctx: Context) -> str:
    """Ring the bell, once in the life of this desk."""
    (folder() / "opened.txt").write_text(f"{ctx.due.isoformat()}\n")
    return "the desk is open"


class Order(BaseModel):
    """What `place-order` takes."""

    symbol: str
    quantity: int = Field(gt=0)


# A handler without a schedule: schedules made elsewhere name it in their action.
@app.handler("place-order")
async def place_order(ctx: Context, order: Order) -> str:
    """Write an order into a file; the payload has been validated."""
    line = f"{order.quantity} {order.symbol}"
    with (folder() / "orders.txt").open("a") as file:
        file.write(f"{ctx.execution_id} {line}\n")
    return line
