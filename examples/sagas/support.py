"""Support: escalations, reminders and mails that wait for hours or days, and are withdrawn in time."""

from __future__ import annotations

from typing import Any

from examples.sagas.base import app, keep
from horae import Context, Retry, cron, manual, new_schedule, on_event, on_outcome

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
    on_outcome("workflow", "failed", "timed_out", delay="24 hours"),
    cancel_on={"event": "workflow.repaired", "match": {"execution": "trigger.execution_id"}},
)
def escalate_workflow(ctx: Context, error: dict[str, Any]) -> str:
    """Nobody has repaired it within a day."""
    return keep(ctx, "workflows", f"still broken: {error['message']}")


# --- a notification an hour after a completion ----------------------------------------------------


@app.schedule("after-workflow", on_outcome("workflow", delay="1 hour"))
def after_workflow(ctx: Context, result: str) -> str:
    """Tell that the workflow is done."""
    return keep(ctx, "notifications", f"the workflow is {result}")


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
