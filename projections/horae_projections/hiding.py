"""What queries do not show of payloads: the secrets of handlers that ship with Horae (R10)."""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def may_hide(payload: Any) -> bool:
    """True if it depends on the handler whether all of a payload is shown."""
    return isinstance(payload, dict) and not payload.keys().isdisjoint({"urls", "targets"})


def without_secrets(handler: str | None, payload: Any) -> Any:
    """A payload as it may be shown, by the handler that gets it."""
    match handler, payload:
        case "horae.notify", {"urls": list(urls)}:
            return payload | {"urls": [_scheme(each) for each in urls]}
        case "horae.health_check", {"targets": list(targets)}:
            return payload | {"targets": [_target(each) for each in targets]}
        case _:
            return payload


def _scheme(url: Any) -> Any:
    """Any part of it may be a token; what names a variable is no secret."""
    if not isinstance(url, str) or url.startswith("env:"):
        return url
    return f"{url.partition('://')[0]}://***" if "://" in url else "***"


def _target(target: Any) -> Any:
    if not isinstance(target, dict) or not isinstance(target.get("url"), str):
        return target
    url = _QUERY.sub("?***", _USER.sub("***@", target["url"]))
    return target | {"url": url}
