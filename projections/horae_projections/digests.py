"""`schedule.digests`: many definitions in short, for whoever keeps schedules in a file."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.definition import digest_of
from horae_projections import answers, lists
from horae_projections.messages import ListSchedules, ScheduleDigests
from horae_projections.ports import Key, ViewStore
from horae_projections.rows import SCHEDULES, ScheduleRow, unpack

PAGE = 1_000
"""Rows read from the view at once."""

Answer = dict[str, Any]


async def digests(views: ViewStore, tenant: str, query: ScheduleDigests, now: datetime) -> Answer:
    """The answer: for each schedule its id, revision, status, creator and digest."""
    if query.ids is not None:
        return await _named(views, tenant, query.ids, now)
    found: list[Answer] = []
    cursor, total = query.cursor, None
    while True:
        limit = min(PAGE, query.limit - len(found))
        asked = ListSchedules(created_by=query.created_by, cursor=cursor, limit=limit)
        page = await lists.page_of_schedules(views, tenant, asked, totals=total is None)
        total = page.total if total is None else total
        found += [_digest(id_, unpack(SCHEDULES, row), now) for id_, row in page.rows]
        cursor = lists.cursor_of_schedules(asked, page)
        if cursor is None or len(found) >= query.limit:
            return {
                "ok": True,
                "position": page.position,
                "digests": found,
                "total": total,
                "cursor": cursor,
            }


async def _named(views: ViewStore, tenant: str, ids: tuple[str, ...], now: datetime) -> Answer:
    """Those that exist of some ids."""
    found: list[Answer] = []
    position = ""
    for first in range(0, len(ids), PAGE):
        chunk = ids[first : first + PAGE]
        rows = await views.rows([Key(SCHEDULES, tenant, id_) for id_ in chunk])
        position = position or rows.position
        found += [
            _digest(id_, unpack(SCHEDULES, row), now)
            for id_, row in zip(chunk, rows.rows, strict=True)
            if row is not None
        ]
    return {"ok": True, "position": position, "digests": found, "total": len(found), "cursor": None}


def _digest(id_: str, row: ScheduleRow, now: datetime) -> Answer:
    return {
        "id": id_,
        "revision": row.revision,
        "status": answers.status_of(row, now),
        "created_by": row.created_by,
        "digest": digest_of(row.told),
    }
