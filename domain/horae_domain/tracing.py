"""Trace contexts of executions (W3C), so that a command and what its handler does are one trace.

An execution that a request asked for belongs to the trace of that request. Any other is the root of
a trace of its own, whose id is the execution's: nothing more is recorded for it.
"""

from __future__ import annotations

from hashlib import blake2b

SAMPLED = "01"


def trace_id(execution_id: str, traceparent: str | None) -> str:
    """The 32 hexadecimal digits of the trace that an execution belongs to."""
    if traceparent is None:
        return execution_id.replace("-", "")
    return traceparent.split("-")[1]


def span_id(execution_id: str, attempt: int) -> str:
    """The 16 hexadecimal digits of the span of an attempt; the same for whoever asks."""
    return blake2b(f"{execution_id}.{attempt}".encode(), digest_size=8).hexdigest()


def traceparent_of(execution_id: str, attempt: int, traceparent: str | None) -> str:
    """The context in which an attempt runs: what it does are children of its span."""
    flags = SAMPLED if traceparent is None else traceparent.split("-")[3]
    trace = trace_id(execution_id, traceparent)
    return f"00-{trace}-{span_id(execution_id, attempt)}-{flags}"
