"""Support: escalations, reminders and mails that wait for hours or days, and are withdrawn in time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from examples.sagas.base import app, keep
from horae import Context, Retry, cron, manual, new_schedule, on_event, on_outcome, wait_for

# --- a ticket's escalation after two days, unless it is resolved ----------------------------------


@app.schedule(
    "escalate-ticket",
    on_event("ticket.opened", delay="48 hours"),
    cancel_on={"event": "ticket.resolved", "match": {"ticket": "trigger.data.ticket"}},
    priority="high",
)
def escalate_ticket(ctx: Context, ticket: dict[str, Any]) -> str:
    """Tell the lead."""
    return keep(ctx, "escalations", f"ticket {ticket['ticket']} is open for two days")


# --- a failed workflow's escalation after a day, unless it is repaired ----------------------------


@app.schedule("workflow", manual(), retry=Retry(2, delay="1 minute"))
def workflow(_ctx: Context, told: dict[str, Any]) -> str:
    """Do what the workflow does."""
    if told["broken"]:
        raise RuntimeError("a step of the workflow has failed")
    return "done"


@app.schedule(
    "escalate-workflow",
    on_outcome("workflow", "failed", "timed_out"),
    start="name-failure",
    wait=wait_for(
        "workflow.repaired",
        match={"execution": "result.execution"},
        timeout="24 hours",
        fallback="call-engineer",
    ),
)
def workflow_is_repaired(ctx: Context, repaired: dict[str, Any]) -> str:
    """Note who has seen to it."""
    return keep(ctx, "workflows", f"repaired by {repaired['by']}")


@app.handler("name-failure")
def name_failure(ctx: Context) -> dict[str, str]:
    """Which run it is that a repair will name."""
    return {"execution": ctx.trigger["execution_id"]}


@app.fallback("call-engineer")
def call_engineer(ctx: Context, error: dict[str, Any]) -> str:
    """Nobody has repaired it within a day."""
    return keep(ctx, "workflows", f"still broken: {error['message']}")


# --- a notification an hour after a completion ----------------------------------------------------


class Notify(BaseModel):
    """Somebody is to be told that something was done."""

    what: str


@app.schedule("after-workflow", on_outcome("workflow"))
async def after_workflow(ctx: Context, result: str) -> str:
    """Leave the notification for later."""
    return await ctx.schedule(Notify(what=result), at=ctx.due + timedelta(hours=1))


@app.command
def notify(ctx: Context, told: Notify) -> str:
    """Tell that the workflow is done."""
    return keep(ctx, "notifications", f"the workflow is {told.what}")


# --- seven daily mails at ten, in the user's zone -------------------------------------------------


# Each user has a schedule of their own; it completes after the seventh mail. Who signs up again gets
# the same one, and no mail twice.
app.declare(
    "welcome",
    on_event("user.signed-up"),
    new_schedule(
        cron("0 10 * * *", timezone="${trigger.data.timezone}"),
        "onboarding-mail",
        id="onboarding-${trigger.data.name}",
        payload={"name": "${trigger.data.name}"},
        max_executions=7,
    ),
)


@app.handler("onboarding-mail")
def onboarding_mail(ctx: Context, user: dict[str, str]) -> str:
    """Send the mail of the day."""
    return keep(ctx, "mails", f"mail {ctx.run_number} to {user['name']}")


# --- a reminder after a day, unless there is an answer --------------------------------------------


@app.schedule(
    "remind",
    on_event("offer.sent", delay="24 hours"),
    cancel_on={"event": "offer.answered", "match": {"offer": "trigger.data.offer"}},
)
def remind(ctx: Context, offer: dict[str, Any]) -> str:
    """Ask again."""
    return keep(ctx, "reminders", f"offer {offer['offer']} is not answered")
