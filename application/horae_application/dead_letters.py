"""Requeueing many dead letters: the views say which there are, each owner requeues its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from horae_application.messages import OK, Command, Reply, Request, RequeueDeadLetter
from horae_domain.errors import Unavailable
from horae_domain.positions import parse_position

Look = Callable[[str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers a query of a tenant by its name."""
Bring = Callable[[Request, Command], Awaitable[Reply]]
"""Brings a command to the owner of its partition."""

LARGEST = 1_000
"""Dead letters that one request tries again."""


async def requeue(look: Look, bring: Bring, request: Request, asked: RequeueDeadLetter) -> Reply:
    """Try again the dead letters that fit, the latest first, at most `LARGEST`.

    The answer has the ids of those tried again, how many were refused because they are dead no
    longer, and how many are left. Asked again, it goes on with those that are left.

    Raises:
        HoraeError: the views do not answer, or the request is wrong.
    """
    wanted = asked.model_dump(mode="json", exclude_none=True, include=_FILTERS)
    found = await look(request.tenant, "dead_letter.list", {**wanted, "limit": asked.limit})
    ids = [each["id"] for each in found["dead_letters"]]
    one = msgspec.structs.replace(request, key=None)
    replies = await asyncio.gather(*(_one(bring, one, id_) for id_ in ids))
    done = [id_ for id_, reply in zip(ids, replies, strict=True) if reply.ok]
    positions = [found["position"], *(reply.body["position"] for reply in replies if reply.ok)]
    body = {
        "ok": True,
        "requeued": len(done),
        "executions": done,
        "refused": len(ids) - len(done),
        "left": found["total"] - len(ids),
        "position": max(positions, key=lambda text: parse_position(text).number),
    }
    return Reply(OK, body)


_FILTERS = {"schedule_id", "error_type", "since"}


async def _one(bring: Bring, request: Request, id_: str) -> Reply:
    body = msgspec.json.encode({"id": id_})
    return await bring(
        msgspec.structs.replace(request, body=body), RequeueDeadLetter.model_construct(id=id_)
    )


async def nobody_looks(tenant: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """For an engine that reaches no views.

    Raises:
        Unavailable: always.
    """
    del tenant, name, body
    raise Unavailable("no views can be asked which there are; name them by id")
