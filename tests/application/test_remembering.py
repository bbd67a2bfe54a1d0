"""The answers of requests of many parts, as engines record them."""

from __future__ import annotations

from typing import Any

from stepping import Stepped

from horae_application.messages import RememberAnswer, Reply, Request
from horae_application.task import Task


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
