"""A request on its way, and the answer to it."""

from __future__ import annotations

from typing import Any

import msgspec

from horae_domain.errors import HoraeError

OK = 200
"""The status of the one success."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One command or query on its way to whoever answers it."""

    tenant: str
    name: str
    """Such as `schedule.create`."""
    body: bytes = b"{}"
    """A JSON object."""
    key: str | None = None
    """Idempotency key: the same key and body get the first answer again."""
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}
    """What travels with it, see `horae_domain.tracing`."""


class Reply(msgspec.Struct, frozen=True):
    """The answer: `status` is 200 or that of the error; `body` goes out as it is."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True unless refused."""
        return self.status == OK


def refused(error: HoraeError, position: str | None = None) -> Reply:
    """The wire form of an error."""
    body: dict[str, Any] = {"ok": False, "error": error.to_json()}
    if position is not None:
        body["position"] = position
    return Reply(error.status, body)
