"""A shop: orders and payments that come in time, or do not."""

from __future__ import annotations

from typing import Any

from examples.sagas.base import app, keep
from examples.sagas.partner import partner_url
from horae import Context, Retry, http, on_event

# --- an unpaid order is cancelled after half an hour ----------------------------------------------


@app.schedule(
    "cancel-order",
    on_event("order.placed", delay="30 minutes"),
    cancel_on={"event": "order.paid", "match": {"order": "trigger.data.order"}},
)
def cancel_order(ctx: Context, order: dict[str, Any]) -> str:
    """Give back what was kept for it."""
    return keep(ctx, "cancelled", f"order {order['order']}")


# --- a failed payment is tried again, and then given up -------------------------------------------

app.declare(
    "charge",
    on_event("payment.due"),
    http("POST", f"{partner_url()}/charges"),
    retry=Retry(3, delay="10 minutes", backoff=1, jitter=0),
    fallback="give-up-payment",
)


@app.fallback("give-up-payment")
def give_up_payment(ctx: Context, payment: dict[str, Any]) -> str:
    """Ask for another card."""
    return keep(ctx, "unpaid", f"{payment['amount']} by {payment['card']}: {ctx.error['type']}")
