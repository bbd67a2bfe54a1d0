"""Subjects, headers and names on the bus: one table for all who publish or listen.

```
horae.<tenant>.command.<name>                 requests; a reply each
horae.<tenant>.query.<name>
horae.<tenant>.work.<queue>.<priority>        stream HORAE_WORK, pulled in any language
horae.<tenant>.function.<handler>.<priority>  stream HORAE_WORK, pulled by Python executors
horae.<tenant>.event.<aggregate>.<name>       stream HORAE_EVENTS, CloudEvents
commands.<service>.<command>                  commands to services of the default tenant
horae.<tenant>.commands.<service>.<command>   the same of other tenants
horae.<tenant>.send.<service>.<command>       stream HORAE_COMMANDS: those that nobody waits for
horae.<tenant>.check.<name>                   questions for a condition or a check
events.<type>, horae.<tenant>.events.<type>   stream HORAE_INBOX, external events, by setting
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
POSITION = "Horae-Position"
STORE = "Horae-Store"
MESSAGE_ID = "Nats-Msg-Id"
STATUS = "Status"
EXECUTION_ID = "Horae-Execution-Id"
SCHEDULE_ID = "Horae-Schedule-Id"
ATTEMPT = "Horae-Attempt"
LEASE = "Horae-Lease"
DUE = "Horae-Due"
SEQUENCE = "Horae-Sequence"
CAUSATION_ID = "Horae-Causation-Id"
RETRY_AFTER = "Retry-After"
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"

ANNOUNCE = "horae._announce"
ASK = "horae._announce.ask"

DEFAULT_TENANT = "default"
"""Whose commands travel on subjects without a tenant."""
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


def header_text(text: str, limit: int) -> str:
    """A text as the value of a header can be: one line, of so many characters."""
    return " ".join(text.split())[:limit]


def request_subject(tenant: str, kind: str, name: str) -> str:
    """Where a request goes; `kind` is `command` or `query`."""
    return f"horae.{tenant}.{kind}.{name}"


def check_subject(tenant: str, name: str) -> str:
    """Where a condition or a check is asked for."""
    return f"horae.{tenant}.check.{name}"


def queue_subject(tenant: str, queue: str, priority: str = "*") -> str:
    """Where the work of a queue travels, or the filter for all of it."""
    return f"horae.{tenant}.work.{token(queue)}.{priority}"


def function_subject(tenant: str, handler: str, priority: str = "*") -> str:
    """Where the work of a function travels, or the filter for all of it."""
    return f"horae.{tenant}.function.{token(handler)}.{priority}"


def command_subject(tenant: str, service: str, command: str) -> str:
    """Where a service listens for a command; `*` and `>` make it a filter."""
    prefix = "" if tenant == DEFAULT_TENANT else f"horae.{tenant}."
    return f"{prefix}commands.{service}.{command}"


def send_subject(tenant: str, service: str, command: str) -> str:
    """Where a command is stored that nobody waits for.

    Not where services listen: JetStream answers every request on a subject that a stream captures.
    """
    return f"horae.{tenant}.send.{service}.{command}"


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
