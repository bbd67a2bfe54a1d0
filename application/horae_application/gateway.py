"""Where requests come in, from NATS or from Python: read, brought to the partition's owner, answered.

It runs on the event loop; the engine decides in its own thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from horae_application import messages
from horae_application.bulk import change_all
from horae_application.cleanup import sweep
from horae_application.creating import SIZE, Creation, alone, creation_of, together
from horae_application.dead_letters import Look, nobody_looks, requeue
from horae_application.engine import Engine
from horae_application.known import Known, require, unserved
from horae_application.messages import OK, Command, Reply, Request, read_command, refused
from horae_application.ports import Forwarder
from horae_application.remembering import Remembering
from horae_application.task import Task
from horae_application.tasks import decided_by, partition_of_command
from horae_application.tracing import Tracing, traced_command
from horae_application.validation import Seen, validate
from horae_domain import schedule as schedules
from horae_domain.definition import Definition, parse_definition
from horae_domain.errors import HoraeError, Internal, Unavailable
from horae_domain.tracing import read_context

PATIENCE = 10.0
"""Seconds that a command waits for a partition's owner before it is refused as unavailable."""
PAUSE = 0.1
"""Seconds between looks while a partition has no owner."""
BREATH = 100
"""Definitions read before others on the event loop have their turn."""

Json = dict[str, Any]


