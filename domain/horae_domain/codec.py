"""Events to bytes and back, by their stable names.

The stored form is JSON. An event of an old version is decoded by its upcaster, a function from
the old JSON object to the present event's; none is needed yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from horae_domain.events import NAMES, Event


class Undecodable(Exception):
    """The bytes of an event cannot be understood; its stream is quarantined."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: {reason}")


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[str, tuple[str, Upcaster]] = {}
"""Old name → the next version's name, and the function that lifts the JSON object to it."""

_encode = msgspec.json.Encoder().encode
_DECODERS: dict[str, Callable[[bytes], Event]] = {
    name: msgspec.json.Decoder(kind).decode for kind, name in NAMES.items()
}


def name_of(event: Event) -> str:
    """The stable name of an event's kind."""
    return NAMES[type(event)]


def encode(event: Event) -> bytes:
    """The stored form of an event."""
    return _encode(event)


def decode(
    name: str, state: bytes, upcasters: Mapping[str, tuple[str, Upcaster]] = UPCASTERS
) -> Event:
    """The event of a stored form.

    Raises:
        Undecodable: unknown name, or bytes that are not of its form.
    """
    decoder = _DECODERS.get(name)
    try:
        if decoder is not None:
            return decoder(state)
        if name in upcasters:
            newer, lift = upcasters[name]
            return decode(newer, _encode(lift(msgspec.json.decode(state))), upcasters)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise Undecodable(name, str(error)) from error
    raise Undecodable(name, "unknown name")
