"""The answers of requests of many parts, as engines record them."""

from __future__ import annotations

from typing import Any

import pytest
from stepping import Clock, Stepped
from test_gateway import MANUAL, Known, Office

from horae_application.gateway import Gateway, new_request
from horae_application.messages import RememberAnswer, Reply, Request
from horae_application.ports import Batch, NewEvent
from horae_application.task import Task
from horae_domain.identity import request_stream


def remember(desk: Stepped, body: bytes, **reply: Any) -> Reply:
    request = Request(tenant="default", name="schedule.bulk", body=body, key="k")
    replies: list[Reply] = []
    desk.engine.submit(Task(request, RememberAnswer(reply=reply), replies.append))
    desk.settle()
    (only,) = replies
    return only


def test_first_answer_under_a_key_is_that_of_all_engines(desk: Stepped, restart: Any) -> None:
    first = remember(desk, b"{}", changed=3)
    assert (first.body["ok"], first.body["changed"]) == (True, 3)
    assert remember(desk, b"{}", changed=2) == first
    later = restart()
    assert remember(later, b"{}", changed=1) == first
    refused = remember(later, b'{"other": 1}', changed=1)
    assert refused.body["error"]["code"] == "idempotency_conflict"
    assert later.names() == ["request.answered"]


@pytest.fixture
def office(clock: Clock) -> Office:
    return Office(clock)


async def pause_all(office: Office, ids: list[str]) -> Reply:
    async def look(_tenant: str, _name: str, told: Any) -> dict[str, Any]:
        rows = [{"id": id_, "status": "active", "tags": []} for id_ in ids]
        return {
            "schedules": rows,
            "total": len(rows),
            "cursor": None,
            "position": told["min_position"],
        }

    gateway = Gateway(office.engines[0], Known(), office.board, look=look)
    body = {"operation": "pause", "all": True}
    return await gateway.command(new_request("default", "schedule.bulk", body, key="audit"))


async def test_bulk_of_which_a_part_is_unavailable_is_begun_again_under_its_key(
    office: Office,
) -> None:
    ids = [office.owned_by(0), office.owned_by(1)]
    for id_ in ids:
        assert (await office.ask(0, "schedule.create", {"id": id_, **MANUAL})).ok
    office.board.broken = True
    first = await pause_all(office, ids)
    assert (first.body["changed"], first.body["failed"]) == (1, 1)
    office.board.broken = False
    second = await pause_all(office, ids)
    assert (second.body["changed"], second.body["failed"]) == (2, 0)
    assert await pause_all(office, []) == second


async def test_bulk_with_a_refusal_for_good_is_remembered(office: Office) -> None:
    first = await pause_all(office, ["nowhere"])
    assert first.body["failures"][0]["error"]["code"] == "schedule_not_found"
    assert await pause_all(office, []) == first


async def test_answer_under_a_key_that_cannot_be_read_is_a_fault_of_ours(office: Office) -> None:
    stream = request_stream("default", "schedule.bulk", "audit")
    row = NewEvent(stream, 1, "request.unheard_of.v9", b"{}")
    office.store.append(Batch({}, [row], [], []))
    reply = await pause_all(office, [])
    assert (reply.status, reply.body["error"]["code"]) == (500, "internal")
