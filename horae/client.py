"""The calls of an engine, the same in this process and over NATS."""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from msgspec import Raw
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from horae.commands import CommandCalls
from horae.sagas import with_sagas
from horae.triggers import Trigger
from horae_application.cqrs import Cqrs
from horae_application.threads import on_loop
from horae_domain.durations import format_duration
from horae_domain.errors import InvalidField, InvalidTrigger
from horae_domain.instants import format_instant
from horae_domain.tracing import BAGGAGE, format_baggage
from horae_infrastructure.tracing import current_headers

Json = dict[str, Any]
Instant = datetime | str
"""Aware, or ISO 8601 with an offset."""


class Caller(Protocol):
    """Carries requests to an engine; refusals come back as the errors of `horae_domain.errors`."""

    def in_tenant(self, tenant: str) -> Caller:
        """The same in another tenant."""
        ...

    def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, Json]:
        """Send a command; `headers` are those of a trace context and of the cause."""
        ...

    def query(self, name: str, body: Mapping[str, Any]) -> Coroutine[Any, Any, Json]:
        """Send a query."""
        ...


class Caused:
    """A caller whose requests belong to an affair, made on the loop of whoever carries them."""

    def __init__(
        self,
        caller: Caller,
        correlation_id: str,
        loop: AbstractEventLoop | None,
        headers: Mapping[str, str],
    ) -> None:
        self._caller = caller
        self._correlation_id = correlation_id
        self._loop = loop
        self._headers = headers

    def in_tenant(self, tenant: str) -> Caller:
        """The same in another tenant."""
        caller = self._caller.in_tenant(tenant)
        return Caused(caller, self._correlation_id, self._loop, self._headers)

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Send a command."""
        belongs_to = correlation_id or self._correlation_id
        told = {**self._headers, **current_headers(), **(headers or {})}
        call = self._caller.command(name, body, key=key, correlation_id=belongs_to, headers=told)
        return await on_loop(self._loop, call)

    async def query(self, name: str, body: Mapping[str, Any]) -> Json:
        """Send a query."""
        return await on_loop(self._loop, self._caller.query(name, body))


class Client(CommandCalls):
    """Commands and queries as methods; every answer is the wire's JSON object.

    Every method raises the errors of `horae_domain.errors`, each with its `code` and `field`.

    Args:
        caller: carries the requests.
        cqrs: the application's own commands, whose models come back as they were.
        headers: those of a trace context that go with every command.
    """

    def __init__(
        self,
        caller: Caller,
        cqrs: Cqrs | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._caller = caller
        self._cqrs = cqrs or Cqrs()
        self._headers = headers

    def caused_by(
        self,
        correlation_id: str,
        loop: AbstractEventLoop | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Client:
        """The same client for a handler: what it asks belongs to the affair of its run."""
        return Client(Caused(self._caller, correlation_id, loop, headers or {}), self._cqrs)

    def in_tenant(self, tenant: str) -> Client:
        """The same calls in another tenant."""
        return Client(self._caller.in_tenant(tenant), self._cqrs, self._headers)

    def with_baggage(self, members: Mapping[str, str]) -> Client:
        """The same client, with W3C baggage that goes along with all that comes of its commands.

        Raises:
            BaggageTooLarge: over 8,192 bytes or 64 members.
            InvalidField: a key is no token.
        """
        return Client(self._caller, self._cqrs, {BAGGAGE: format_baggage(members)})

    # --- schedules --------------------------------------------------------------------------------

    async def create_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        trigger: Trigger,
        action: str | Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        allow_unknown: bool = False,
        **policies: Any,
    ) -> Json:
        """Create a schedule.

        Args:
            id: its name in the tenant.
            trigger: of `cron`, `every`, `once`, `manual`, `on_event`, `on_outcome`.
            action: a handler's name, or the wire's action.
            idempotency_key: the same key and content get the first answer.
            allow_unknown: accept a handler that nobody serves yet.
            policies: the other fields of a definition, such as `payload` or `retry`.
        """
        definition = define(id, trigger, action, **policies)
        if allow_unknown:
            definition["allow_unknown"] = True
        return await self.command("schedule.create", definition, key=idempotency_key)

    async def create_schedules(
        self, definitions: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Json:
        """Create many; `results` answers each by itself, in order."""
        body = {"schedules": [plain(each) for each in definitions]}
        return await self.command("schedule.create_many", body, key=idempotency_key)

    async def validate_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        trigger: Trigger,
        action: str | Mapping[str, Any],
        *,
        allow_unknown: bool = False,
        **policies: Any,
    ) -> Json:
        """What creating it would be refused for (`errors`), and what to know before (`warnings`)."""
        body = define(id, trigger, action, **policies)
        if allow_unknown:
            body["allow_unknown"] = True
        return await self.command("schedule.validate", body)

    async def update_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        trigger: Trigger,
        action: str | Mapping[str, Any],
        *,
        expected_revision: int | None = None,
        idempotency_key: str | None = None,
        allow_unknown: bool = False,
        **policies: Any,
    ) -> Json:
        """Replace a schedule's whole definition, told as for `create_schedule`.

        With `expected_revision` it is refused if the schedule has another one by now.
        """
        body = define(id, trigger, action, **policies)
        if allow_unknown:
            body["allow_unknown"] = True
        if expected_revision is not None:
            body["expected_revision"] = expected_revision
        return await self.command("schedule.update", body, key=idempotency_key)

    async def patch_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        expected_revision: int | None = None,
        idempotency_key: str | None = None,
        allow_unknown: bool = False,
        **fields: Any,
    ) -> Json:
        """Change some fields of a definition by a JSON merge patch (RFC 7396).

        Objects are merged, None gives a field its default again.
        """
        body: Json = {"id": id, **fields}
        if allow_unknown:
            body["allow_unknown"] = True
        if expected_revision is not None:
            body["expected_revision"] = expected_revision
        return await self.command("schedule.patch", body, key=idempotency_key)

    async def bulk_schedules(
        self,
        operation: str,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the wire's name
        *,
        all: bool = False,  # noqa: A002 - the wire's name
        note: str = "",
        tags: Mapping[str, Iterable[str]] | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Json:
        """Pause, resume, cancel or retag (`tags`: add, remove) what matches filters of a list, or `all`."""
        body: Json = {"operation": operation, "note": note, "dry_run": dry_run}
        body |= {"all": True} if all else {}
        body |= {"filter": filter} if filter is not None else {}
        if tags is not None:
            body["tags"] = {name: list(each) for name, each in tags.items()}
        return await self.command("schedule.bulk", body, key=idempotency_key)

    async def pause_schedule(self, id: str, *, note: str = "") -> Json:  # noqa: A002
        """Fire nothing until resumed."""
        return await self.command("schedule.pause", {"id": id, "note": note})

    async def resume_schedule(self, id: str, *, note: str = "") -> Json:  # noqa: A002
        """Fire again."""
        return await self.command("schedule.resume", {"id": id, "note": note})

    async def cancel_schedule(self, id: str, *, note: str = "") -> Json:  # noqa: A002
        """End it; what has not started is cancelled with it."""
        return await self.command("schedule.cancel", {"id": id, "note": note})

    async def trigger_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        key: str | None = None,
        **override: Any,
    ) -> Json:
        """Run now; `payload=` overrides the schedule's, `key` makes it the same execution again."""
        body: Json = {"id": id, **override}
        if key is not None:
            body["key"] = key
        return await self.command("schedule.trigger", body)

    async def get_schedule(self, id: str, **options: Any) -> Json:  # noqa: A002
        """One schedule with its state, counts and next fire times."""
        return await self.query("schedule.get", {"id": id, **options})

    async def list_schedules(self, **filters: Any) -> Json:
        """Schedules by type, status, tags, …; `cursor` leads to the next page."""
        return await self.query("schedule.list", filters)

    async def preview_schedule(self, **options: Any) -> Json:
        """The next fire times of a schedule by `id`, or of a `trigger`."""
        return await self.query("schedule.preview", options)

    async def schedule_history(self, id: str, **options: Any) -> Json:  # noqa: A002
        """What was decided for a schedule, newest first."""
        return await self.query("schedule.history", {"id": id, **options})

    async def backfill_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        start: Instant,
        end: Instant,
        *,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Run what was due from `start` to `end` again, with its own times; see `overlap`, `dry_run`."""
        body = {"id": id, "from": start, "to": end, **options}
        return await self.command("schedule.backfill", body, key=idempotency_key)

    # --- one occurrence ---------------------------------------------------------------------------

    async def skip_occurrence(self, id: str, at: Instant, *, note: str = "") -> Json:  # noqa: A002
        """Let the occurrence that is nominally due at `at` not fire; drop it if it is held."""
        return await self.command("occurrence.skip", {"id": id, "at": at, "note": note})

    async def move_occurrence(
        self,
        id: str,  # noqa: A002 - the wire's name
        at: Instant,
        to: Instant,
        *,
        note: str = "",
    ) -> Json:
        """Let it fire at `to` instead."""
        return await self.command("occurrence.move", {"id": id, "at": at, "to": to, "note": note})

    async def hold_occurrence(self, id: str, at: Instant, *, note: str = "") -> Json:  # noqa: A002
        """Let it wait for approval when it comes due."""
        return await self.command("occurrence.hold", {"id": id, "at": at, "note": note})

    async def approve_occurrence(
        self,
        id: str,  # noqa: A002 - the wire's name
        at: Instant,
        *,
        reject: bool = False,
        note: str = "",
    ) -> Json:
        """Let it fire after all, or with `reject` drop it."""
        body = {"id": id, "at": at, "reject": reject, "note": note}
        return await self.command("occurrence.approve", body)

    async def set_occurrence_payload(
        self,
        id: str,  # noqa: A002 - the wire's name
        at: Instant,
        payload: Any,
        *,
        note: str = "",
    ) -> Json:
        """Let it run with another payload than the schedule's."""
        body = {"id": id, "at": at, "payload": payload, "note": note}
        return await self.command("occurrence.set_payload", body)

    # --- executions -------------------------------------------------------------------------------

    async def get_execution(self, id: str, **options: Any) -> Json:  # noqa: A002
        """One execution with its attempts, logs and timeline."""
        return await self.query("execution.get", {"id": id, **options})

    async def list_executions(self, **filters: Any) -> Json:
        """Executions, newest first."""
        return await self.query("execution.list", filters)

    async def cancel_execution(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        reason: str = "",
        graceful: bool = False,
        grace: str | float | timedelta | None = None,
    ) -> Json:
        """End an execution before its outcome.

        Args:
            id: the execution's.
            reason: kept in the history.
            graceful: ask a running handler to stop, and let its outcome count.
            grace: how long it may take to stop; 30 s unless told.
        """
        body: Json = {"id": id, "reason": reason}
        if graceful:
            body["mode"] = "graceful"
        if grace is not None:
            body["grace"] = grace
        return await self.command("execution.cancel", body)

    async def retry_execution(self, id: str, *, idempotency_key: str | None = None) -> Json:  # noqa: A002
        """Try again what has ended without success, or now what is delayed."""
        return await self.command("execution.retry", {"id": id}, key=idempotency_key)

    async def list_dead_letters(self, **filters: Any) -> Json:
        """Executions out of retries, the latest first, by `schedule_id`, `error_type`, `since`."""
        return await self.query("dead_letter.list", filters)

    async def requeue_dead_letters(self, id: str | None = None, **filters: Any) -> Json:  # noqa: A002
        """Try one dead letter again, or with `all=True` or filters at most 1,000."""
        which = filters if id is None else {"id": id, **filters}
        return await self.command("dead_letter.requeue", which)

    async def reprioritize_execution(self, id: str, priority: str) -> Json:  # noqa: A002
        """Let an execution that waits do so under another priority."""
        return await self.command("execution.reprioritize", {"id": id, "priority": priority})

    # --- external events --------------------------------------------------------------------------

    async def publish_event(
        self,
        type: str,  # noqa: A002 - the wire's name
        data: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - the wire's name
        source: str = "",
        time: Instant | None = None,
    ) -> Json:
        """Say that something has happened, to all who listen for it.

        Args:
            type: what kind of event it is, such as `trade.submitted`.
            data: a JSON value or a model.
            id: with `source` it is the same event whenever it is said again.
            source: who says so.
            time: when it happened, now unless told.
        """
        body: Json = {"type": type, "data": data, "source": source}
        body |= {name: value for name, value in (("id", id), ("time", time)) if value is not None}
        return await self.command("event.publish", body)

    async def find_event(
        self,
        type: str,  # noqa: A002 - the wire's name
        match: Mapping[str, Any] | None = None,
        *,
        since: Instant,
    ) -> Json | None:
        """The first external event of a type that was received since an instant, or None.

        Only what somebody listens for, or keeps by `keep_events`, is sure to be recorded and found.

        Args:
            type: such as `trade.confirmed`.
            match: the values that have to stand in its data, by their dotted paths.
            since: at most 10,000 external events ago.
        """
        asked = {"type": type, "match": match or {}, "since": since}
        found: Json | None = (await self.query("event.find", asked))["event"]
        return found

    # --- queues -----------------------------------------------------------------------------------

    async def limit_queue(self, queue: str, **limits: Any) -> Json:
        """Set `concurrency` or `rate` (`"100 per minute"`) of a queue; None lifts one."""
        return await self.command("queue.limit", {"queue": queue, **limits})

    async def pause_queue(self, queue: str, *, note: str = "") -> Json:
        """Let nothing of a queue begin; what runs goes on."""
        return await self.command("queue.pause", {"queue": queue, "note": note})

    async def resume_queue(self, queue: str, *, note: str = "") -> Json:
        """Let what waits in a queue begin."""
        return await self.command("queue.resume", {"queue": queue, "note": note})

    async def get_queue(self, queue: str, **options: Any) -> Json:
        """What is in a queue, and what limits it."""
        return await self.query("queue.get", {"queue": queue, **options})

    async def list_queues(self, **options: Any) -> Json:
        """The queues that were used, limited or paused, by name."""
        return await self.query("queue.list", options)

    async def limit_tenant(self, **limits: Any) -> Json:
        """Set `concurrency`, `rate` or `weight` of the tenant, over all its queues."""
        return await self.command("tenant.limit", limits)

    async def get_tenant(self, **options: Any) -> Json:
        """What is in all queues of the tenant, and what limits them together."""
        return await self.query("tenant.get", options)

    # --- the rest ---------------------------------------------------------------------------------

    async def list_timers(self, **filters: Any) -> Json:
        """Everything that waits, the soonest first, by `kind`, `schedule_id`, `execution_id`, time."""
        return await self.query("timer.list", filters)

    async def move_timer(self, id: str, to: Instant, *, note: str = "") -> Json:  # noqa: A002
        """Let a timer of `list_timers` come at another instant."""
        return await self.command("timer.move", {"id": id, "to": to, "note": note})

    async def cancel_timer(self, id: str, *, note: str = "") -> Json:  # noqa: A002
        """Let a timer not come: skip an occurrence, give up a retry, lift a timeout."""
        return await self.command("timer.cancel", {"id": id, "note": note})

    async def health(self) -> Json:
        """The components and their state."""
        return await self.query("health", {})

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Json:
        """Any command by its name."""
        return await self._caller.command(
            name, plain(body), key=key, correlation_id=correlation_id, headers=self._headers
        )

    async def query(self, name: str, body: Mapping[str, Any]) -> Json:
        """Any query by its name."""
        return await self._caller.query(name, plain(body))


