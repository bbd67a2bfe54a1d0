"""Trace contexts of executions, and the baggage that travels with them (W3C).

An execution that a request or an event asked for belongs to the trace of that; so a command and what
its handler does are one trace. Any other is the root of a trace of its own, whose id is the
execution's: nothing more is recorded for it.

Beside the `traceparent` events and work have `carried`: the headers `tracestate` and `baggage` as they
came, and `causation_id`, the id of the execution whose handler has asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from urllib.parse import quote, unquote

from horae_domain.errors import BaggageTooLarge, InvalidField

TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
CAUSATION = "causation_id"
CAUSATION_HEADER = "Horae-Causation-Id"
MAX_TRACESTATE = 512
"""Characters; a longer one is dropped, as the standard allows."""
MAX_BAGGAGE = 8192
"""Bytes of baggage that are forwarded, and no more."""
MAX_MEMBERS = 64
"""Its members."""
MAX_ID = 255
"""Characters of the id of a cause."""
SAMPLED = "01"

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_VISIBLE = re.compile(r"[\t\x20-\x7e]+")
_KEY = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def read_context(headers: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """The `traceparent` of headers, and what travels with it; what is malformed is ignored.

    Raises:
        BaggageTooLarge: the baggage is over its bounds.
    """
    carried: dict[str, str] = {}
    parent: str | None = headers.get(TRACEPARENT, "")
    if _TRACEPARENT.fullmatch(parent or "") is None:
        parent = None
    state = headers.get(TRACESTATE, "")
    if parent and len(state) <= MAX_TRACESTATE and _VISIBLE.fullmatch(state):
        carried[TRACESTATE] = state
    baggage = checked_baggage(headers.get(BAGGAGE, ""))
    if _VISIBLE.fullmatch(baggage):
        carried[BAGGAGE] = baggage
    cause = headers.get(CAUSATION_HEADER, "")
    if len(cause) <= MAX_ID and _VISIBLE.fullmatch(cause):
        carried[CAUSATION] = cause
    return parent, carried


def context_headers(traceparent: str | None, carried: Mapping[str, str]) -> dict[str, str]:
    """The headers that tell another program of a trace context and of what travels with it."""
    headers = {} if traceparent is None else {TRACEPARENT: traceparent}
    return headers | {name: carried[name] for name in (TRACESTATE, BAGGAGE) if name in carried}


def checked_baggage(text: str) -> str:
    """The same text.

    Raises:
        BaggageTooLarge: it is over the bounds.
    """
    size, members = len(text.encode("utf-8", "replace")), text.count(",") + 1
    if size > MAX_BAGGAGE or members > MAX_MEMBERS:
        raise BaggageTooLarge(
            f"baggage has at most {MAX_BAGGAGE} bytes and {MAX_MEMBERS} members",
            field=BAGGAGE,
            size=size,
            members=members,
        )
    return text


def parse_baggage(text: str) -> dict[str, str]:
    """The members of a `baggage` header, without their properties; malformed ones are left out."""
    members = (each.partition(";")[0].partition("=") for each in text.split(","))
    return {
        key.strip(): unquote(value.strip())
        for key, is_, value in members
        if is_ and _KEY.fullmatch(key.strip())
    }


def format_baggage(members: Mapping[str, str]) -> str:
    """The `baggage` header of members.

    Raises:
        BaggageTooLarge: it is over the bounds.
        InvalidField: a key is no token.
    """
    for key in members:
        if _KEY.fullmatch(key) is None:
            raise InvalidField("a key of baggage is a token", field=BAGGAGE, value=key)
    return checked_baggage(",".join(f"{key}={quote(value)}" for key, value in members.items()))


def trace_id(execution_id: str, traceparent: str | None) -> str:
    """The 32 hexadecimal digits of the trace that an execution belongs to."""
    if traceparent is None:
        return execution_id.replace("-", "")
    return traceparent.split("-")[1]


def traceparent_of(execution_id: str, traceparent: str | None) -> str:
    """The context in which an execution's attempts run: what they do are children of its span."""
    if traceparent is not None:
        return traceparent
    span = blake2b(execution_id.encode(), digest_size=8).hexdigest()
    return f"00-{trace_id(execution_id, None)}-{span}-{SAMPLED}"
