"""The event of an answer that is kept."""

from __future__ import annotations

from typing import Any

from horae_domain.events.base import Event


class RequestAnswered(Event, frozen=True, kw_only=True):
    """The first answer to an idempotency key, with the fingerprint of the request.

    The stream's id is a function of tenant, command and key.
    """

    request: str
    reply: dict[str, Any]
