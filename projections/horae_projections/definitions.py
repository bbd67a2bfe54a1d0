"""The definitions of schedules as the views keep them: packed, and what their indexes see of them."""

from __future__ import annotations

import zlib
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from horae_domain.durations import parse_duration
from horae_domain.events import COMMAND, CommandScheduled, command_definition
from horae_domain.instants import from_micros, to_micros
from horae_projections.ports import PlaceKey, Places

COMMAND_TYPE = "command"
"""The type of scheduled commands, of which there may be very many: in lists of their own."""
_LIKELY = (
    b'"concurrency":"max_executions":"end_at":"start_at":"cooldown":"pt"metadata":{},"priority":"high"'
    b'"low"critical"queue":"default"timeout":{"start_to_close":"overlap":"allow"buffer"dst":{"gap":'
    b'"retry":{"max_attempts":"delay":"catch_up":{"mode":"all"skip"window":"description":"tags":["'
    b'"command":["name":"trigger":{"type":"cron","expression":"0 * * * *","timezone":"UTC"Europe/'
    b'America/{"trigger":{"type":"interval","every":"1m","anchor":"{"trigger":{"type":"once","after"'
    b'{"trigger":{"type":"once","at":"2026-01-01T00:00:00Z"},"action":{"type":"process"queue"'
    b'{"trigger":{"type":"manual"},"action":{"type":"function","name":"},"payload":{"'
)
"""What definitions are made of, for the compressor; part of the format of the rows."""
_UNSAID: list[Any] = [None, "", None, {}, {}]
"""Of the facts of a command, those that are left out at the end."""
_REMEMBERED = 4096
_PACKED: dict[bytes, dict[str, Any]] = {}
"""What was packed last: its indexes are made next, and need it again."""
_PRESS = zlib.compressobj(9, zlib.DEFLATED, -12, 5, zlib.Z_DEFAULT_STRATEGY, _LIKELY)
"""Only copied: a copy has read what is likely."""
_to_json = msgspec.json.Encoder().encode
_of_json = msgspec.json.Decoder().decode


def pack_definition(definition: dict[str, Any]) -> bytes:
    """A canonical definition, without its id, in few bytes."""
    told = {name: value for name, value in definition.items() if name != "id"}
    packed = _press(told)
    if len(_PACKED) >= _REMEMBERED:
        _PACKED.clear()
    _PACKED[packed] = told
    return packed


def pack_command(event: CommandScheduled) -> bytes:
    """The definition of a scheduled command: what only this one says."""
    when = event.after if event.due is None else to_micros(event.due)
    facts = [event.command, when, event.data, event.metadata, event.policies]
    while facts[-1] == _UNSAID[len(facts) - 1]:
        facts.pop()
    return _press(facts)


def unpack_definition(packed: bytes) -> dict[str, Any]:
    """What was packed."""
    found = _unpress(packed)
    if isinstance(found, dict):
        return found
    command, when, data, metadata, policies = _facts(found)
    due, after = (None, when) if isinstance(when, str) else (from_micros(when), None)
    return command_definition(command, data, due, after, metadata, policies)


def _facts(found: list[Any]) -> list[Any]:
    return found + _UNSAID[len(found) :]


def _press(content: Any) -> bytes:
    press = _PRESS.copy()
    return press.compress(_to_json(content)) + press.flush()


def _unpress(packed: bytes) -> Any:
    return _of_json(zlib.decompressobj(-12, _LIKELY).decompress(packed))


class Facets(NamedTuple):
    """What the indexes see of a definition: not to be changed."""

    type: str
    priority: str
    text: str
    sets: Places
    rest: timedelta | None = None


@lru_cache(4096)
def facets_of(packed: bytes, created_by: str | None) -> Facets:
    """Those of a packed definition, and of who made the schedule."""
    told = _PACKED.pop(packed, None) or _unpress(packed)
    if isinstance(told, list):
        told = {
            "trigger": {"type": "once"},
            "action": {"type": "function", "name": COMMAND + told[0]},
            **_facts(told)[-1],
        }
    sets: dict[str, PlaceKey] = {f"handler:{handler_of(told['action'])}": None}
    if is_command(told):
        return Facets(COMMAND_TYPE, told.get("priority", "medium"), "", sets)
    for tag in told.get("tags", ()):
        sets[f"tag:{tag}"] = None
    if created_by is not None:
        sets[f"by:{created_by}"] = None
    return Facets(
        told["trigger"]["type"],
        told.get("priority", "medium"),
        fold_text(told.get("name") or ""),
        sets,
        _rest_of(told),
    )


def _rest_of(told: dict[str, Any]) -> timedelta | None:
    """How long nothing fires after something has (G6); None if it does not rest."""
    spans = (told.get("cooldown"), told["trigger"].get("cooldown"))
    if spans == (None, None):  # as most
        return None
    return max(parse_duration(each, field="cooldown") for each in spans if each is not None)


def fold_text(text: str) -> str:
    """Names are compared without regard to case; NUL separates texts from ids in the index."""
    return text.casefold().replace("\0", "")


def is_command(told: dict[str, Any]) -> bool:
    """True if a definition is that of a scheduled command."""
    trigger, action = told["trigger"]["type"], told["action"]
    function = trigger == "once" and action["type"] == "function"
    return function and str(action["name"]).startswith(COMMAND)


def handler_of(action: dict[str, Any]) -> str:
    """What an action names: a function, a queue, a service's command, a URL, or a program."""
    match action["type"]:
        case "function":
            return str(action["name"])
        case "queue":
            return str(action["queue"])
        case "steps" | "none" | "schedule":
            return str(action["type"])
        case "command":
            return f"{action['service']}.{action['command']}"
        case "http":
            return str(action["url"]).partition("?")[0]
        case _:
            return str(action["command"][0])
