"""Hooks: the application's own functions that are told what is dispatched and processed (O3).

They run beside the work, one after another, and nothing waits for them: a hook that fails, hangs or
is slow costs the runs nothing. While it is too slow, what is further to be told is dropped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import msgspec

from horae_application.log import get_logger
from horae_application.threads import in_thread
from horae_application.work import Work
from horae_domain.actions import Deed, QueueAction

MAX_WAITING = 10_000
"""Observations that wait to be told; further ones are dropped."""
PATIENCE = 10.0
"""Seconds that a hook may take for one observation."""
BATCH = "scheduler.dispatch.batch"
DISPATCH = "scheduler.dispatch."
PROCESS = "scheduler.worker.process"

_log = get_logger("horae.hooks")

Function = Callable[["Observed"], Any]


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a hook is told.

    Attributes:
        name: of the hook, such as `scheduler.worker.process`.
        at: when it began, aware, in UTC.
        seconds: that it took; 0 of a dispatch.
        attributes: JSON values; `due` is a datetime.
    """

    name: str
    at: datetime
    seconds: float = 0.0
    attributes: Mapping[str, Any]


def _names() -> tuple[str, ...]:
    """Workers in any language do what is of a queue: no executor is handed that."""
    kinds = [kind for kind in get_args(Deed) if kind is not QueueAction]
    types = [kind.model_fields["type"].default for kind in kinds]
    return (BATCH, *(DISPATCH + each for each in types), PROCESS)


NAMES = _names()
"""All that there are."""


class Hooks:
    """The hooks of one application."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Function]] = {}
        self._waiting: deque[Observed] = deque()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """True if there is any."""
        return bool(self._functions)

    def add(self, name: str, function: Function) -> None:
        """Tell a function of everything of a name; `*` at the end stands for all that go on so.

        Raises:
            ValueError: there is no hook of this name.
        """
        found = [each for each in NAMES if _fits(name, each)]
        if not found:
            raise ValueError(f"there is no hook {name!r}; there are: {', '.join(NAMES)}")
        for each in found:
            self._functions.setdefault(each, []).append(function)

    def dispatched(self, works: Sequence[Work], at: datetime) -> None:
        """Attempts are handed to this executor, together."""
        if not self._functions:
            return
        kinds = Counter(work.action["type"] for work in works)
        self._tell(Observed(name=BATCH, at=at, attributes={"count": len(works), "types": kinds}))
        for work in works:
            name = DISPATCH + work.action["type"]
            self._tell(Observed(name=name, at=at, attributes=facts_of(work, at)))

    def processed(
        self, work: Work, outcome: Mapping[str, Any] | None, at: datetime, seconds: float
    ) -> None:
        """An attempt has ended; None is the outcome of one that was given up."""
        if PROCESS not in self._functions:
            return
        facts = facts_of(work, at) | {"duration_ms": round(seconds * 1000, 3)}
        facts["outcome"] = "given_up" if outcome is None else outcome["outcome"]
        error = None if outcome is None else outcome.get("error")
        if error is not None:
            facts |= {"error_type": error["type"], "error_message": error["message"]}
        self._tell(Observed(name=PROCESS, at=at, seconds=seconds, attributes=facts))

    async def drain(self, seconds: float = PATIENCE) -> None:
        """Wait until all is told, at most so long."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=seconds)

    def _tell(self, observed: Observed) -> None:
        if observed.name not in self._functions:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(observed)
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._told())

    async def _told(self) -> None:
        while self._waiting:
            observed = self._waiting.popleft()
            for function in self._functions[observed.name]:
                await _call(function, observed)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                _log.warning("hooks are too slow", dropped=dropped)


async def _call(function: Function, observed: Observed) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            if inspect.iscoroutinefunction(function):
                await function(observed)
            else:
                _, told = in_thread(lambda: function(observed))
                await told
    except Exception:  # noqa: BLE001 - a hook harms nobody
        _log.warning("hook failed", hook=observed.name, exc_info=True)


def facts_of(work: Work, at: datetime) -> dict[str, Any]:
    """The attributes that tell whose attempt it is."""
    return {
        "tenant": work.tenant,
        "schedule_id": work.schedule_id,
        "execution_id": work.execution_id,
        "attempt": work.attempt,
        "type": work.action["type"],
        "stage": work.stage or None,
        "handler": work.handler,
        "queue": work.queue,
        "priority": work.priority,
        "trigger": work.trigger.get("kind"),
        "due": work.due,
        "late_ms": round((at - (work.moved_to or work.due)).total_seconds() * 1000, 3),
        "correlation_id": work.correlation_id or work.execution_id,
    }


def _fits(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return pattern == name
