"""Writes the event catalogue from the table of names: python tests/docs/catalogue.py > docs/reference/events.md"""

from __future__ import annotations

import inspect
import re

import msgspec

from horae_domain.events import NAMES, Event, ExecutionEvent

HEAD = """# Event catalogue

Every fact that Horae records. The stored form is JSON without the fields that have their default;
a name carries the version of its form. `tests/golden/` holds one stored example of each, which must
stay readable for ever.

Streams: a schedule's events are in the schedule's stream, an execution's in its own (its id is the
stream's id), `request.answered` in a stream made of tenant, command and key, `external_event.received` in
one made of tenant, source and id.

On JetStream (`HORAE_EVENTS`) they are CloudEvents on `horae.<tenant>.event.<aggregate>.<name>`;
`request.answered` and `external_event.received` stay inside.
"""


def catalogue() -> str:
    """The whole page."""
    parts = [
        HEAD,
        _section("In every event", Event),
        _section("In every execution event", ExecutionEvent, Event),
    ]
    for kind, name in NAMES.items():
        base = ExecutionEvent if issubclass(kind, ExecutionEvent) else Event
        parts.append(_section(f"`{name}`", kind, base))
    return "\n".join(parts)


def _section(title: str, kind: type, base: type | None = None) -> str:
    known = {field.name for field in msgspec.structs.fields(base)} if base else set()
    rows = [
        f"| `{field.name}` | {_type(field.type)} | {_default(field)} |"
        for field in msgspec.structs.fields(kind)
        if field.name not in known
    ]
    table = ["", "| field | type | default |", "| --- | --- | --- |", *rows] if rows else []
    return "\n".join([f"## {title}", "", inspect.getdoc(kind) or "", *table, ""])


def _type(kind: object) -> str:
    text = str(kind).removeprefix("<class '").removesuffix("'>")
    text = re.sub(r"(\w+\.)+", "", text).replace("NoneType", "null")
    return f"`{text.replace('|', 'or')}`"


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(value).decode()}`"


if __name__ == "__main__":
    print(catalogue(), end="")