class Gateway:
    """Answers commands: decides here what is owned here, forwards the rest."""

    def __init__(
        self,
        engine: Engine,
        known: Known,
        forwarder: Forwarder | None = None,
        *,
        look: Look = nobody_looks,
        tracing: Tracing | None = None,
    ) -> None:
        self._engine = engine
        self._tracing = tracing
        self._known = known
        self._forwarder = forwarder
        self._look = look
        self._remembering = Remembering(engine, self._decide)

    async def command(self, request: Request) -> Reply:
        """The reply to a command; never raises."""
        if self._tracing is None:
            return await self._command(request)
        return await traced_command(self._tracing, request, self._command)

    async def _command(self, request: Request) -> Reply:
        try:
            command = read_command(request.name, request.body)
            if isinstance(command, messages.CreateMany):
                return await self._create_many(request, command)
            if isinstance(command, messages.ValidateSchedule):
                head = await asyncio.to_thread(self._engine.head)
                seen = Seen(self._look, self._known, request.tenant, head, self._engine.now())
                return await validate(seen, command)
            if isinstance(command, messages.RequeueDeadLetter) and command.id is None:
                return await requeue(self._look, self._bring, request, command)
            if isinstance(command, messages.BulkSchedules):
                return await self._bulk(request, command)
            if isinstance(command, messages.SweepHistory):
                return await self._sweep(request, command)
            request, command = keyed(request, command)
            await require(self._known, request.tenant, command)
            return await self._bring(request, command)
        except HoraeError as error:
            return refused(error)

    async def _bulk(self, request: Request, command: messages.BulkSchedules) -> Reply:
        async def act() -> tuple[Reply, bool]:
            head = await asyncio.to_thread(self._engine.head)
            return await change_all(self._look, self._bring, request, command, head)

        if command.dry_run:
            return (await act())[0]
        return await self._remembering.once(request, act)

    async def _sweep(self, request: Request, command: messages.SweepHistory) -> Reply:
        engine = self._engine
        return await sweep(
            self._look,
            self._bring,
            engine.store,
            request,
            command,
            engine.deciding.retention,
            engine.now(),
        )

    async def local(self, request: Request) -> Reply:
        """The reply to a command that another engine has forwarded; it goes no further."""
        try:
            command = read_command(request.name, request.body)
            if isinstance(command, messages.CreateMany):
                return await self._create_many(request, command, forward=False)
            return await self._decide(*keyed(request, command))
        except HoraeError as error:
            return refused(error)

    async def report(
        self, request: Request, command: messages.ReportExecution | messages.HeartbeatExecution
    ) -> Reply:
        """The reply to a report or heartbeat of an executor in this process, already read."""
        partition = partition_of_command(request.tenant, command)
        if partition in self._engine.ownership.epochs or self._forwarder is None:
            return await self._decide(request, command)
        body = msgspec.json.encode(command.model_dump(mode="json", exclude_unset=True))
        try:
            return await self._bring(msgspec.structs.replace(request, body=body), command)
        except HoraeError as error:
            return refused(error)

    async def check(
        self, tenant: str, command: messages.CheckAnswered | messages.TickAnswered
    ) -> Reply:
        """The reply to an answer that this process's own engine has asked for."""
        return await self._decide(Request(tenant=tenant, name=command.name, body=b""), command)

    async def receive(self, request: Request, command: messages.PublishEvent) -> Reply:
        """The reply to an external event that has come in here, already read.

        It is recorded here, or nowhere yet while this engine owns nothing.
        """
        if not self._engine.ownership.epochs:
            return refused(Unavailable("this engine owns no partition at the moment", moved=True))
        return await self._decide(request, command)

    # --- one command ------------------------------------------------------------------------------

    async def _bring(self, request: Request, command: Command) -> Reply:
        partition = partition_of_command(request.tenant, command)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            reply = await self._try(request, command, partition)
            if not moved(reply) or asyncio.get_running_loop().time() > deadline:
                return reply
            await asyncio.sleep(PAUSE)

    async def _try(self, request: Request, command: Command, partition: int) -> Reply:
        ownership = self._engine.ownership
        if decided_by(ownership.epochs, request.tenant, command) is not None:
            return await self._decide(request, command)
        address = ownership.directory.get(partition)
        if address is None or self._forwarder is None or address == ownership.address:
            return refused(Unavailable("the partition has no owner at the moment", moved=True))
        try:
            return await self._forwarder.forward(address, request)
        except Unavailable as error:
            return refused(error)  # if nobody listens there any more, it has moved

    async def _decide(self, request: Request, command: Command) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._engine.submit(Task(request, command, setter(future)))
        return await future

    # --- many -------------------------------------------------------------------------------------

    async def _create_many(
        self, request: Request, command: messages.CreateMany, *, forward: bool = True
    ) -> Reply:
        """Each definition is answered by itself, in the order given."""
        trusted = command.allow_unknown or not forward
        read, results = await self._read_many(request.tenant, command, trusted=trusted)
        if command.dry_run:
            return self._look_at(request.tenant, read, results)
        here: list[tuple[int, Creation]] = []
        there: dict[str, list[int]] = {}
        for index, definition in read.items():
            one = creation_of(request.tenant, definition)
            address = self._address(one.partition) if forward else None
            if address is None:
                here.append((index, one))
            else:
                there.setdefault(address, []).append(index)
        jobs = [
            self._many_there(request, command, address, each) for address, each in there.items()
        ]
        for part in await asyncio.gather(self._many_here(request, here, forward=forward), *jobs):
            results |= part
        return _bulk_reply([results[index] for index in sorted(results)])

    async def _read_many(
        self, tenant: str, command: messages.CreateMany, *, trusted: bool
    ) -> tuple[dict[int, Definition], dict[int, Json]]:
        """The definitions of a bulk by their places, and the refusals of those that are none."""
        read: dict[int, Definition] = {}
        refusals: dict[int, Json] = {}
        for index, content in enumerate(command.schedules):
            try:
                read[index] = parse_definition(content, prefix=f"schedules[{index}]")
            except HoraeError as error:
                refusals[index] = refused(error).body
            if index % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        if not trusted:
            for index, unknown in (await unserved(self._known, tenant, read)).items():
                refusals[index] = refused(unknown).body
                del read[index]
        return read, refusals

    def _look_at(
        self,
        tenant: str,
        read: Mapping[int, Definition],
        refusals: Mapping[int, Json],
    ) -> Reply:
        """What each creation would be refused for, as far as it can be judged by itself."""
        cause = schedules.Cause(self._engine.now())
        said = dict(refusals)
        for index, definition in read.items():
            try:
                schedules.decide(None, schedules.CreateSchedule(tenant, definition, cause))
            except HoraeError as error:
                said[index] = refused(error).body
            else:
                said[index] = {"ok": True, "id": definition.id}
        results = [said[index] for index in sorted(said)]
        accepted = sum(each["ok"] for each in results)
        body = {
            "ok": accepted == len(results),
            "dry_run": True,
            "created": 0,
            "refused": len(results) - accepted,
            "results": results,
        }
        return Reply(OK, body)

    def _address(self, partition: int) -> str | None:
        """Where to forward to; None if it is decided here, or nobody better is known."""
        ownership = self._engine.ownership
        if partition in ownership.epochs or self._forwarder is None:
            return None
        address = ownership.directory.get(partition)
        return None if address == ownership.address else address

    async def _many_here(
        self, request: Request, each: Sequence[tuple[int, Creation]], *, forward: bool
    ) -> dict[int, Json]:
        # Each is idempotent by its content; a key of the whole would have to span partitions.
        single = msgspec.structs.replace(request, name="schedule.create", body=b"", key=None)
        results: dict[int, Json] = {}
        for first in range(0, len(each), SIZE):
            chunk = each[first : first + SIZE]
            reply = await self._decide(single, together([one for _, one in chunk]))
            bodies = reply.body.get("results") or [reply.body] * len(chunk)
            results |= dict(zip((index for index, _ in chunk), bodies, strict=True))
        if forward:
            results |= await self._again(
                single, [(index, one) for index, one in each if _astray(results[index])]
            )
        return results

    async def _again(
        self, single: Request, each: Sequence[tuple[int, Creation]]
    ) -> dict[int, Json]:
        """Those that could not be decided together, one by one where they belong."""
        commands = [alone(one) for _, one in each]
        replies = await asyncio.gather(
            *(self._bring(with_body(single, command), command) for command in commands)
        )
        return {index: reply.body for (index, _), reply in zip(each, replies, strict=True)}

    async def _many_there(
        self, request: Request, command: messages.CreateMany, address: str, indexes: Sequence[int]
    ) -> dict[int, Json]:
        assert self._forwarder is not None  # noqa: S101 - _address gives none without it
        chosen = [command.schedules[index] for index in indexes]
        body = msgspec.json.encode({"schedules": chosen, "allow_unknown": True})
        try:
            reply = await self._forwarder.forward(
                address, msgspec.structs.replace(request, body=body, key=None)
            )
        except HoraeError as error:
            reply = refused(error)
        bodies = reply.body.get("results") or [reply.body] * len(indexes)
        return dict(zip(indexes, bodies, strict=True))


