"""Waits, steps and fallbacks as Python users write them; each is the wire's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from horae.triggers import Span
from horae_domain.durations import format_duration, parse_duration
from horae_domain.errors import InvalidField

Action = str | Mapping[str, Any]
"""A handler's name, or the wire's action."""
Match = str | Iterable[str] | Mapping[str, Any]
"""Names that an event's data have in common with the trigger's; or paths into its data, each with where
the value wanted there comes from: `trigger.data...`, `payload...` or `result...`."""


def wait_for(
    *events: str | tuple[str, Match],
    match: Match | None = None,
    need: int | Literal["all", "any"] = "all",
    timeout: Span | None = "10 minutes",
    then: Action | None = None,
    fallback: Action | None = None,
) -> dict[str, Any]:
    """Wait for an external event after the action, or for some of several.

    Args:
        events: types, each perhaps with a `match` of its own.
        match: which event of the type it has to be.
        need: how many of several have to come.
        timeout: how long; None for ever.
        then: what runs when it is confirmed; the decorated function, with a decorator.
        fallback: what runs when it is not confirmed in time.
    """
    awaited = [_awaited(each, match) for each in events]
    wait: dict[str, Any] = awaited[0] if len(awaited) == 1 else {"events": awaited, "need": need}
    limit = None if timeout is None else parse_duration(timeout, field="wait.timeout")
    wait["timeout"] = None if limit is None else format_duration(limit)
    parts = {"then": then, "fallback": fallback}
    return wait | {name: action(each) for name, each in parts.items() if each is not None}


def _awaited(event: str | tuple[str, Match], match: Match | None) -> dict[str, Any]:
    type_, own = (event, match) if isinstance(event, str) else event
    return {"event": type_, "match": matching(own or {})}


def matching(match: Match) -> dict[str, Any]:
    """Paths into an event's data, each with where the value wanted there comes from."""
    if isinstance(match, Mapping):
        return dict(match)
    names = [match] if isinstance(match, str) else list(match)
    return {name: f"trigger.data.{name}" for name in names}


def steps(*done: Mapping[str, Any]) -> dict[str, Any]:
    """An action of several steps; if one fails, what the others did is taken back in reverse.

    Raises:
        InvalidField: one of them is not made by `step`.
    """
    for each in done:
        if not isinstance(each, Mapping):
            raise InvalidField(
                "action.steps: each is a step, as in steps(step('reserve'), step('charge'))",
                field="action.steps",
                value=repr(each),
            )
    return {"type": "steps", "steps": [dict(each) for each in done]}


def step(
    name: str, does: Action | None = None, *, compensate: Action | None = None
) -> dict[str, Any]:
    """One step: the handler of its name, or another action, and what takes it back."""
    told: dict[str, Any] = {"name": name, "action": action(name if does is None else does)}
    return told if compensate is None else told | {"compensate": action(compensate)}


def action(told: Action) -> dict[str, Any]:
    """The wire's action of a handler's name, or as it is."""
    return {"type": "function", "name": told} if isinstance(told, str) else dict(told)


def with_sagas(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Policies with `wait` and `fallback` as the wire has them."""
    told = dict(policies)
    if (wait := told.pop("wait", None)) is not None:
        told["wait_for"] = wait
    if told.get("fallback") is not None:
        told["fallback"] = action(told["fallback"])
    return told
