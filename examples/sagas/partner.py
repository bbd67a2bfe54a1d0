"""The world outside: a chain, exchanges, a payment provider and services, over HTTP."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from http import HTTPStatus
from typing import Any

from examples.outside import Answer, Outside, serve

state: dict[str, Any] = {"volatility": 0.01, "volume": 2_000_000, "down": set()}
"""How the world is; who runs it may change it."""
looks: Counter[str] = Counter()
"""How often each path was asked for."""


class Partner(Outside):
    """Each look at a transaction finds one confirmation more; cards named `empty` pay nothing."""

    def asked(self) -> Answer:
        """What there is at a path."""
        looks[self.path] += 1
        kind, _, name = self.path.removeprefix("/").partition("/")
        if name in state["down"]:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"{name} is down"}
        if kind == "tx":
            return HTTPStatus.OK, {"confirmations": looks[self.path]}
        if kind == "price":
            return HTTPStatus.OK, {"price": 100 + len(name)}
        return HTTPStatus.OK, {name: state[name] for name in ("volatility", "volume")}

    def told(self, body: Any) -> Answer:
        """A payment is taken, or the provider cannot."""
        looks[self.path] += 1
        if body["card"] == "empty":
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "not now"}
        return HTTPStatus.OK, {"paid": body["amount"]}


@cache
def partner_url() -> str:
    """The address of the partner: `SAGAS_PARTNER`, or one that starts when it is first asked for."""
    return os.environ.get("SAGAS_PARTNER") or serve(Partner)
