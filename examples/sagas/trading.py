"""Trading: confirmations, reactions with a cooldown, and work that keeps market hours."""

from __future__ import annotations

from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from examples.sagas.base import app, ask, keep
from horae import (
    Call,
    Context,
    Result,
    Retry,
    command,
    cron,
    every,
    on_condition,
    on_event,
    wait_for,
)

# --- a blockchain's confirmation, with re-checks and a limit --------------------------------------


class Transfer(BaseModel):
    """What was sent, and how often to look for it."""

    tx: str
    confirmations: int = 3
    look_every: str = "1 minute"


@app.schedule("confirm-transfer", on_event("transfer.sent"), retry=Retry(1), fallback="lost")
def confirm_transfer(ctx: Context, transfer: Transfer) -> Result:
    """Look until there are confirmations enough, ten times at most."""
    seen = ask(f"/tx/{transfer.tx}")["confirmations"]
    if seen < transfer.confirmations:
        return Result.again(after=transfer.look_every, limit=10)
    return Result.done(keep(ctx, "transfers", f"{transfer.tx} is confirmed {seen} times"))


@app.fallback("lost")
def lost(ctx: Context, transfer: Transfer) -> str:
    """Say that a transfer needs a person."""
    return keep(ctx, "transfers", f"{transfer.tx} is not confirmed: {ctx.error['type']}")


# --- a reaction to volatility, with a cooldown ----------------------------------------------------


@app.check("volatility")
def volatility(_ctx: Context) -> dict[str, float]:
    """Ask the market."""
    found: dict[str, float] = ask("/market")
    return found


@app.schedule(
    "hedge",
    on_condition(
        "volatility", when="volatility > 0.05 && volume > 1000000", every="1 minute", cooldown="15m"
    ),
    priority="critical",
)
def hedge(ctx: Context, market: dict[str, float]) -> str:
    """Hedge once, then leave the market fifteen minutes to calm down."""
    return keep(ctx, "hedges", f"hedged at {market['volatility']}")


# --- a position's confirmation, with a timeout and a fallback -------------------------------------


@app.schedule(
    "yield-position",
    on_event("position.wanted"),
    start="open-position",
    wait=wait_for(
        "position.confirmed",
        match={"ticket": "result.ticket"},
        timeout="10 minutes",
        fallback="unwind-position",
    ),
)
def position_is_open(ctx: Context, confirmed: dict[str, Any]) -> str:
    """Take the position into the book."""
    return keep(ctx, "positions", f"{confirmed['ticket']} yields {confirmed['rate']}")


@app.handler("open-position")
def open_position(_ctx: Context, wanted: dict[str, Any]) -> dict[str, str]:
    """Ask for the position; the ticket is what its confirmation will name."""
    return {"ticket": f"t-{wanted['pool']}"}


@app.fallback("unwind-position")
def unwind_position(ctx: Context, wanted: dict[str, Any]) -> str:
    """Nobody has confirmed it in time."""
    return keep(ctx, "positions", f"{wanted['pool']} is unwound: {ctx.reason}")


# --- a daily rebalance, guarded by market hours ---------------------------------------------------

trading = app.service("trading")
NEW_YORK = ZoneInfo("America/New_York")


@app.condition("market-open")
def market_is_open(ctx: Context) -> bool:
    """From Monday to Friday, from half past nine to four."""
    local = ctx.due.astimezone(NEW_YORK)
    return local.weekday() < 5 and time(9, 30) <= local.time() < time(16)


@trading.command("Rebalance")
def rebalance(call: Call, order: dict[str, str]) -> str:
    """What the trading service does about it."""
    return keep(call, "rebalances", f"{order['book']} on {call.due:%a}")


app.declare(
    "daily-rebalance",
    cron("0 15 * * *", timezone="America/New_York"),
    command("trading", "Rebalance"),
    payload={"book": "A"},
    requires="market-open",
)

# --- prices of four exchanges, every thirty seconds -----------------------------------------------


@app.handler("sync-exchange")
def sync_exchange(ctx: Context, told: dict[str, str]) -> str:
    """Keep an exchange's price; one that is down disturbs none of the others."""
    price = ask(f"/price/{told['exchange']}")["price"]
    return keep(ctx, "prices", f"{told['exchange']} {price}")


for exchange in ("binance", "coinbase", "kraken", "okx"):
    app.declare(
        f"sync-{exchange}",
        every("30 seconds"),
        "sync-exchange",
        payload={"exchange": exchange},
        retry=Retry(2, delay="5 seconds"),
    )
