"""Operations: windows, health, clean-ups, backups, reports, and what a new tenant begins with."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from examples.sagas.base import app, keep, kept
from examples.sagas.pace import scaled, scaled_trigger
from examples.sagas.partner import partner_url
from horae import Call, Context, command, cron, every, on_event

# --- processing that is left for a maintenance window ---------------------------------------------

BERLIN = ZoneInfo("Europe/Berlin")
OPENS, CLOSES = time(2), time(4)


class Migrate(BaseModel):
    """A table is to be migrated."""

    table: str


@app.schedule("defer-migration", on_event("migration.wanted"))
async def defer_migration(ctx: Context, wanted: Migrate) -> str:
    """Leave it for the window; within it there is nothing to wait for."""
    return await ctx.schedule(wanted, at=next_window(ctx.due), allow_past=True)


def next_window(now: datetime) -> datetime:
    """Now, if the window is open, else when it opens."""
    local = now.astimezone(BERLIN)
    if OPENS <= local.time() < CLOSES:
        return now
    day = local.date() + timedelta(days=local.time() >= OPENS)
    return now + scaled(datetime.combine(day, OPENS, BERLIN) - now)


@app.command
def migrate(ctx: Context, wanted: Migrate) -> str:
    """Do it."""
    return keep(ctx, "migrations", f"{wanted.table} at {ctx.due.astimezone(BERLIN):%H:%M}")


# --- the health of several services, every five minutes -------------------------------------------

app.declare(
    "health",
    every("5 minutes"),
    "horae.health_check",
    payload={
        "targets": [
            {"type": "http", "url": f"{partner_url()}/health/{name}", "name": name}
            for name in ("orders", "payments", "search")
        ]
    },
    priority="high",
    retry={"max_attempts": 1},
)

# --- a clean-up an hour after a policy has changed ------------------------------------------------


# A further change within the hour ends the wait for the one before: one clean-up follows the last.
@app.schedule(
    "clean-up",
    on_event("policy.changed", delay="1 hour"),
    cancel_on={"event": "policy.changed", "match": {"policy": "trigger.data.policy"}},
)
def clean_up(ctx: Context, change: dict[str, Any]) -> str:
    """Erase what the policy keeps no longer."""
    return keep(ctx, "clean-ups", f"{change['policy']}: {change['days']} days")


# --- re-indexing every six hours ------------------------------------------------------------------


@app.schedule("re-index", every("6 hours"), overlap="skip", timeout={"start_to_close": "1 hour"})
def re_index(ctx: Context) -> str:
    """Build the index of what was migrated anew."""
    return keep(ctx, "indexes", f"{len(kept('migrations'))} tables")


# --- a weekly backup by the workflow service, a daily report by the agent service -----------------

workflows, agents = app.service("workflows"), app.service("agents")


@workflows.command("Backup")
def backup(call: Call, told: dict[str, str]) -> str:
    """Start the workflow; all attempts of a run have the same key."""
    return keep(call, "backups", f"{told['database']} {call.due:%a}")


@agents.command("Report")
def report(call: Call, told: dict[str, str]) -> str:
    """Let an agent write it."""
    return keep(call, "reports", f"{told['about']} of {call.due:%d.%m.}")


app.declare(
    "weekly-backup",
    cron("0 3 * * SUN", timezone="Europe/Berlin"),
    command("workflows", "Backup"),
    payload={"database": "orders"},
)
app.declare(
    "daily-report",
    cron("0 7 * * *", timezone="Europe/Berlin"),
    command("agents", "Report", timeout="1 minute"),
    payload={"about": "sales"},
)

# --- the first schedules of a new tenant ----------------------------------------------------------

FIRST = {
    "nightly-report": cron("0 2 * * *"),
    "poll-inbox": every("15 minutes"),
}


# A run that is delivered again asks with the same keys, and gets the first answers.
@app.schedule("new-tenant", on_event("tenant.created"))
async def new_tenant(ctx: Context, tenant: dict[str, str]) -> list[str]:
    """Make them in the tenant itself."""
    client = ctx.client.in_tenant(tenant["id"])
    for id_, trigger in FIRST.items():
        when = scaled_trigger(trigger)
        action = {"type": "queue", "queue": id_}
        await client.create_schedule(id_, when, action, idempotency_key=f"first:{id_}")
    return list(FIRST)
