"""Conditions and checks over NATS: asked of others, and served for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.checks import CHECK_TIMEOUT, question
from horae_application.context import Context
from horae_application.failing import Failing
from horae_application.log import get_logger
from horae_application.registry import Registry
from horae_application.services import NoReply, NoResponders, ServiceError
from horae_application.threads import in_thread
from horae_application.work import Work
from horae_domain.errors import reason_of
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.discovery import QUEUE_GROUP, Discovery, Endpoint
from horae_infrastructure.nats.subjects import ERROR, ERROR_CODE, check_subject, header_text
from horae_infrastructure.nats.tasks import Tasks, drain

_log = get_logger("horae.nats.checks")
_encode = msgspec.json.Encoder().encode
_SLOTS = 64
_MESSAGE_LIMIT = 500


class NatsChecks:
    """Asks whoever serves a condition or a check in another process: the port `Elsewhere`."""

    def __init__(self, nc: Connection) -> None:
        self._nc = nc

    async def check(self, work: Work, name: str) -> Any:
        """What the first one answers, as JSON."""
        subject = check_subject(work.tenant, name)
        body = _encode(question(work, name))
        try:
            msg = await self._nc.request(subject, body, timeout=CHECK_TIMEOUT)
        except nats.errors.NoRespondersError as error:
            raise NoResponders(f"nobody serves the check {name}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise NoReply(f"no answer of the check {name}: {error}") from error
        return _value(name, msg)


def _value(name: str, msg: Msg) -> Any:
    try:
        value = msgspec.json.decode(msg.data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ServiceError(f"the check {name} has not answered with JSON: {error}") from error
    headers = msg.headers or {}
    refused = isinstance(value, dict) and value.get("ok") is False
    if ERROR_CODE in headers or refused:
        said = value.get("error") if isinstance(value, dict) else None
        told = said if isinstance(said, dict) else {"message": said}
        message = headers.get(ERROR) or told.get("message") or "refused"
        kind = told.get("type") or told.get("code")
        raise ServiceError(str(message)[:1000], type=str(kind or "ServiceError")[:255])
    return value


class CheckServing:
    """Serves the conditions and checks of an application for one tenant, from `start` to `stop`."""

    def __init__(self, nc: Connection, tenant: str, registry: Registry) -> None:
        self._nc = nc
        self._tenant = tenant
        self._registry = registry
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(_SLOTS)
        self._looking = asyncio.Lock()
        self._endpoints: list[Endpoint] = []
        self._subscriptions: list[Subscription] = []
        self._served: set[str] = set()
        self._failing = Failing()
        self._discovery = Discovery(
            nc, "horae-checks", version="0.1.0", description="Conditions and checks",
            endpoints=self._endpoints,
        )  # fmt: skip

    async def start(self) -> None:
        """Begin to serve."""
        await self._add_new()

    async def stop(self, limit: float) -> None:
        """Take no more; those in progress have `limit` seconds to end."""
        if self._endpoints:
            await self._discovery.stop(limit)
        await asyncio.gather(*(drain(each, limit) for each in self._subscriptions))
        await self._tasks.finish(limit)

    def look(self) -> None:
        """There may be more; on the loop or off it."""
        asyncio.run_coroutine_threadsafe(self._add_new(), self._loop)

    async def _add_new(self) -> None:
        async with self._looking:
            new = [each for each in self._registry.checks.names() if each not in self._served]
            for name in new:
                await self._add(name)
            await self._nc.flush()

    async def _add(self, name: str) -> None:
        self._served.add(name)
        endpoint = Endpoint(name.replace(".", "-"), check_subject(self._tenant, name))
        self._endpoints.append(endpoint)
        if len(self._endpoints) == 1:
            await self._discovery.start()

        async def receive(msg: Msg) -> None:
            if self._tasks.full:
                await self._refuse(msg, ServiceError("busy", status=429, type="TooManyRequests"))
            else:
                self._tasks.start(self._answer(name, endpoint, msg))

        self._subscriptions.append(
            await self._nc.subscribe(endpoint.subject, queue=QUEUE_GROUP, cb=receive)
        )

    async def _answer(self, name: str, endpoint: Endpoint, msg: Msg) -> None:
        asker = ""
        try:
            work = _work(msg)
            asker = work.schedule_id
            value = await self._call(name, work)
        except Exception as error:  # noqa: BLE001 - whatever it is, the asker is told
            if self._failing.fails((name, asker), str(error)):
                _log.warning("check failed", check=name, schedule_id=asker, error=str(error))
            endpoint.count(0, str(error))
            failed = ServiceError(reason_of(error), type=type(error).__name__)
            await self._refuse(msg, failed)
        else:
            if self._failing.works((name, asker)):
                _log.info("check answers again", check=name, schedule_id=asker)
            endpoint.count(0)
            await msg.respond(_encode(value))

    async def _call(self, name: str, work: Work) -> Any:
        handler = self._registry.checks.get(name)
        assert handler is not None  # noqa: S101 - what is served is registered
        context = Context(work, cqrs=self._registry.cqrs)
        arguments = handler.call_arguments(context)
        async with asyncio.timeout(CHECK_TIMEOUT):
            if handler.asynchronous:
                value = await handler.function(*arguments)
            else:
                _, future = in_thread(lambda: handler.function(*arguments))
                value = await future
        return (
            {"ok": True, "met": value} if isinstance(value, bool) else {"ok": True, "data": value}
        )

    async def _refuse(self, msg: Msg, error: ServiceError) -> None:
        headers = {
            ERROR: header_text(error.message, _MESSAGE_LIMIT) or error.type,
            ERROR_CODE: str(error.error_code),
        }
        said = {"type": error.type, "message": error.message}
        await self._nc.publish(msg.reply, _encode({"ok": False, "error": said}), headers=headers)


def _work(msg: Msg) -> Work:
    """What a question says of the execution, or of the tick, that it is about."""
    told: dict[str, Any] = msgspec.json.decode(msg.data) if msg.data else {}
    known = {"execution_id": "", "schedule_id": "", "tenant": "", "due": datetime.now(UTC)} | told
    return msgspec.convert(
        known | {"attempt": 1, "lease": "1.1", "action": {"type": "check"}}, Work, strict=False
    )
