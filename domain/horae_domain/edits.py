"""Changes of a part of a definition: each is an update of the whole, made from what holds now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, assert_never

from horae_domain.definition import parse_definition
from horae_domain.errors import InvalidField
from horae_domain.schedule import Cause, Schedule, UpdateSchedule, expect_revision, require_running


class PatchSchedule(NamedTuple):
    """Merge a JSON merge patch (RFC 7396) into the definition's wire form."""

    patch: Mapping[str, Any]
    expected_revision: int | None
    cause: Cause


class RetagSchedule(NamedTuple):
    """Take some tags away, then add others at the end."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    cause: Cause


Edit = PatchSchedule | RetagSchedule


def as_update(schedule: Schedule | None, edit: Edit) -> UpdateSchedule:
    """The update that an edit is.

    Raises:
        ScheduleNotFound, IllegalState, RevisionConflict: there is nothing to edit, or not this.
        InvalidField, InvalidTrigger, PayloadTooLarge: what comes of it is no definition, or that of
            another id.
    """
    existing = require_running(schedule)
    match edit:
        case PatchSchedule():
            expect_revision(existing, edit.expected_revision)
            content = merge_patch(existing.definition.canonical(), edit.patch)
        case RetagSchedule():
            kept = [tag for tag in existing.definition.tags if tag not in edit.remove]
            added = [tag for tag in edit.add if tag not in kept]
            content = existing.definition.canonical() | {"tags": [*kept, *dict.fromkeys(added)]}
        case _:
            assert_never(edit)
    definition = parse_definition(content)
    if definition.id != existing.id:
        raise InvalidField("the id of a schedule does not change", field="id", value=definition.id)
    return UpdateSchedule(definition, None, edit.cause)


def merge_patch(target: Any, patch: Any) -> Any:
    """A JSON value with a merge patch applied (RFC 7396): objects are merged, null removes."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
