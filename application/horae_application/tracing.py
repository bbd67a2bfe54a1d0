"""Spans of commands and of attempts (O3), through whatever makes spans.

A run belongs to the span of the command that asked for it: that span's context is recorded with the
run, and each of its attempts is a child of it, in whichever process it runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from horae_application.messages import Reply, Request
from horae_application.work import Work
from horae_domain.tracing import TRACEPARENT, TRACESTATE, context_headers

UNTRACED = frozenset({"execution.start", "execution.report", "execution.heartbeat"})
"""Commands that are part of an attempt, which has a span of its own."""

Told = TypeVar("Told", Request, Work)


class Span(Protocol):
    """One that has begun."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The trace context of what is done in it."""
        ...

    def failed(self, kind: str, message: str) -> None:
        """It has not done what it was for."""
        ...


class Tracing(Protocol):
    """Makes spans; an adapter stands in the infrastructure."""

    def span(
        self,
        name: str,
        kind: Literal["server", "consumer"],
        parent: Mapping[str, str],
        attributes: Mapping[str, Any],
    ) -> AbstractContextManager[Span]:
        """A span that lasts as long as the context, child of what the headers of `parent` say."""
        ...


async def traced_command(
    tracing: Tracing, request: Request, answer: Callable[[Request], Awaitable[Reply]]
) -> Reply:
    """Answer a command within a span."""
    if request.name in UNTRACED:
        return await answer(request)
    facts = {
        "tenant": request.tenant,
        "command": request.name,
        "correlation_id": request.correlation_id,
        "actor": request.actor,
    }
    parent = context_headers(request.traceparent, request.carried)
    with tracing.span(f"horae.command {request.name}", "server", parent, facts) as span:
        reply = await answer(_within(request, span))
        if not reply.ok:
            error = reply.body.get("error") or {}
            span.failed(str(error.get("code")), str(error.get("message")))
        return reply


async def traced_attempt(
    tracing: Tracing,
    work: Work,
    facts: Mapping[str, Any],
    run: Callable[[Work], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """Run an attempt within a span; its outcome."""
    name = work.handler or work.action["type"]
    parent = context_headers(work.traceparent, work.carried)
    with tracing.span(f"horae.attempt {name}", "consumer", parent, facts) as span:
        outcome = await run(_within(work, span))
        if error := outcome.get("error"):
            span.failed(str(error["type"]), str(error["message"]))
        return outcome


def _within(told: Told, span: Span) -> Told:
    """The same in a span; baggage stays as it came."""
    headers = span.headers
    if TRACEPARENT not in headers:
        return told
    carried = {name: text for name, text in told.carried.items() if name != TRACESTATE}
    if TRACESTATE in headers:
        carried[TRACESTATE] = headers[TRACESTATE]
    return msgspec.structs.replace(told, traceparent=headers[TRACEPARENT], carried=carried)
