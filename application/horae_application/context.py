"""What a handler is told about its run, and what it can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from horae_application.control import Control
from horae_application.cqrs import Answer, Cqrs, Kind
from horae_application.errands import Errands, Externals, Fallback
from horae_application.handler_log import HandlerLog
from horae_application.result import Span, encodable
from horae_application.services import Reach, Services, call_of, command_action
from horae_application.work import Work
from horae_domain.tracing import BAGGAGE, CAUSATION, parse_baggage

MAX_PROGRESS = 16 * 1024
"""Bytes of JSON that the progress of a heartbeat has."""


class Context(Errands):
    """One attempt, as its handler sees it (A5).

    Attributes:
        schedule_id, execution_id, tenant, attempt: whose attempt this is.
        due: the nominal instant, aware, in UTC.
        run_number: which fired occurrence of the schedule this is, from 1; None if triggered.
        trigger: `kind` (cron, interval, once, manual) and its facts; of an occurrence that somebody
            planned `moved_to`, `note` and `planned_by`, too.
        payload: JSON, of the schedule or as overridden by the trigger.
        conditions_met: the names of the conditions that the schedule requires, and that were met.
        stage: what of the schedule this is, if it is not its action: `then` after a confirmation,
            `fallback`, `unconfirmed` (the fallback of a wait), `step:<name>`, or `undo:<name>`.
        reason, error: why a fallback runs or a step is taken back, and what had failed.
        results: what the steps before have answered, by their names; the action as `action`.
        confirmations: the external events that have confirmed it, each with `event_id`, `type`,
            `source` and `data`.
        polls: how often the handler has said `again` before.
        waited: how long it waited for them, or in vain; None if it did not wait.
        wait_timeout: how long it might have waited; None without bound, or if it did not wait.
        next_due: the schedule's next occurrence, if there is one.
        correlation_id: of the command that asked for the run, else the execution's id.
        causation_id: the execution whose handler asked for the run, the event, or the execution whose
            outcome it follows; None where the calendar or somebody outside is the cause.
        traceparent: W3C trace context of the attempt, for what the handler sends by itself.
        timeout: seconds that the attempt has, None without bound.
        client: the engine's commands and queries, None in another process's isolation.
        services: what carries commands to services, None there, too.
        reach: what reaches other hosts, None there and without the extra `http`.
        metadata: that of the schedule.
        log: lines that are kept with the execution, `log("building", run=3)`, by level with
            `log.warning("slow")`.
    """

    def __init__(
        self,
        work: Work,
        *,
        now: Callable[[], datetime] | None = None,
        client: Any = None,
        services: Services | None = None,
        reach: Reach | None = None,
        control: Control | None = None,
        cqrs: Cqrs | None = None,
        externals: Externals | None = None,
        fallback: Fallback | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        cache: Callable[[], Any] | None = None,
        of: Context | None = None,
    ) -> None:
        super().__init__(work, client, externals, fallback, loop, cache)
        self.control = control or Control()
        self._now = now or _utc
        self.services = services
        self.reach = reach
        self._cqrs = cqrs
        self.schedule_id = work.schedule_id
        self.execution_id = work.execution_id
        self.tenant = work.tenant
        self.attempt = work.attempt
        self.lease = work.lease
        self.causation_id = _cause_of(work)
        self.traceparent = work.traceparent
        self.due = work.due
        self.run_number = work.run_number
        self.trigger: Mapping[str, Any] = work.trigger
        self.payload = work.payload
        self.next_due = work.next_due
        self.conditions_met: Sequence[str] = work.conditions
        self.stage = work.stage
        self.reason = work.reason
        self.error: Mapping[str, Any] = work.error
        self.results: Mapping[str, Any] = work.results
        self.confirmations: Sequence[Mapping[str, Any]] = work.confirmations
        self.polls = work.polls
        self.waited = _span(work.waited)
        self.wait_timeout = _span(work.wait_timeout)
        self.metadata: Mapping[str, Any] = work.metadata
        self.timeout = work.timeout
        self.started_at = self._now()
        told = {name: getattr(self, name) for name in ("schedule_id", "execution_id", "attempt")}
        self.log: HandlerLog = HandlerLog(told, self._now) if of is None else of.log

    @property
    def logs(self) -> Sequence[dict[str, Any]]:
        """The lines that were logged, as they are kept."""
        return self.log.lines

    @cached_property
    def baggage(self) -> Mapping[str, str]:
        """W3C baggage of whatever asked for the run; it goes on with all that the handler sends."""
        return MappingProxyType(parse_baggage(self.work.carried.get(BAGGAGE, "")))

    @property
    def late_by(self) -> timedelta:
        """How long after the nominal instant, or where it was moved, the attempt began."""
        return self.started_at - (self.work.moved_to or self.due)

    @property
    def cooldown_left(self) -> timedelta:
        """How long the schedule does not fire again because it has."""
        until = self.work.cooldown_until
        return timedelta(0) if until is None else max(timedelta(0), until - self._now())

    @property
    def cancelled(self) -> bool:
        """True if the attempt should stop: from any thread, for code that nobody can interrupt."""
        return self.control.asked

    def raise_if_cancelled(self) -> None:
        """End the attempt if it should stop.

        Raises:
            asyncio.CancelledError: it should; what is returned after all counts.
        """
        if self.cancelled:
            raise asyncio.CancelledError("asked to stop")

    def heartbeat(self, progress: Any = None) -> None:
        """Say that the attempt is alive, and how far it is; from any thread, as often as you like.

        It goes out at most once in a third of the schedule's heartbeat timeout (in a second where
        there is none), with the latest progress.

        Args:
            progress: JSON, at most 16 KiB.

        Raises:
            TypeError: the progress cannot be JSON, or is too large.
        """
        self.control.beat(encodable(progress, MAX_PROGRESS, "the progress"))

    async def send_command(
        self,
        service: str,
        command: str,
        data: Any = None,
        *,
        reply: bool = False,
        timeout: Span = 5,  # noqa: ASYNC109 - the service's, and part of the action
    ) -> Any:
        """Send a command to a service, with this run as its cause.

        What an attempt sends again after a failure has the same key as the first time, so that it
        is kept, or known by the service, once.

        Args:
            service: where to, such as `trading`.
            command: what is asked of it, such as `Rebalance`.
            data: the body, what JSON can carry.
            reply: wait for the answer and return it; else it is kept for the service and done.
            timeout: how long to wait; seconds if a number.

        Raises:
            InvalidField: no such names can be.
            ServiceError: the service refused it, or did not answer.
            NotHere: this process sends no commands, as with `isolation="process"`.
        """
        services = self._there(self.services, "commands")
        action = command_action(service, command, reply=reply, timeout=timeout)
        payload = encodable(data)
        key = self._key([action.service, action.command, reply, payload])
        call = call_of(self.work, action, payload, key)
        return await self.here(services.request(call) if reply else services.send(call))

    async def execute_command(self, command: str | BaseModel, data: Any = None) -> Answer:
        """Have the application's own handler carry a command out, here and now.

        Args:
            command: its type, as it is registered with `@app.command`, or the command itself.
            data: what its model is validated from, where only the type is given.

        Returns:
            Success with what the handler returned, or the error; it raises nothing of the kind.
        """
        return await self._execute("command", command, data)

    async def execute_query(self, query: str | BaseModel, data: Any = None) -> Answer:
        """Have the application's own handler answer a query; see `execute_command`."""
        return await self._execute("query", query, data)

    async def _execute(self, kind: Kind, message: str | BaseModel, data: Any) -> Answer:
        cqrs = self._there(self._cqrs, "the application's commands and queries")
        return await self.here(cqrs.execute(kind, message, data, self))


def _cause_of(work: Work) -> str | None:
    """The id of what has brought the run about, if it has one."""
    cause = work.carried.get(CAUSATION)
    if cause is None and work.trigger.get("kind") in {"event", "outcome"}:
        cause = work.trigger.get("id") or work.trigger.get("execution_id")
    return cause


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _utc() -> datetime:
    return datetime.now(UTC)
