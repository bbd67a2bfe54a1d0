"""Files of schedules: JSON, JSON lines, or YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from horae.cli.errors import FileUnreadable
from horae_domain.errors import InvalidField


class Content(NamedTuple):
    """What a file says: the name of its set, if any, and its definitions."""

    set: str | None
    schedules: list[Any]


def read_schedules(name: str) -> Content:
    """The definitions of a file, or of standard input for `-`; YAML by its suffix.

    It holds an object with `schedules` and perhaps `set`, a list, or one definition a line or a
    document.

    Raises:
        FileUnreadable: it cannot be read.
        InvalidField: it is none of these.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise FileUnreadable(f"{name}: {error.strerror}", field="FILE", value=name) from error
    try:
        documents = _yaml(data) if Path(name).suffix in {".yaml", ".yml"} else _json(data)
    except ValueError as error:
        raise InvalidField(f"{name}: {error}", field="FILE", value=name) from error
    return _content(documents, name)


def _json(data: bytes) -> list[Any]:
    try:
        return [msgspec.json.decode(data)]
    except msgspec.DecodeError:
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2:  # noqa: PLR2004 - several lines of JSON, or none that is any
            raise
        return [[msgspec.json.decode(line) for line in lines]]


def _yaml(data: bytes) -> list[Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [each for each in yaml.load_all(data, loader) if each is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error


def _content(documents: list[Any], name: str) -> Content:
    sets: set[str] = set()
    schedules: list[Any] = []
    for document in documents:
        match document:
            case {"schedules": list(several), **rest}:
                if unknown := sorted(str(each) for each in rest.keys() - {"set"}):
                    raise InvalidField(f"unknown field: {unknown[0]}", field=unknown[0])
                sets |= {str(rest["set"])} if "set" in rest else set()
                schedules += several
            case list():
                schedules += document
            case {"id": _}:
                schedules.append(document)
            case _:
                raise InvalidField(
                    "a file has an object with `schedules`, a list, or definitions",
                    field="FILE", value=name,
                )  # fmt: skip
    if len(sets) > 1:
        raise InvalidField("a file is one set", field="set", value=sorted(sets))
    return Content(next(iter(sets), None), schedules)
