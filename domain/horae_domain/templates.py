"""Templates of schedules: JSON in which `${trigger.data.name}` stands for a value of the run that fills it.

A text that is one place alone becomes the value itself, of whatever type; within a longer text a place
becomes a text. `$${` is written for `${`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from horae_domain.errors import InvalidField
from horae_domain.listeners import MISSING, value_at
from horae_domain.patterns import in_words

MAX_PLACES = 64
"""Places that a template may have."""
MAX_ID = 128
"""Characters of a schedule's id."""
SOURCES = ("trigger", "payload", "result", "execution_id", "schedule_id", "due")
"""What the values are taken from."""

_PLACE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_PATH = re.compile(rf"({'|'.join(SOURCES)})(\.[^.]+)*")
TAGGED = {"trigger", "action", "fallback", "then", "compensate", "cancel_on"}
"""Fields after which pydantic names what it takes their value for."""
_STRUCTURE = {"missing", "extra_forbidden", "template"}
"""Complaints that no value can answer."""


def made_id(schedule_id: str, execution_id: str) -> str:
    """The id of a schedule whose template says none: one for each execution."""
    return f"{schedule_id[: MAX_ID - 1 - len(execution_id)]}:{execution_id}"


def open_text(value: object) -> bool:
    """True for a text with a place in it."""
    return isinstance(value, str) and any(each[1] is not None for each in _PLACE.finditer(value))


# --- checked when it is written ------------------------------------------------------------------


def check_template(template: Mapping[str, Any], read: Callable[[Any], object]) -> None:
    """Refuse what would be refused whatever the values are.

    Args:
        template: of a definition.
        read: reads a definition.

    Raises:
        PydanticCustomError: of the type `template`, with the path in the template.
    """
    places = 0
    for path, text in _texts(template, ""):
        for place in _PLACE.finditer(text):
            places += place[1] is not None
            if place[0] == "${" or (place[1] is not None and not _PATH.fullmatch(place[1])):
                wanted = ", ".join(SOURCES)
                raise _refused(path, f"a place is ${{path}}, with a path from one of {wanted}")
    if places > MAX_PLACES:
        raise _refused("", f"a template has at most {MAX_PLACES} places")
    try:
        read({"id": "made", **template})
    except ValidationError as error:
        for found in error.errors(include_url=False):
            if not _answerable(template, found):
                raise _refused(_dotted(found["loc"]), in_words(found)) from None


def _refused(path: str, reason: str) -> PydanticCustomError:
    told = {"path": path, "reason": reason}
    return PydanticCustomError("template", "{path}: {reason}" if path else "{reason}", told)


def _answerable(template: Mapping[str, Any], found: ErrorDetails) -> bool:
    """True if the complaint is about a text whose places are not filled yet."""
    if found["type"] in _STRUCTURE:
        return False
    value: Any = template
    for part in _names(found["loc"]):
        if isinstance(value, str):
            break
        value = _child(value, part)
    if found["type"].startswith("union_tag") and isinstance(value, Mapping):
        value = value.get("type")
    return open_text(value)


def _child(value: Any, part: int | str) -> Any:
    if isinstance(value, list) and isinstance(part, int):
        return value[part]
    return value.get(part) if isinstance(value, Mapping) else None


def _names(location: tuple[int | str, ...]) -> Iterator[int | str]:
    """A location of pydantic without the types that it names besides."""
    for index, part in enumerate(location):
        if not index or location[index - 1] not in TAGGED:
            yield part


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, _names(location)))


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """All texts that are filled, each with its path."""
    match value:
        case str():
            yield path, value
        case Mapping():
            for name, each in value.items():
                if not _inner(value, name):
                    yield from _texts(each, f"{path}.{name}" if path else name)
        case list():
            for index, each in enumerate(value):
                yield from _texts(each, f"{path}[{index}]")
        case _:
            pass


def _inner(value: Mapping[str, Any], name: str) -> bool:
    """True for a template in the template, which is filled by the run that makes a schedule of it."""
    return name == "template" and value.get("type") == "schedule"


# --- filled by a run -----------------------------------------------------------------------------


def fill(template: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The definition that a template makes of the values of a run.

    Raises:
        InvalidField: a place leads nowhere, or to what cannot stand within a text.
    """
    filled: dict[str, Any] = _filled(template, known, "template")
    return filled


def _filled(value: Any, known: Mapping[str, Any], path: str) -> Any:
    match value:
        case str():
            return _text(value, known, path)
        case Mapping():
            return {
                name: each if _inner(value, name) else _filled(each, known, f"{path}.{name}")
                for name, each in value.items()
            }
        case list():
            return [_filled(each, known, f"{path}[{index}]") for index, each in enumerate(value)]
        case _:
            return value


def _text(text: str, known: Mapping[str, Any], path: str) -> Any:
    alone = _PLACE.fullmatch(text)
    if alone is not None and alone[1] is not None:
        return _value(alone[1], known, path)
    return _PLACE.sub(lambda place: _part(place[1], known, path), text)


def _part(place: str | None, known: Mapping[str, Any], path: str) -> str:
    if place is None:
        return "${"
    value = _value(place, known, path)
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise InvalidField(
            f"{path}: {place} is no text, number or truth value, and stands within a text",
            field=path,
            value=place,
        )
    return msgspec.json.encode(value).decode()


def _value(place: str, known: Mapping[str, Any], path: str) -> Any:
    value = value_at(known, place)
    if value is MISSING:
        raise InvalidField(f"{path}: {place} leads nowhere", field=path, value=place)
    return value
