"""Schedules that are made from templates (T5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from horae.client import define
from horae.triggers import Trigger


def new_schedule(
    trigger: Trigger,
    action: str | Mapping[str, Any],
    *,
    id: str | None = None,  # noqa: A002 - the wire's name
    **policies: Any,
) -> dict[str, Any]:
    """The action that makes a schedule of values of the run, such as `${trigger.data.name}`.

    Args:
        trigger: of the new schedule.
        action: a handler's name, or the wire's action.
        id: of the new schedule; one for each execution unless told.
        policies: the other fields of a definition, such as `payload` or `max_executions`.
    """
    template = define(id or "", trigger, action, **policies)
    if id is None:
        del template["id"]
    return {"type": "schedule", "template": template}