def define(
    id: str,  # noqa: A002 - the wire's name
    trigger: Trigger,
    action: str | Mapping[str, Any],
    **policies: Any,
) -> Json:
    """The wire form of a definition; policies that are None are left out.

    Raises:
        InvalidTrigger: the trigger is a text, or anything else that none of the functions makes.
    """
    if not isinstance(trigger, Mapping):
        raise InvalidTrigger(
            "trigger: a trigger is made by cron('0 2 * * *'), every('5 minutes') and the like",
            field="trigger",
            value=repr(trigger),
        )
    doing = {"type": "function", "name": action} if isinstance(action, str) else dict(action)
    told = {name: value for name, value in with_sagas(policies).items() if value is not None}
    return plain({"id": id, "trigger": dict(trigger), "action": doing, **told})


def plain(value: Mapping[str, Any]) -> Json:
    """A body with Python's times, durations and models as the wire has them; `Raw` is JSON already.

    Raises:
        InvalidField: something in it is no JSON value.
    """
    return {str(key): _plain(each, str(key)) for key, each in value.items()}


def _plain(value: Any, field: str) -> Any:
    match value:
        case None | bool() | int() | str() | Raw():
            return value
        case float() if math.isfinite(value):
            return value
        case timedelta():
            return format_duration(value)
        case datetime() if value.tzinfo is not None:
            return format_instant(value)
        case Mapping():
            return {str(key): _plain(each, field) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each, field) for each in value]
        case BaseModel() | Enum() | UUID() | Decimal() | date() | time() | Path():
            return to_jsonable_python(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain(asdict(value), field)
        case _:
            raise InvalidField(
                f"{field}: a JSON value is needed here", field=field, value=repr(value)
            )
