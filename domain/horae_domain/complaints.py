"""What pydantic complains of, as errors of the interface."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from horae_domain.errors import InvalidExpression, InvalidField, InvalidTrigger, PayloadTooLarge
from horae_domain.fields import MAX_PAYLOAD
from horae_domain.patterns import in_words
from horae_domain.templates import TAGGED


def field_path(location: tuple[int | str, ...]) -> str:
    """`trigger.expression` from pydantic's location, which also names the union's branch."""
    parts: list[str] = []
    for index, part in enumerate(location):
        if index > 0 and location[index - 1] in TAGGED:
            continue
        if index > 1 and location[index - 2] == "calendars":
            continue
        parts.append(str(part))
    path = parts[0] if parts else ""
    for part in parts[1:]:
        path += f"[{part}]" if part.isdigit() else f".{part}"
    return path


def translate(error: ValidationError, prefix: str = "") -> InvalidField:
    """The first complaint of pydantic as an error of the interface."""
    return complaints(error, prefix)[0]


def complaints(error: ValidationError, prefix: str = "") -> list[InvalidField]:
    """Every complaint of pydantic as an error of the interface."""
    found = error.errors(include_url=False)
    return [_complaint(each, prefix) for each in found]


def _complaint(found: ErrorDetails, prefix: str) -> InvalidField:
    location = field_path(found["loc"])
    if found["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        location += ".type"
    path = f"{prefix}.{location}" if prefix and location else prefix or location
    message = f"{path or 'request'}: {_sentence(found)}"
    value = found.get("input")
    shown = None if isinstance(value, dict | list) else value
    kind: type[InvalidField] = InvalidField
    if found["type"] == "too_large":
        return PayloadTooLarge(message, field=path or None, limit=MAX_PAYLOAD)
    if found["type"] == "expression":
        return InvalidExpression(message, field=path or None, value=shown)
    if location.startswith("trigger") or found["type"] == "trigger":
        kind = InvalidTrigger
    return kind(message, field=path or None, value=shown)


def _sentence(found: ErrorDetails) -> str:
    return "unknown field" if found["type"] == "extra_forbidden" else in_words(found)
