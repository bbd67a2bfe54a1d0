"""`horae replay`: the log of a store as lines of JSON, beside an engine that writes to it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from horae.cli.presence import running_here
from horae_application.ports import StoredEvent
from horae_domain.errors import InvalidField
from horae_domain.instants import format_instant, from_micros, parse_instant, to_micros
from horae_domain.positions import Position, parse_position
from horae_infrastructure.settings import Settings
from horae_infrastructure.store.log import open_log

CHUNK = 1000
"""Events read at once."""

Side = Callable[[StoredEvent], int]
"""Where an event lies: below zero before a bound, zero at it, above zero after it."""


def replay(
    store: str | None,
    data: Path | None,
    first: str | None,
    last: str | None,
    *,
    config: Path | None = None,
) -> None:
    """Print the events from `first` to `last`, both inclusive, each a position or an instant.

    Raises:
        InvalidField: a bound is neither, or a position of another store.
        StoreError: the store cannot be read.
    """
    settings = Settings.read(config=config, store_url=store, data_dir=data)
    url = settings.store_url
    if store is None:
        running = running_here(settings.data_dir)
        url = running["store_url"] if running else url
    with closing(open_log(url, data_dir=settings.data_dir)) as log:
        begin, end = _bound(first, log.identity, "--from"), _bound(last, log.identity, "--to")
        for event in _events(log.read):
            if end is not None and end(event) > 0:
                break
            if begin is None or begin(event) >= 0:
                sys.stdout.write(line_of(event, log.identity) + "\n")
    sys.stdout.flush()


def _events(read: Callable[[int, int], list[StoredEvent]]) -> Iterator[StoredEvent]:
    after = 0
    while events := read(after, CHUNK):
        yield from events
        after = events[-1].position


def _bound(text: str | None, identity: str, field: str) -> Side | None:
    if text is None:
        return None
    if re.match(r"\d{4}-\d\d-\d\d[Tt ]", text):
        instant = to_micros(parse_instant(text, field=field))
        return lambda event: event.recorded_at - instant
    position = parse_position(text, field=field)
    if position.store != identity:
        raise InvalidField("the position is of another store", field=field, value=text)
    return lambda event: event.position - position.number


def line_of(event: StoredEvent, identity: str) -> str:
    """An event as JSON: where it stands, its name, and what it says."""
    try:
        content: Any = msgspec.json.decode(event.state)
    except msgspec.MsgspecError:
        content = {"undecodable": event.state.decode(errors="replace")}
    document = {
        "position": str(Position(identity, 0, event.position)),
        "recorded_at": format_instant(from_micros(event.recorded_at)),
        "stream": str(event.stream),
        "version": event.version,
        "name": event.name,
        "event": content,
    }
    return msgspec.json.encode(document).decode()
