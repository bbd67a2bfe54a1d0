"""HTTP calls as actions of schedules (A3)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from horae_domain.actions import HttpAction
from horae_domain.wire import validate

Span = str | float | timedelta


def http(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    secret: str | None = None,
    timeout: Span = "15 seconds",
    connect_timeout: Span = "5 seconds",
) -> dict[str, Any]:
    """The action that makes an HTTP call.

    Args:
        method: such as `POST`.
        url: http or https, on port 80, 443 or one over 1023, without user and fragment.
        headers: sent besides those that Horae sets.
        body: JSON, in place of the payload of the execution.
        secret: the name of the secret that signs the call, of those that executors have.
        timeout: for all of the call; seconds if a number, at most 30 minutes.
        connect_timeout: until the connection is there; at most a minute.

    Raises:
        InvalidField: with the part that breaks its rule.
    """
    told = {
        "method": method,
        "url": url,
        "headers": dict(headers or {}),
        "body": body,
        "secret": secret,
        "timeout": timeout,
        "connect_timeout": connect_timeout,
    }
    action = validate(HttpAction, told)
    return {"type": action.type, **action.model_dump(mode="json", exclude_defaults=True)}
