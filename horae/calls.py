"""What makes HTTP calls in a process, where the extra `http` is there."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from horae_domain.addresses import parse_networks

if TYPE_CHECKING:
    from horae.runtime import Runtime
    from horae_infrastructure.http.calls import HttpCalls
    from horae_infrastructure.settings import Settings


def calls_of(runtime: Runtime) -> HttpCalls | None:
    """As the settings say; secrets may change while the process runs."""
    if find_spec("httpcore") is None or find_spec("anyio") is None:
        return None
    from horae_infrastructure.http.calls import HttpCalls

    settings = runtime.settings
    calls = HttpCalls(parse_networks(settings.http_networks), settings.secrets)

    def change(told: Settings) -> None:
        calls.secrets = told.secrets

    runtime.on_change.append(change)
    return calls
