"""Merge patches written on the command line, such as `retry.max_attempts=2`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from horae_domain.errors import InvalidField

Json = dict[str, Any]


def patch_of(settings: Iterable[str]) -> Json:
    """The patch of settings `path=value`; the parts of a path are divided by dots.

    Raises:
        InvalidField: one has no `=`, an empty part, or contradicts another.
    """
    patch: Json = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        *above, last = path.split(".")
        if not equals or not all((*above, last)):
            raise InvalidField("a setting is PATH=VALUE", field="--set", value=setting)
        inside: Any = patch
        for name in above:
            inside = inside.setdefault(name, {})
            if not isinstance(inside, dict):
                raise InvalidField("it is set twice", field="--set", value=setting)
        if last in inside:
            raise InvalidField("it is set twice", field="--set", value=setting)
        inside[last] = _value(text)
    return patch


def _value(text: str) -> Any:
    """JSON, or the text itself where it is none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text
