"""`horae.cleanup`: a sweep of the tenant's history (O5)."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from horae_application.context import Context
from horae_domain.fields import Model

NAME = "horae.cleanup"


class Sweep(Model):
    """The payload.

    Attributes:
        dry_run: count what could be erased, and erase nothing.
    """

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False


async def cleanup(ctx: Context, asked: Sweep | None = None) -> dict[str, Any]:
    """Erase what has ended and was kept long enough; the result counts it.

    Raises:
        RuntimeError: this process has no engine beside it.
    """
    if ctx.client is None:
        raise RuntimeError("an executor beside an engine does it")
    client = ctx.client.in_tenant(ctx.tenant)
    answer: dict[str, Any] = await client.command(
        "history.sweep", (asked or Sweep()).model_dump(mode="json")
    )
    return {name: answer[name] for name in answer if name not in {"ok", "position"}}
