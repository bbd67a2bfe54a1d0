"""One operation on all schedules that match: the views say which, each owner changes its own (G13)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from horae_application import messages
from horae_application.dead_letters import Bring, Look
from horae_application.messages import OK, BulkSchedules, Command, Reply, Request
from horae_domain.errors import InvalidField, TooManyRequests, Unavailable
from horae_domain.positions import parse_position

LARGEST = 100_000
"""Schedules that one request changes."""
PAGE = 1_000
"""Schedules asked for at once."""
LANES = 100
"""Commands under way at once: as long as these take, others wait for their answers."""
MAX_FAILURES = 100
"""Refusals that an answer names."""
MAX_IDS = 1_000
"""Changed schedules that an answer names."""

_PAGING = {"limit", "cursor", "sort", "order", "min_position", "wait_ms"}
_PASSING = {TooManyRequests.status, Unavailable.status}
"""Refusals of what can be done later."""
_ENDED = {"completed", "cancelled", "failed"}
_NOTHING: tuple[Any, ...] = (None, "", [])
"""Values of a filter that leave none out."""

Row = Mapping[str, Any]


async def change_all(
    look: Look, bring: Bring, request: Request, asked: BulkSchedules, head: str
) -> tuple[Reply, bool]:
    """Pause, resume, cancel or retag what matches; what is as asked or has ended is left alone.

    The answer counts those matched, changed, unchanged and failed, and names some of them. It is
    not one commit: asked again, it goes on with what is left. With it comes whether it is the last
    word: not while any was refused for a limit or for what is unavailable (429, 503).

    Args:
        look: asks the views.
        bring: brings a command to its owner.
        request: as it came.
        asked: what it says.
        head: the position that the views have to have reached.

    Raises:
        HoraeError: the views do not answer, or the filter is wrong.
    """
    _meant(asked)
    rows, position = await _matching(look, request.tenant, asked.filter, head)
    wanted = [row["id"] for row in rows if _changes(row, asked)]
    replies = {} if asked.dry_run else await _each(bring, request, asked, wanted)
    refused = {id_: reply.body["error"] for id_, reply in replies.items() if not reply.ok}
    changed = [id_ for id_ in wanted if id_ not in refused]
    positions = [position, *(reply.body["position"] for reply in replies.values() if reply.ok)]
    body = {
        "ok": True,
        "operation": asked.operation,
        "dry_run": asked.dry_run,
        "matched": len(rows),
        "changed": len(changed),
        "unchanged": len(rows) - len(wanted),
        "failed": len(refused),
        "failures": [
            {"id": id_, "error": error} for id_, error in list(refused.items())[:MAX_FAILURES]
        ],
        "ids": changed[:MAX_IDS],
        "position": max(positions, key=lambda text: parse_position(text).number),
    }
    return Reply(OK, body), all(reply.status not in _PASSING for reply in replies.values())


def _meant(asked: BulkSchedules) -> None:
    """See that all schedules are meant where the filter leaves none out."""
    narrows = any(value not in _NOTHING for value in asked.filter.values())
    if narrows and asked.all:
        raise InvalidField("either a filter or all schedules are meant", field="all")
    if not narrows and not asked.all:
        raise InvalidField(
            'it leaves no schedule out; if all are meant, say `"all": true`', field="filter"
        )


async def _matching(
    look: Look, tenant: str, told: Mapping[str, Any], head: str
) -> tuple[list[Row], str]:
    """All that matches, of each what `_changes` looks at, and the position it rests on."""
    for name in told.keys() & _PAGING:
        raise InvalidField("all that match are meant", field=f"filter.{name}")
    rows: list[Row] = []
    asked: dict[str, Any] = {**told, "limit": PAGE, "min_position": head}
    while True:
        try:
            page = await look(tenant, "schedule.list", asked)
        except InvalidField as error:
            error.field = f"filter.{error.field}" if error.field else "filter"
            raise
        if page["total"] > LARGEST:
            raise InvalidField(
                f"{page['total']} schedules match, at most {LARGEST} are changed at once",
                field="filter",
            )
        rows += [{name: row[name] for name in _LOOKED_AT} for row in page["schedules"]]
        if page["cursor"] is None:
            return rows, page["position"]
        asked["cursor"] = page["cursor"]


_LOOKED_AT = ("id", "status", "tags")


def _changes(row: Row, asked: BulkSchedules) -> bool:
    """True unless it is as asked already, or has ended."""
    if row["status"] in _ENDED:
        return False
    match asked.operation:
        case "pause":
            return bool(row["status"] != "paused")
        case "resume":
            return bool(row["status"] == "paused")
        case "retag":
            assert asked.tags is not None  # noqa: S101 - a message without it is refused
            tags, add = set(row["tags"]), set(asked.tags.add)
            return not add <= tags or bool(tags & set(asked.tags.remove) - add)
        case _:
            return True


async def _each(
    bring: Bring, request: Request, asked: BulkSchedules, ids: Sequence[str]
) -> dict[str, Reply]:
    """The reply to each, some at a time."""
    left = iter(ids)
    replies: dict[str, Reply] = {}

    async def lane() -> None:
        for id_ in left:
            replies[id_] = await _one(bring, request, asked, id_)

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return {id_: replies[id_] for id_ in ids}


async def _one(bring: Bring, request: Request, asked: BulkSchedules, id_: str) -> Reply:
    command: Command
    match asked.operation:
        case "pause":
            command = messages.PauseSchedule(id=id_, note=asked.note)
        case "resume":
            command = messages.ResumeSchedule(id=id_, note=asked.note)
        case "cancel":
            command = messages.CancelSchedule(id=id_, note=asked.note)
        case _:
            assert asked.tags is not None  # noqa: S101 - a message without it is refused
            command = messages.RetagSchedule(id=id_, add=asked.tags.add, remove=asked.tags.remove)
    body = msgspec.json.encode(command.model_dump(mode="json"))
    one = msgspec.structs.replace(request, name=command.name, body=body, key=None)
    return await bring(one, command)
