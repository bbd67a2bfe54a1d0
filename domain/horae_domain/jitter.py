"""Jitter and spreading: how much later than its instant an occurrence comes (T10).

Both are functions of what they belong to, so that every engine, a preview and a replay agree. Jitter
is a hash of the schedule and the nominal label; the share of a spread is a hash of the schedule alone,
so that the schedule keeps its rhythm. Neither reaches the next occurrence, or a time at which a calendar
closes: what there is no room for is scaled down to the room, as Temporal does it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from horae_domain.identity import fraction
from horae_domain.observed import ObservedRecurrence

if TYPE_CHECKING:
    from horae_domain.definition import Definition
    from horae_domain.recurrence import Occurrence, Recurrence

_NONE = timedelta(0)
_MICROSECOND = timedelta(microseconds=1)


def put_off(
    definition: Definition, recurrence: Recurrence, occurrence: Occurrence, tenant: str
) -> Occurrence:
    """The occurrence where the jitter and the spread of its schedule put it."""
    if not (definition.jitter or definition.spread):
        return occurrence
    following = recurrence.next(occurrence.due)
    room = None if following is None else following.due - occurrence.falls
    if isinstance(recurrence, ObservedRecurrence):
        room = recurrence.open_for(occurrence.falls, room or _longest(definition))
    later = delay(definition, tenant, occurrence.nominal, room)
    return occurrence._replace(put_off_to=occurrence.falls + later) if later else occurrence


def _longest(definition: Definition) -> timedelta:
    """What jitter and spread never reach."""
    return definition.jitter + (definition.spread or _NONE) + _MICROSECOND


def delay(definition: Definition, tenant: str, nominal: str, room: timedelta | None) -> timedelta:
    """How much later an occurrence comes: less than `room`, if that is bounded."""
    id_ = definition.id
    spread = _share(definition.spread, room, "spread", tenant, id_)
    rest = None if room is None else room - spread
    return spread + _share(definition.jitter, rest, "jitter", tenant, id_, nominal)


def _share(window: timedelta | None, room: timedelta | None, *parts: str) -> timedelta:
    """A part of a window, or of the room if that is less: never all of it."""
    if not window:
        return _NONE
    bound = window if room is None else min(window, room)
    return timedelta(microseconds=int(bound // _MICROSECOND * fraction(*parts)))
