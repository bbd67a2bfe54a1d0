"""Subjects, headers and names on the bus: one table for all who publish or listen.

```
horae.<tenant>.command.<name>                 requests; a reply each
horae.<tenant>.query.<name>
horae.<tenant>.work.<queue>.<priority>        stream HORAE_WORK, pulled in any language
horae.<tenant>.function.<handler>.<priority>  stream HORAE_WORK, pulled by Python executors
horae.<tenant>.event.<aggregate>.<name>       stream HORAE_EVENTS, CloudEvents
horae._engine.<owner>                         one engine to another
horae._announce, horae._announce.ask          who serves which handlers
```
"""

from __future__ import annotations

import hashlib
import re

from horae_application.work import Work

IDEMPOTENCY_KEY = "Horae-Idempotency-Key"
CORRELATION_ID = "Horae-Correlation-Id"
ACTOR = "Horae-Actor"
TRACEPARENT = "traceparent"
POSITION = "Horae-Position"
STORE = "Horae-Store"
MESSAGE_ID = "Nats-Msg-Id"
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"

ANNOUNCE = "horae._announce"
ASK = "horae._announce.ask"

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")
_LONGEST_NAME = 200
"""A consumer's name has at most 255 bytes."""


def token(name: str) -> str:
    """A name as one token of a subject: whatever is not `[A-Za-z0-9_-]` becomes `%` and two hex digits."""
    if _PLAIN.match(name):
        return name
    return "".join(
        character
        if _PLAIN.match(character)
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in name
    )


def request_subject(tenant: str, kind: str, name: str) -> str:
    """Where a request goes; `kind` is `command` or `query`."""
    return f"horae.{tenant}.{kind}.{name}"


def queue_subject(tenant: str, queue: str, priority: str = "*") -> str:
    """Where the work of a queue travels, or the filter for all of it."""
    return f"horae.{tenant}.work.{token(queue)}.{priority}"


def function_subject(tenant: str, handler: str, priority: str = "*") -> str:
    """Where the work of a function travels, or the filter for all of it."""
    return f"horae.{tenant}.function.{token(handler)}.{priority}"


def work_subject(work: Work) -> str:
    """Where a piece of work travels: to the workers of its queue, or of its function."""
    if work.handler is not None:
        return function_subject(work.tenant, work.handler, work.priority)
    queue = work.action.get("queue", work.queue)
    return queue_subject(work.tenant, queue, work.priority)


def durable(kind: str, tenant: str, name: str) -> str:
    """The name that all who pull the same work give to their consumer, such as `work=default=mail`.

    A stream of work has one consumer per subject; whoever pulls a queue uses this one.
    """
    full = f"{kind}={tenant}={token(name)}"
    if len(full) <= _LONGEST_NAME:
        return full
    return f"{full[: _LONGEST_NAME - 33]}={hashlib.sha256(full.encode()).hexdigest()[:32]}"
