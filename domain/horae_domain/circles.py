"""How deep executions follow from one another, so that schedules which make each other fire come to an end.

An execution is one deeper than the one whose outcome it follows, or in whose name its schedule was
triggered or made. What would be too deep is skipped or refused, and that is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from horae_domain.errors import ChainTooDeep

MAX_DEPTH = 16
"""How many executions may follow from one another."""
TOO_DEEP = "chain_too_deep"
"""The reason of what is skipped for it."""
DEPTH = "depth"
"""What it is carried as."""


class Deep(Protocol):
    """An execution, or the event by which one was skipped."""

    @property
    def trigger(self) -> Mapping[str, Any]:
        """The facts of what has triggered it."""
        ...

    @property
    def carried(self) -> Mapping[str, str]:
        """What travels with it."""
        ...


def depth_of(run: Deep | None) -> int:
    """How many executions one has followed from; 0 for the first, and where it is not known."""
    if run is None:
        return 0
    return max(int(run.trigger.get(DEPTH, 0)), depth_in(run.carried))


def depth_in(carried: Mapping[str, str]) -> int:
    """How deep that is which something carried leads to."""
    return int(carried.get(DEPTH, 0))


def deepened(carried: Mapping[str, str], depth: int) -> dict[str, str]:
    """The same, at least so deep; nothing is carried for the depth 0."""
    depth = max(depth, depth_in(carried))
    return dict(carried) | ({DEPTH: str(depth)} if depth else {})


def expect_room(depth: int) -> None:
    """Refuse to make a schedule that is too deep.

    Raises:
        ChainTooDeep: it is.
    """
    if depth > MAX_DEPTH:
        raise ChainTooDeep(f"{depth} executions have followed from one another", field="id")
