"""Where in the history something rests; opaque to clients, who only hand it back."""

from __future__ import annotations

import re
from typing import NamedTuple

from horae_domain.errors import InvalidField

_TEXT = re.compile(r"(?P<store>[0-9A-Za-z_-]{1,64})\.(?P<log>[0-9]{1,9})\.(?P<number>[0-9]{1,18})")


class Position(NamedTuple):
    """A place in a log of a store; `str` gives its form on the wire, `3f9a2b1c.0.123`.

    Numbers compare only within the same store and log: a restored or promoted store has another
    identity, and what rested on the former one is to be rebuilt.
    """

    store: str
    log: int
    number: int

    def __str__(self) -> str:
        return f"{self.store}.{self.log}.{self.number}"

    def reached_by(self, other: Position) -> bool:
        """True if whoever stands at `other` has seen this one."""
        return self[:2] == other[:2] and self.number <= other.number


def parse_position(text: str, *, field: str = "position") -> Position:
    """The position of its wire form.

    Raises:
        InvalidField: it is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise InvalidField("not a position of this system", field=field, value=text)
    return Position(found["store"], int(found["log"]), int(found["number"]))
