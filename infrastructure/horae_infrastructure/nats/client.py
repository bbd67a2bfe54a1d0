"""Asking an engine over NATS, from Python."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from horae_domain.errors import (
    HoraeError,
    InvalidField,
    NotPermitted,
    TooManyRequests,
    Unavailable,
    error_from_json,
)
from horae_infrastructure.nats import subjects
from horae_infrastructure.nats.connection import Connection, driver_errors
from horae_infrastructure.tracing import current_headers

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode

ATTEMPT_TIMEOUT, TIMEOUT = 2.0, 10.0
"""Seconds that one attempt of a command waits for its answer, and that all have, unless told; a take-over
lasts 5."""
LONGER = {
    "schedule.create_many": (30.0, 90.0),
    "schedule.bulk": (300.0, 600.0),
    "history.sweep": (30.0, 90.0),
}
"""The same of commands of many parts: asking again too soon would only make it more."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts."""


class NatsCaller:
    """Sends commands and queries of one tenant and returns the bodies of the answers.

    Args:
        nc: the connection.
        tenant: in whose name.
        actor: who asks, as the header `Horae-Actor` says it; not verified.
    """

    def __init__(self, nc: Client, tenant: str = "default", *, actor: str | None = None) -> None:
        if not subjects.TENANT.match(tenant):
            raise InvalidField(
                "a tenant is 1 to 64 of A-Z a-z 0-9 _ -", field="tenant", value=tenant
            )
        self._nc = nc
        self.tenant = tenant
        self._actor = actor

    def in_tenant(self, tenant: str) -> NatsCaller:
        """The same in another tenant."""
        return NatsCaller(self._nc, tenant, actor=self._actor)

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of all attempts
    ) -> dict[str, Any]:
        """The answer to a command, asked again under the same key until `timeout` seconds are over.

        An attempt is repeated if it got no answer, found nobody, or was refused with 503 or 429;
        the key makes that safe. `headers` are those of a trace context and of the cause.

        Raises:
            HoraeError: the refusal, by its code.
            NotPermitted: the server does not carry such a request of this user.
            Unavailable: no answer in time; whether it was done is not known.
        """
        told = self._headers(correlation_id, headers)
        told[subjects.IDEMPOTENCY_KEY] = key or str(uuid.uuid4())
        subject = subjects.request_subject(self.tenant, "command", name)
        attempt, seconds = LONGER.get(name, (ATTEMPT_TIMEOUT, TIMEOUT))
        deadline = time.monotonic() + (seconds if timeout is None else timeout)
        return await self._ask_again(subject, body, told, deadline, attempt, again=lambda _: True)

    async def query(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - of all attempts
    ) -> dict[str, Any]:
        """The answer to a query; asked again only while nobody listens.

        Raises:
            HoraeError: the refusal, by its code.
            Unavailable: no answer in time, or the view is not ready.
        """
        told = self._headers(correlation_id, headers)
        subject = subjects.request_subject(self.tenant, "query", name)
        deadline = time.monotonic() + timeout
        return await self._ask_again(subject, body, told, deadline, timeout, again=_nobody)

    def _headers(
        self, correlation_id: str | None, headers: Mapping[str, str] | None
    ) -> dict[str, str]:
        """Those given before the caller's current trace context."""
        given = {subjects.CORRELATION_ID: correlation_id, subjects.ACTOR: self._actor}
        told = {name: value for name, value in given.items() if value is not None}
        return current_headers() | dict(headers or {}) | told

    async def _ask_again(
        self,
        subject: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        deadline: float,
        attempt: float,
        again: Callable[[HoraeError], bool],
    ) -> dict[str, Any]:
        """Attempts of `attempt` seconds until the deadline, while `again` agrees.

        The error of the last attempt says what an attempt before it had been told, since a last
        attempt that the deadline cuts short knows no reason of its own.
        """
        data = _encode(body)
        pause = FIRST_PAUSE
        refusal: HoraeError | None = None
        while True:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                return await self._ask(subject, data, headers, min(attempt, left))
            except (Unavailable, TooManyRequests) as error:
                wait = pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads callers, no secret
                cut_short = isinstance(error.__cause__, TimeoutError)
                if not again(error) or time.monotonic() + wait >= deadline:
                    if not cut_short or refusal is None:
                        raise
                    raise Unavailable(
                        f"{error.message}; refused before: {refusal.message}"
                    ) from error
                refusal = refusal if cut_short else error
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _ask(
        self, subject: str, data: bytes, headers: Mapping[str, str], seconds: float
    ) -> dict[str, Any]:
        """One attempt."""
        began = time.monotonic()
        try:
            with driver_errors(f"no answer to {subject}"):
                # The driver changes the headers that it is given.
                msg = await self._nc.request(
                    subject, data, timeout=seconds, headers=dict(headers) or None
                )
        except Unavailable as error:
            if isinstance(self._nc, Connection) and self._nc.denied(subject, began):
                raise NotPermitted(f"the server carries no {subject} for this user") from error
            raise
        body = _body(msg)
        if body.get("ok") is True or "error" not in body:  # parts of a bulk may be refused
            return body
        status = (msg.headers or {}).get(subjects.ERROR_CODE, "500")
        raise error_from_json(int(status) if status.isdigit() else 500, body)


def _nobody(error: HoraeError) -> bool:
    """True if nobody listens, so that nothing was done."""
    return isinstance(error.__cause__, nats.errors.NoRespondersError)


def _body(msg: Msg) -> dict[str, Any]:
    try:
        return _decode(msg.data)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the answer is no JSON object: {error}") from error
