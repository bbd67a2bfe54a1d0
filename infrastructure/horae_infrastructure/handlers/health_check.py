"""`horae.health_check`: whether others are there, over HTTP, TCP and NATS."""

from __future__ import annotations

import asyncio
import re
import time
from base64 import b64encode
from datetime import timedelta
from typing import Annotated, Any, Literal, assert_never
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from horae_application.context import Context
from horae_application.result import Result
from horae_application.services import Reach
from horae_domain.errors import HoraeError
from horae_domain.fields import Model, Span

Json = dict[str, Any]

_BAD = 400
"""Statuses below it are good, unless told."""
_MAX_REASON = 300


class _Target(Model):
    """What is asked.

    Attributes:
        name: what the result calls it; its address unless told.
        critical: whether the attempt fails if it is down.
        timeout: how long it may take; the payload's unless told.
    """

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    critical: bool = True
    timeout: Span | None = None


def _reachable(url: str) -> str:
    if not re.fullmatch(r"https?://\S+", url):
        raise PydanticCustomError(
            "url", "expected: an address such as `https://example.org/health`"
        )
    return url


def _named(service: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", service):
        raise PydanticCustomError(
            "name", "expected: 1 to 128 of A-Z a-z 0-9 _ -, such as `trading`"
        )
    return service


class HttpTarget(_Target):
    """A GET, redirects not followed, good if its status is `expect`, or below 400."""

    type: Literal["http"]
    url: Annotated[str, Field(max_length=4096), AfterValidator(_reachable)]
    expect: Annotated[int, Field(ge=100, le=599)] | None = None

    @property
    def address(self) -> str:
        """The URL without what may be secret: user, path and query."""
        scheme, _, rest = self.url.partition("://")
        host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
        return f"{scheme}://{host.rpartition('@')[2]}"

    @property
    def request(self) -> tuple[str, dict[str, str]]:
        """The URL without its user, who is in a header, and without its fragment."""
        parts = urlsplit(self.url)
        user, _, host = parts.netloc.rpartition("@")
        url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        if not user:
            return url, {}
        return url, {"authorization": f"Basic {b64encode(unquote(user).encode()).decode()}"}


class TcpTarget(_Target):
    """A connection, closed at once."""

    type: Literal["tcp"]
    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)]

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


class ServiceTarget(_Target):
    """A NATS micro service that answers a ping."""

    type: Literal["service"]
    service: Annotated[str, AfterValidator(_named)]

    @property
    def address(self) -> str:
        """The service's name."""
        return self.service


Target = Annotated[HttpTarget | TcpTarget | ServiceTarget, Field(discriminator="type")]


class Check(Model):
    """The payload.

    Attributes:
        targets: what is asked, all at once.
        timeout: how long each may take.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=100)]
    timeout: Span = timedelta(seconds=5)

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [each.name or each.address for each in targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            reason = f"{twice[0]} is there twice: give names"
            raise PydanticCustomError("targets", "{reason}", {"reason": reason})
        return targets


class Down(Exception):
    """A target that answers, but not as it should."""


async def health_check(ctx: Context, check: Check) -> Result:
    """Ask all targets; `up`, or `degraded` if one is down that is not critical.

    The attempt fails as `TargetsDown` if a critical one is down; what each said is in the metadata.
    """
    asking = _Asking(ctx)
    each = await asyncio.gather(*(asking.look(target, check) for target in check.targets))
    down = [one for one in each if not one["up"]]
    critical = [one for one in down if one["critical"]]
    for one in down:
        ctx.log("target down", **{key: one[key] for key in ("name", "error", "critical")})
    if not critical:
        status = "degraded" if down else "up"
        return Result.done({"status": status, "targets": each})
    message = "; ".join(f"{one['name']}: {one['error']}" for one in critical)
    error = {"type": "TargetsDown", "message": message[:4000]}
    return Result(outcome="failed", error=error, metadata={"status": "down", "targets": each})


class _Asking:
    """Asks targets, each in its way."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def look(self, target: HttpTarget | TcpTarget | ServiceTarget, check: Check) -> Json:
        """How one target is."""
        seconds = (target.timeout or check.timeout).total_seconds()
        began, error = time.perf_counter(), None
        try:
            async with asyncio.timeout(seconds):
                await self._ask(target, seconds)
        except TimeoutError:
            error = f"no answer within {seconds:g} s"
        except (Down, HoraeError, OSError) as problem:
            error = (str(problem) or type(problem).__name__)[:_MAX_REASON]
        facts = {
            "name": target.name or target.address,
            "type": target.type,
            "critical": target.critical,
            "up": error is None,
            "latency_ms": round((time.perf_counter() - began) * 1000, 3),
        }
        return facts if error is None else facts | {"error": error}

    async def _ask(self, target: HttpTarget | TcpTarget | ServiceTarget, seconds: float) -> None:
        match target:
            case HttpTarget():
                await self._get(target)
            case TcpTarget():
                await self._reach.knock(target.host, target.port)
            case ServiceTarget():
                services = self._ctx.services
                if services is None or not await services.ping(target.service, seconds):
                    raise Down("no such service answers")
            case _:
                assert_never(target)

    @property
    def _reach(self) -> Reach:
        if self._ctx.reach is None:
            raise Down("targets of HTTP and TCP need the extra horae[http]")
        return self._ctx.reach

    async def _get(self, target: HttpTarget) -> None:
        try:
            status = await self._reach.status(*target.request)
        except ValueError as error:
            raise Down(str(error)) from error
        good = status == target.expect if target.expect is not None else status < _BAD
        if not good:
            raise Down(f"status {status}")
