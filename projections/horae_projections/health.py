"""The health query: components that say how they are, weighed into one status (Q5)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

from horae_domain.errors import reason_of

Probe = Callable[[], "dict[str, Any] | Awaitable[dict[str, Any]]"]
"""Says how a component is: `status` (`up` or `down`), and perhaps `latency_ms`, `issues` (each with
`severity` and `message`) and facts of its own. One that raises is down."""

PATIENCE = 2.0
"""Seconds that a probe may take."""
SLOW_MS = 1000.0
"""A component that takes longer is reported with a warning."""


async def assess(probes: Mapping[str, Probe]) -> dict[str, Any]:
    """The answer to `health`: healthy, degraded (an error or a warning), unhealthy (critical)."""
    states = await asyncio.gather(*(_ask(probe) for probe in probes.values()))
    components = dict(zip(probes, states, strict=True))
    issues = [
        {"component": name, **issue}
        for name, state in components.items()
        for issue in _issues(state)
    ]
    severities = {issue["severity"] for issue in issues}
    status = "healthy"
    if severities & {"warning", "error"}:
        status = "degraded"
    if "critical" in severities:
        status = "unhealthy"
    return {"ok": True, "status": status, "components": components, "issues": issues}


async def _ask(probe: Probe) -> dict[str, Any]:
    begun = perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            said = probe()
            state = dict(await said if inspect.isawaitable(said) else said)
    except Exception as error:  # noqa: BLE001 - a component that fails its probe is down
        state = {"status": "down", "error": f"{type(error).__name__}: {reason_of(error)}"}
    state.setdefault("latency_ms", round((perf_counter() - begun) * 1000, 3))
    return state


def _issues(state: dict[str, Any]) -> list[dict[str, Any]]:
    issues: list[dict[str, Any]] = list(state.pop("issues", []))
    if state.get("status") == "down" and not issues:
        issues.append({"severity": "critical", "message": str(state.get("error", "down"))})
    if state["latency_ms"] > SLOW_MS:
        issues.append({"severity": "warning", "message": f"took {state['latency_ms']:.0f} ms"})
    return issues
