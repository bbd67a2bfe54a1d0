"""Requests of many parts under an idempotency key: done once, and answered as the first time.

What each part does is decided by its own owner, so the answer of all is recorded when it is known, by
any owner. Between the two nothing is remembered: a request that nobody answered is begun again, and
so is one of which a part can still be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from horae_application.engine import Engine
from horae_application.log import get_logger
from horae_application.messages import OK, Command, RememberAnswer, Reply, Request
from horae_application.task import Task
from horae_application.tasks import key_stream, repeated
from horae_domain.codec import Undecodable
from horae_domain.errors import Internal

_log = get_logger("horae.remembering")


class Remembering:
    """Does what has no answer yet.

    Args:
        engine: of this process.
        decide: has it decide a command.
    """

    def __init__(
        self, engine: Engine, decide: Callable[[Request, Command], Awaitable[Reply]]
    ) -> None:
        self._engine = engine
        self._decide = decide
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def once(
        self, request: Request, act: Callable[[], Awaitable[tuple[Reply, bool]]]
    ) -> Reply:
        """The first answer to the request's key, else what `act` answers, from then on.

        A refusal is not remembered, nor an answer of which `act` says that it is not the last. While
        this engine owns nothing, it cannot record the answer and gives it all the same.

        Raises:
            IdempotencyConflict: the key was used with another request.
            Internal: what is recorded under the key cannot be read.
            HoraeError: what `act` raises.
        """
        stream = key_stream(request)
        if stream is None:
            return (await act())[0]
        async with self._locks.setdefault(stream, asyncio.Lock()):
            first = await self._first(request, stream)
            if first is not None:
                return first
            reply, last = await act()
            if not (reply.ok and last):
                return reply
            told = {name: part for name, part in reply.body.items() if name not in _OF_THE_REPLY}
            recorded = await self._decide(request, RememberAnswer(reply=told))
            return recorded if recorded.ok else reply

    async def _first(self, request: Request, stream: str) -> Reply | None:
        rows = (await asyncio.to_thread(self._engine.store.load, [stream])).get(stream)
        if not rows:
            return None
        try:
            answer = repeated(Task(request, RememberAnswer(reply={}), lambda _: None), rows)
        except Undecodable as error:
            _log.error("answer not read", stream=stream, reason=str(error))
            raise Internal("the first answer to this key cannot be read") from error
        position = self._engine.position(rows[0].position)
        return Reply(OK, {"ok": True, **answer.body, "position": position})


_OF_THE_REPLY = {"ok", "position"}
"""What every reply says anew."""
