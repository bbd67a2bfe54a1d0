"""OpenTelemetry: the adapter of the port `Tracing`, and the trace context of whoever calls.

It is in use where the program has imported `opentelemetry.trace` before, as one has that makes spans or
sets up their export. Nothing is imported otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span

NAME = "horae"
"""Of the instrumentation."""


def tracing_of() -> OtelTracing | None:
    """What makes spans; None where OpenTelemetry is not in use."""
    return OtelTracing() if _in_use() else None


def current_headers() -> dict[str, str]:
    """`traceparent`, `tracestate` and `baggage` of where it is called; nothing outside of a span."""
    headers: dict[str, str] = {}
    if _in_use():
        for each in _propagators():
            each.inject(headers)
    return headers


class OtelTracing:
    """Spans of the tracer provider that the application has set, if it has set one."""

    def __init__(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - of an extra

        kinds = trace.SpanKind
        self._kinds = {"server": kinds.SERVER, "consumer": kinds.CONSUMER}
        self._tracer = trace.get_tracer(NAME)

    @contextmanager
    def span(
        self,
        name: str,
        kind: Literal["server", "consumer"],
        parent: Mapping[str, str],
        attributes: Mapping[str, Any],
    ) -> Iterator[OtelSpan]:
        """A span, and the baggage of its parent, for as long as the context lasts."""
        from opentelemetry import context as contexts  # noqa: PLC0415 - of an extra

        context = contexts.Context()
        for each in _propagators():
            context = each.extract(parent, context)
        token = contexts.attach(context)
        try:
            told = {f"{NAME}.{key}": _plain(value) for key, value in attributes.items() if value}
            with self._tracer.start_as_current_span(
                name, kind=self._kinds[kind], attributes=told
            ) as span:
                yield OtelSpan(span)
        finally:
            contexts.detach(token)


class OtelSpan:
    """The present span."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def headers(self) -> Mapping[str, str]:
        """The trace context of what is done in it."""
        return current_headers()

    def failed(self, kind: str, message: str) -> None:
        """Mark it as one that failed."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - of an extra

        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message))


def _in_use() -> bool:
    return "opentelemetry.trace" in sys.modules


@cache
def _propagators() -> tuple[TextMapPropagator, ...]:
    """Of the headers that Horae's messages have, whatever the application's own calls have."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator(), W3CBaggagePropagator()


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
