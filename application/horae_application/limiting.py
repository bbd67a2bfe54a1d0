"""What the engine is asked to do with the limits of queues and tenants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from horae_application import messages
from horae_application.draft import Draft
from horae_application.messages import OK, Command
from horae_application.ports import Setting, StoredEvent
from horae_application.task import Answer, Task
from horae_domain import limits
from horae_domain.codec import decode
from horae_domain.identity import partition_of_stream
from horae_domain.schedule import Cause


class Limiting:
    """Decides commands on limits into a draft, given the events of their streams."""

    def __init__(self, draft: Draft, loaded: Mapping[str, list[StoredEvent]]) -> None:
        self._draft = draft
        self._loaded = loaded

    def decide(self, task: Task, cause: Cause) -> Answer | None:
        """Decide a command on limits; None if it is none."""
        tenant, command = task.request.tenant, task.command
        stream = command.limited(tenant)
        if stream is None:
            return None
        self._draft.partitions.add(partition_of_stream(stream))
        before = after = self._present(stream, tenant, getattr(command, "queue", None))
        index = None
        for event in limits.decide(before, to_domain(command, cause)):
            index = self._draft.add(event, stream, before.version)
            after = limits.evolve(after, event)
        if index is not None:
            self._draft.limits[stream] = after
            self._draft.settings[after.key] = setting_of(after)
        return Answer(task, OK, facts_of(after), index)

    def _present(self, stream: str, tenant: str, queue: str | None) -> limits.Limits:
        if stream in self._draft.limits:
            return self._draft.limits[stream]
        found = limits.Limits(tenant=tenant, queue=queue)
        for row in self._loaded.get(stream, ()):
            found = limits.evolve(found, decode(row.name, row.state))
        return found


def to_domain(command: Command, cause: Cause) -> limits.LimitCommand:
    """The domain's command of a message."""
    match command:
        case messages.LimitCommand():
            return limits.SetLimits(command.changes, cause)
        case messages.PauseQueue():
            return limits.PauseQueue(command.note, cause)
        case messages.ResumeQueue():
            return limits.ResumeQueue(command.note, cause)
        case _:
            raise TypeError(f"{command.name} is about no limits")


def setting_of(found: limits.Limits) -> Setting:
    """What the store goes by."""
    rate = found.rate
    return Setting(
        found.key,
        found.concurrency,
        None if rate is None else rate.most,
        None if rate is None else rate.per // timedelta(microseconds=1),
        found.paused,
        found.weight,
    )


def facts_of(found: limits.Limits) -> dict[str, Any]:
    """What a reply says of limits."""
    limited = {
        "concurrency": found.concurrency,
        "rate": None if found.rate is None else str(found.rate),
    }
    if found.queue is None:
        return {"tenant": found.tenant, **limited, "weight": found.weight}
    return {"queue": found.queue, **limited, "paused": found.paused, "note": found.note}
