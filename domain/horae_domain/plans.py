"""What somebody has planned for single occurrences of a schedule (T12).

A plan belongs to an occurrence by its nominal label, so it survives an edit of the schedule. It ends
with the occurrence's decision, or when its instant passes and no occurrence was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from horae_domain.events import (
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrenceSkipped,
)

MAX_PLANS = 1000
"""Occurrences of one schedule that may be planned at once."""


class Verdict(StrEnum):
    """What is to become of an occurrence when it comes due; the last word counts."""

    NONE = ""
    SKIP = "skip"
    HOLD = "hold"
    APPROVED = "approved"


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """What is planned for one occurrence."""

    kind: str
    due: datetime
    """The nominal instant."""
    at: datetime | None = None
    """Where it was moved to; it is decided then."""
    verdict: Verdict = Verdict.NONE
    payload: bytes = b""
    """JSON; empty is the schedule's own."""
    note: str = ""
    author: str | None = None
    decided: bool = False
    """Moved to before its nominal instant, and decided there."""

    @property
    def away(self) -> bool:
        """True if nothing is due at its nominal instant."""
        return self.at is not None

    @property
    def waits_at(self) -> datetime | None:
        """Where it is moved to, until it is decided."""
        return None if self.decided else self.at

    @property
    def comes(self) -> datetime:
        """When it is to be decided."""
        return self.at or self.due


Plans = Mapping[str, Plan]
"""By nominal label."""


def planned(plans: Plans, event: OccurrenceEvent) -> dict[str, Plan]:
    """The plans after somebody planned something."""
    plan = plans.get(event.nominal) or Plan(event.kind, event.due)
    changes: dict[str, Any] = {"note": event.note, "author": event.actor}
    match event:
        case OccurrenceSkipped():
            changes["verdict"] = Verdict.SKIP
        case OccurrenceHeld():
            changes["verdict"] = Verdict.HOLD
        case OccurrenceApproved():
            changes["verdict"] = Verdict.APPROVED
        case OccurrenceMoved():
            changes["at"] = None if event.to == event.due else event.to
        case OccurrencePayloadSet():
            changes["payload"] = msgspec.json.encode(event.payload)
        case _:
            raise TypeError(event)
    return {**plans, event.nominal: msgspec.structs.replace(plan, **changes)}


def decided(plans: Plans, nominal: str) -> Plans:
    """The plans after an occurrence got its decision; what was moved ahead is remembered."""
    plan = plans.get(nominal)
    if plan is None:
        return plans
    return {**plans, nominal: msgspec.structs.replace(plan, decided=True)}


def kept(plans: Plans, through: datetime) -> dict[str, Plan]:
    """The plans that still matter when every instant up to `through` has passed."""
    return {
        nominal: plan
        for nominal, plan in plans.items()
        if plan.due > through or plan.waits_at is not None
    }
