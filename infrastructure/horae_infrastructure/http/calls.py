"""Actions of type `http`: one call for one attempt, and what its answer means (A3)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import httpcore
import msgspec
from pydantic_core import PydanticCustomError

from horae_application.result import Result
from horae_application.work import Work
from horae_domain.actions import HttpAction
from horae_domain.addresses import Network
from horae_domain.definition import size_of
from horae_domain.errors import HoraeError
from horae_domain.fields import MAX_PAYLOAD
from horae_domain.instants import format_instant
from horae_domain.signatures import sign
from horae_domain.tracing import context_headers
from horae_domain.urls import parse_url
from horae_infrastructure.http.network import AddressRefused, CheckedNetwork, Resolve, resolve

MAX_BODY = 512 * 1024
"""Bytes of an answer that are read."""
MAX_MESSAGE = 2000
"""Characters of a refusal's body that are kept."""
MAX_DELAY = timedelta(days=1)
"""The longest delay that a server may ask for."""
AGENT = "horae/0.1.0"

_TRANSIENT = frozenset({408, 425, 429})
"""Statuses of the 400 class after which the same call may do better later."""
_JSON = "application/json"


class SecretUnknown(HoraeError):
    """No secret of this name is known to the executor."""

    code = "secret_unknown"


class HttpCalls:
    """Makes calls, each on a connection of its own; it follows no redirects and knows no proxies.

    Args:
        allowed: networks that may be called though they are not public.
        secrets: those that sign calls, by name; several divided by spaces while one is rotated.
        resolve: looks hosts up.
        tls: how servers are verified, as the system does unless told.
    """

    def __init__(
        self,
        allowed: Iterable[Network] = (),
        secrets: Mapping[str, str] | None = None,
        *,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._network = CheckedNetwork(allowed, resolve=resolve)
        self._told_tls = tls
        self.secrets = secrets or {}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._told_tls or ssl.create_default_context()

    async def call(self, work: Work, now: datetime) -> Result:
        """One attempt of an `http` action.

        Success is a status of the 200 class. 408, 425, 429 and the 500 class may do better later,
        after the delay that the server asks for; so may a connection that fails. All else would
        be refused again.
        """
        action = HttpAction.model_validate(work.action)
        seconds = action.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await self._answered(action, work, now)
        except AddressRefused as error:
            return Result.failed(error.message, type="AddressRefused", final=True)
        except HoraeError as error:
            return Result.failed(error.message, type=type(error).__name__)
        except httpcore.ConnectTimeout as error:
            return Result.failed(str(error) or "no connection in time", type="ConnectTimeout")
        except TimeoutError:
            return Result.failed(f"no answer in {seconds:g} s", type="CallTimeout")
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            kind = type(error).__name__
            return Result.failed(str(error) or kind, type=kind)

    async def status(self, url: str, headers: Mapping[str, str]) -> int:
        """The status that a GET is answered with; nothing of its body is read.

        Raises:
            ValueError: the URL is none.
            HoraeError: its host may not be reached or has no address.
            OSError: it does not answer.
        """
        told = {"accept-encoding": "identity", "user-agent": AGENT, **headers}
        try:
            async with self._stream("GET", url, told, b"", {}) as response:
                return response.status
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    async def knock(self, host: str, port: int) -> None:
        """Connect, and close at once.

        Raises:
            HoraeError: it may not be reached or has no address.
            OSError: nobody listens.
        """
        try:
            stream = await self._network.connect_tcp(host, port)
        except httpcore.ConnectError as error:
            raise ConnectionError(str(error) or "no connection") from error
        await stream.aclose()

    async def _answered(self, action: HttpAction, work: Work, now: datetime) -> Result:
        body = _body(action, work.payload)
        headers = self._headers(action, work, body, now)
        connecting = {"connect": action.connect_timeout.total_seconds()}
        async with self._stream(action.method, action.url, headers, body, connecting) as response:
            content, whole = await _read(response)
            return outcome(response.status, _headers(response), content, whole=whole, now=now)

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Mapping[str, float],
    ) -> AsyncIterator[httpcore.Response]:
        """The answer to a request, as far as its headers."""
        url = parse_url(address)
        told = {"host": url.authority, **headers}
        async with (
            httpcore.AsyncConnectionPool(self._tls, network_backend=self._network) as pool,
            pool.stream(
                method,
                httpcore.URL(
                    scheme=url.scheme.encode(),
                    host=url.host.encode(),
                    port=url.port,
                    target=url.target.encode(),
                ),
                headers=[(name.encode(), value.encode()) for name, value in told.items()],
                content=body,
                extensions={"timeout": timeouts},
            ) as response,
        ):
            yield response

    def _headers(
        self, action: HttpAction, work: Work, body: bytes, now: datetime
    ) -> dict[str, str]:
        told = {name.lower(): value for name, value in action.headers.items()}
        if body:
            told.setdefault("content-type", _JSON)
        told |= {
            "content-length": str(len(body)),
            "accept-encoding": "identity",
            "user-agent": AGENT,
            "idempotency-key": work.command_id,
            "horae-schedule-id": work.schedule_id,
            "horae-execution-id": work.execution_id,
            "horae-attempt": str(work.attempt),
            "horae-due": format_instant(work.due),
        }
        told = context_headers(work.traceparent, work.carried) | told
        if action.secret is not None:
            secrets = self._secret(action.secret).split()
            told |= sign(secrets, work.execution_id, int(now.timestamp()), body)
        return told

    def _secret(self, name: str) -> str:
        if name not in self.secrets:
            known = ", ".join(sorted(self.secrets)) or "none"
            raise SecretUnknown(f"no secret {name!r} in HORAE_SECRETS here; there are: {known}")
        return self.secrets[name]


