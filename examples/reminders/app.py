"""Reminders of unpaid orders: commands that wait for their day, and are withdrawn if they can be.

    horae dev examples.reminders.app:app

places an order every ten seconds, and reminds of those that are unpaid five seconds later.
"""

from __future__ import annotations

from pydantic import BaseModel

from horae import Context, Horae, every

app = Horae("reminders")
paid: set[str] = set()
reminded: list[str] = []


class SendReminder(BaseModel):
    """Somebody is to be reminded of an order."""

    order_id: str


class UnpaidOrders(BaseModel):
    """Which orders somebody was reminded of, and has not paid since?"""


# A run that is delivered twice schedules the same command: its key is made of the order's number.
@app.schedule("orders", every("10 seconds"))
async def place_order(ctx: Context) -> str:
    """Place an order; every second one is paid at once."""
    order_id = f"o-{ctx.run_number}"
    reminder = await ctx.client.schedule(
        SendReminder(order_id=order_id),
        after="5 seconds",
        idempotency_key=f"reminder:{order_id}",
        correlation_id=ctx.correlation_id,
    )
    if (ctx.run_number or 0) % 2 == 0:
        paid.add(order_id)
        await ctx.client.cancel(reminder)
    return order_id


@app.command
async def send_reminder(ctx: Context, command: SendReminder) -> list[str]:
    """Remind, and answer what is still unpaid."""
    ctx.log("reminding", order_id=command.order_id)
    reminded.append(command.order_id)
    unpaid = await ctx.execute_query(UnpaidOrders())
    found: list[str] = unpaid.data
    return found


@app.query
def unpaid_orders(_query: UnpaidOrders) -> list[str]:
    """Those that were reminded of, without those that are paid."""
    return [each for each in reminded if each not in paid]