def keyed(request: Request, command: Command) -> tuple[Request, Command]:
    """A command that is to be scheduled, and an event, has a key: its own, the request's, or a new one."""
    if isinstance(command, messages.PublishEvent) and command.id is None:
        id_ = request.key or uuid4().hex
        return request, command.model_copy(update={"id": id_})
    if not isinstance(command, messages.ScheduleCommand) or command.key is not None:
        return request, command
    key = request.key or uuid4().hex
    named = command.model_copy(update={"key": key})
    return msgspec.structs.replace(request, key=key), named


def with_body(request: Request, one: messages.CreateSchedule) -> Request:
    """The request of one of many as another engine can read it; its handler was looked for."""
    body = one.definition.canonical() | {"allow_unknown": True}
    return msgspec.structs.replace(request, body=msgspec.json.encode(body))


def setter(future: asyncio.Future[Reply]) -> Callable[[Reply], None]:
    """Sets a future unless whoever waited has gone."""

    def done(reply: Reply) -> None:
        if not future.done():
            future.set_result(reply)

    return done


def moved(reply: Reply) -> bool:
    """True if nothing was decided because the partition is owned elsewhere, or by nobody yet."""
    return reply.status == Unavailable.status and bool(reply.body["error"].get("moved"))


def _astray(body: Json) -> bool:
    """True if a creation was not refused for what it is.

    Its partition has moved, or the engine failed over one of those decided with it.
    """
    error = body.get("error") or {}
    return bool(error.get("moved")) or error.get("code") == Internal.code


def _bulk_reply(results: Sequence[Json]) -> Reply:
    positions = [each["position"] for each in results if each["ok"]]
    last = max(positions, key=lambda text: int(text.rsplit(".", 1)[1]), default=None)
    created = len(positions)
    body = {
        "ok": created == len(results),
        "created": created,
        "refused": len(results) - created,
        "position": last,
        "results": results,
    }
    return Reply(200, body)


def new_request(
    tenant: str,
    name: str,
    body: dict[str, Any],
    *,
    key: str | None = None,
    correlation_id: str | None = None,
    actor: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request made in this process; `headers` are those of its trace context and cause.

    Raises:
        BaggageTooLarge: the baggage is over its bounds.
    """
    traceparent, carried = read_context(headers or {})
    return Request(
        tenant=tenant,
        name=name,
        body=msgspec.json.encode(body),
        key=key,
        command_id=uuid4().hex,
        correlation_id=correlation_id,
        actor=actor,
        traceparent=traceparent,
        carried=carried,
    )
