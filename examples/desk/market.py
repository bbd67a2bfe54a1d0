"""The world outside the desk: a price service over HTTP, which is down now and then."""

import random
from functools import cache
from http import HTTPStatus
from typing import Any

from examples.outside import Answer, Outside, serve

OUTAGES = 0.3
"""The share of settlements that are refused."""


class Market(Outside):
    """GET /price answers the price, POST /settle takes an order or is not available."""

    def asked(self) -> Answer:
        """A price that wanders around 100."""
        return HTTPStatus.OK, {"symbol": "ACME", "price": round(random.gauss(100, 2), 2)}

    def told(self, body: Any) -> Answer:  # noqa: ARG002 - whatever is to be settled
        """It is settled, unless there is an outage."""
        if random.random() < OUTAGES:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"}
        return HTTPStatus.OK, {"settled": True}


@cache
def market_url() -> str:
    """The address of the service, which starts when it is first asked for."""
    return serve(Market)
