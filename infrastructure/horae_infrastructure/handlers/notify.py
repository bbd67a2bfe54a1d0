"""`horae.notify`: messages to people, through apprise (the extra `notify`)."""

from __future__ import annotations

import logging
import os
import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from horae_application.context import Context
from horae_application.result import Result
from horae_domain.fields import Model

HIDDEN = "***"
"""What queries show in place of a URL's secrets."""
_VARIABLE = re.compile(r"env:(HORAE_NOTIFY_[A-Z0-9_]{1,100})")
_SCHEME = re.compile(r"[A-Za-z0-9+.-]{1,32}://.")


class Notification(Model):
    """The payload.

    Attributes:
        urls: where to, as apprise writes it (`slack://…`, `mailto://…`), or
            `env:HORAE_NOTIFY_<NAME>`, a variable of the executor's environment that holds one.
        title, body: what.
        type: how urgent it looks.
        format: of the body.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    urls: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...], Field(min_length=1, max_length=50)
    ]
    title: Annotated[str, Field(max_length=255)] = ""
    body: Annotated[str, Field(min_length=1, max_length=32_768)]
    type: Literal["info", "success", "warning", "failure"] = "info"
    format: Literal["text", "markdown", "html"] = "text"

    @field_validator("urls")
    @classmethod
    def _can_be_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for index, url in enumerate(urls):
            if HIDDEN in url:
                reason = f"number {index + 1} is as queries show it, without its secrets"
                raise PydanticCustomError("url", "{reason}", {"reason": reason})
            if not _VARIABLE.fullmatch(url) and not _SCHEME.match(url):
                reason = f"number {index + 1} is neither a URL nor env:HORAE_NOTIFY_…"
                raise PydanticCustomError("url", "{reason}", {"reason": reason})
        return urls


def notify(ctx: Context, notification: Notification) -> Result:
    """Send a message to each URL; the attempt fails if one of them was not reached.

    Its next attempt sends to all of them again. No URL appears in a log, a result or an error.
    """
    sent = [
        {"target": place, **_send(url, notification)}
        for place, url in enumerate(notification.urls, start=1)
    ]
    failed = [each for each in sent if "error" in each]
    for each in failed:
        ctx.log("not delivered", **each)
    metadata = {"targets": sent}
    if not failed:
        return Result.done({"delivered": len(sent)}, metadata=metadata)
    names = ", ".join(f"{each['target']} ({each['service']}): {each['error']}" for each in failed)
    error = {"type": "NotDelivered", "message": f"{len(failed)} of {len(sent)}: {names}"}
    return Result(outcome="failed", error=error, metadata=metadata)


def _send(url: str, notification: Notification) -> dict[str, str]:
    """What became of one target: its service, and an error if there was one."""
    import apprise  # noqa: PLC0415 - it takes a second, and is needed by few

    # It logs URLs whole where it cannot read them.
    logging.getLogger("apprise").addFilter(_drop)
    variable = _VARIABLE.fullmatch(url)
    if variable is not None:
        found = os.environ.get(variable[1])
        if found is None:
            return {"service": "?", "error": f"{variable[1]} is not set"}
        url = found
    service = apprise.Apprise.instantiate(url)
    if service is None:
        return {"service": "?", "error": "no URL that apprise knows"}
    facts = {"service": str(service.service_name)}
    try:
        delivered = service.notify(
            title=notification.title,
            body=notification.body,
            notify_type=apprise.NotifyType(notification.type),
            body_format=apprise.NotifyFormat(notification.format),
        )
    except Exception as error:  # noqa: BLE001 - of many authors, and its words may be the URL's
        return facts | {"error": type(error).__name__}
    return facts if delivered else facts | {"error": "the service did not take it"}


def _drop(record: logging.LogRecord) -> bool:
    del record
    return False
