"""Whether somebody does what a definition asks for: looked for before the definition is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Protocol

from horae_application import messages
from horae_application.cqrs import unknown
from horae_application.messages import Command
from horae_domain.actions import (
    CommandAction,
    Deed,
    FunctionAction,
    HttpAction,
    ProcessAction,
    ScheduleAction,
)
from horae_domain.definition import Definition
from horae_domain.errors import UnknownCommand, UnknownHandler
from horae_domain.events import COMMAND
from horae_domain.stages import deeds
from horae_domain.templates import open_text
from horae_domain.triggers import ConditionTrigger


class Known(Protocol):
    """Which handlers somebody serves."""

    def serves(self, name: str) -> bool:
        """True if an executor here or elsewhere has announced it."""
        ...

    def names(self) -> Iterable[str]:
        """All that are announced."""
        ...

    def processes(self) -> bool:
        """True if an executor runs actions of type `process`."""
        ...

    async def checks(self, tenant: str, name: str) -> bool:
        """True if somebody serves a condition or a check."""
        ...

    def check_names(self, tenant: str) -> Iterable[str]:
        """All conditions and checks that are known."""
        ...

    def calls(self) -> bool:
        """True if an executor makes HTTP calls."""
        ...

    async def answers(self, tenant: str, name: str) -> bool:
        """True if a service answers a command such as `trading.Rebalance`."""
        ...

    def commands(self, tenant: str) -> Iterable[str]:
        """All such commands that are known."""
        ...


async def require(known: Known, tenant: str, command: Command) -> None:
    """Refuse a command that names what nobody serves, unless it says that it knows.

    Raises:
        UnknownHandler: `known` of its details lists what is served.
    """
    match command:
        case (
            messages.CreateSchedule(allow_unknown=False)
            | messages.UpdateSchedule(allow_unknown=False)
        ):
            await _require_deeds(known, tenant, command.definition)
            await _require_checks(known, tenant, command.definition)
            return
        case messages.PatchSchedule(allow_unknown=False, patch=patch):
            wanted = _wanted_by_patch(patch.get("action"))
            await _require_named(known, tenant, _required_by_patch(patch), "requires")
            await _require_named(known, tenant, _checked_by_patch(patch), "trigger.check")
        case messages.ScheduleCommand(allow_unknown=False):
            wanted = "function", COMMAND + command.command
        case _:
            return
    error = await _unserved(known, tenant, wanted)
    if error is not None:
        raise error


async def _require_deeds(known: Known, tenant: str, definition: Definition) -> None:
    for path, wanted in _wanted_by(definition):
        error = await _unserved(known, tenant, wanted)
        if error is not None:
            raise _at(error, path)


async def unserved(
    known: Known, tenant: str, definitions: Mapping[int, Definition]
) -> dict[int, UnknownHandler | UnknownCommand]:
    """Those of many definitions that name what nobody serves, and why; looked for all at once."""
    named = [
        (index, path, wanted)
        for index, each in definitions.items()
        for path, wanted in [
            *_wanted_by(each),
            *(("action", wanted) for wanted in _checks_of(each)),
        ]
    ]
    distinct = list(dict.fromkeys(wanted for _, _, wanted in named))
    answers = await asyncio.gather(*(_unserved(known, tenant, wanted) for wanted in distinct))
    errors = dict(zip(distinct, answers, strict=True))
    refused: dict[int, UnknownHandler | UnknownCommand] = {}
    for index, path, wanted in named:
        if (error := errors[wanted]) is not None:
            refused.setdefault(index, _at(error, path))
    return refused


def _at(error: UnknownHandler | UnknownCommand, path: str) -> UnknownHandler | UnknownCommand:
    """The same, naming the field of the definition that it is about."""
    if path == "action" or error.field is None:
        return error
    told = copy(error)
    told.field = error.field.replace("action", path, 1)
    return told


Wanted = tuple[str, str] | None
"""The type of an action and what it names; None if anybody may come to do it."""


def _wanted_by(definition: Definition) -> Iterator[tuple[str, Wanted]]:
    """What all actions of a definition name, each with its path."""
    for path, deed in deeds(definition):
        if isinstance(deed, ScheduleAction):
            yield f"{path}.template.action", _wanted_by_template(deed.template.get("action"))
        else:
            yield path, _wanted(deed)


def _wanted_by_template(action: Any) -> Wanted:
    """What the action of a template names, unless a run has to say it."""
    names = action.values() if isinstance(action, dict) else ()
    return None if any(map(open_text, names)) else _wanted_by_patch(action)


def _wanted(action: Deed) -> Wanted:
    match action:
        case FunctionAction(name=name):
            return action.type, name
        case ProcessAction() | HttpAction():
            return action.type, ""
        case CommandAction(service=service, command=command):
            return action.type, f"{service}.{command}"
        case _:
            return None


def _required_by_patch(patch: Mapping[str, Any]) -> list[str]:
    requires = patch.get("requires")
    names = requires if isinstance(requires, list) else [requires]
    return [name for name in names if isinstance(name, str)]


def _wanted_by_patch(action: Any) -> Wanted:
    """What a patch names; what it leaves as it is was looked for when that was named."""
    match action:
        case {"type": "process" | "http" as kind}:
            return kind, ""
        case {"name": str(name)}:
            return "function", name
        case {"service": str(service), "command": str(command)}:
            return "command", f"{service}.{command}"
        case _:
            return None


async def _unserved(
    known: Known, tenant: str, wanted: Wanted
) -> UnknownHandler | UnknownCommand | None:
    match wanted:
        case ("process", _):
            return _processes(known)
        case ("http", _):
            return _calls(known)
        case ("function", name):
            return _function(known, name)
        case ("requires" | "trigger.check" as field, name):
            return await _check(known, tenant, name, field)
        case ("command", name):
            return await _service(known, tenant, name)
        case _:
            return None


def _checked_by_patch(patch: Mapping[str, Any]) -> list[str]:
    match patch:
        case {"trigger": {"check": str(name)}}:
            return [name]
        case _:
            return []


async def _require_checks(known: Known, tenant: str, definition: Definition) -> None:
    await _require_named(known, tenant, definition.requires, "requires")
    if isinstance(definition.trigger, ConditionTrigger):
        await _require_named(known, tenant, [definition.trigger.check], "trigger.check")


async def _require_named(known: Known, tenant: str, names: Iterable[str], field: str) -> None:
    for name in names:
        error = await _check(known, tenant, name, field)
        if error is not None:
            raise error


def _checks_of(definition: Definition) -> list[tuple[str, str]]:
    named = [("requires", name) for name in definition.requires]
    if isinstance(definition.trigger, ConditionTrigger):
        named.append(("trigger.check", definition.trigger.check))
    return named


async def _check(known: Known, tenant: str, name: str, field: str) -> UnknownHandler | None:
    if await known.checks(tenant, name):
        return None
    names = sorted(known.check_names(tenant))
    return UnknownHandler(
        f"nobody serves a check {name!r}; there are: {', '.join(names) or 'none'}",
        field=field,
        value=name,
        known=names,
    )


def _processes(known: Known) -> UnknownHandler | None:
    if known.processes():
        return None
    return UnknownHandler(
        "no executor runs processes; allow it there with HORAE_ALLOW_PROCESSES=true",
        field="action.type",
        value="process",
    )


def _calls(known: Known) -> UnknownHandler | None:
    if known.calls():
        return None
    return UnknownHandler(
        "no executor makes HTTP calls; install the extra `http` there",
        field="action.type",
        value="http",
    )


def _function(known: Known, name: str) -> UnknownHandler | UnknownCommand | None:
    if known.serves(name):
        return None
    names = sorted(known.names())
    if name.startswith(COMMAND):
        taken = [each.removeprefix(COMMAND) for each in names if each.startswith(COMMAND)]
        return unknown("command", name.removeprefix(COMMAND), taken)
    return UnknownHandler(
        f"nobody serves a handler {name!r}; there are: {', '.join(names) or 'none'}",
        field="action.name",
        value=name,
        known=names,
    )


async def _service(known: Known, tenant: str, name: str) -> UnknownHandler | None:
    if await known.answers(tenant, name):
        return None
    names = sorted(known.commands(tenant))
    return UnknownHandler(
        f"no service answers {name!r}; there are: {', '.join(names) or 'none'}",
        field="action.command",
        value=name,
        known=names,
    )