def _body(action: HttpAction, payload: Any) -> bytes:
    content = payload if action.body is None else action.body
    if content is None:
        return b""
    kinds = [value for name, value in action.headers.items() if name.lower() == "content-type"]
    if isinstance(content, str) and kinds and "json" not in kinds[0].lower():
        return content.encode()
    return msgspec.json.encode(content)


async def _read(response: httpcore.Response) -> tuple[bytes, bool]:
    """The body as far as it is in bounds, and whether that is all."""
    content = bytearray()
    async for chunk in response.aiter_stream():
        content += chunk
        if len(content) > MAX_BODY:
            return bytes(content[:MAX_BODY]), False
    return bytes(content), True


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def outcome(
    status: int, headers: Mapping[str, str], content: bytes, *, whole: bool, now: datetime
) -> Result:
    """What an answer means."""
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's classes
        return Result.done(_result(status, headers, content, whole=whole))
    text = content.decode(errors="replace")[:MAX_MESSAGE]
    message = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    if 300 <= status < 400:  # noqa: PLR2004
        message = f"HTTP {status}: redirects are not followed"
    transient = status >= 500 or status in _TRANSIENT  # noqa: PLR2004
    return Result.failed(
        message,
        type=f"Http{status}",
        retry_after=_delay(headers.get("retry-after"), now) if transient else None,
        final=not transient,
    )


def _result(
    status: int, headers: Mapping[str, str], content: bytes, *, whole: bool
) -> dict[str, Any]:
    """What is kept of a success: it counts as one, whatever its body is."""
    kind = headers.get("content-type", "")
    result: dict[str, Any] = {"status": status, "content_type": kind, "body": None}
    if whole:
        result["body"] = _value(kind, content)
    if not whole or not _fits(result):
        result |= {"body": _text(content)[:MAX_MESSAGE], "truncated": True}
    return result


def _value(kind: str, content: bytes) -> Any:
    if not content:
        return None
    if "json" in kind.lower():
        try:
            return msgspec.json.decode(content)
        except (msgspec.MsgspecError, RecursionError):
            return _text(content)
    return _text(content)


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _fits(value: Any) -> bool:
    try:
        return size_of(value) <= MAX_PAYLOAD
    except PydanticCustomError:
        return False


def _delay(told: str | None, now: datetime) -> timedelta | None:
    """What `retry-after` asks for: seconds, or an instant; None if it cannot be read."""
    if told is None:
        return None
    if told.isascii() and told.isdigit():
        return min(timedelta(seconds=min(int(told[:9]), 10**8)), MAX_DELAY)
    try:
        at = parsedate_to_datetime(told)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta(0)), MAX_DELAY)
