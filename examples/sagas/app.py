"""All worked examples in one application.

    SAGAS_PACE=3600 HORAE_HTTP_NETWORKS=127.0.0.0/8 horae dev examples.sagas.app:app

serves them with hours that last a second; without a pace they last as long as they say. Wall-clock
times (`cron`) keep theirs.
"""

from __future__ import annotations

import os
from typing import Any

from examples.sagas import operations, shop, support, trading
from examples.sagas.base import app
from horae_domain.durations import format_duration, parse_duration

__all__ = ["app", "operations", "shop", "support", "trading"]

WAITS = {
    "trigger": ("delay", "every", "cooldown"),
    "wait_for": ("timeout",),
    "retry": ("delay", "max_delay"),
}
"""Where a definition says how long something lasts."""


def paced(definition: dict[str, Any], pace: float) -> dict[str, Any]:
    """A definition whose waits are so many times shorter, at least a second."""
    told = dict(definition)
    for field in WAITS.keys() & told.keys():
        told[field] = dict(told[field])
        for name in set(WAITS[field]) & told[field].keys():
            wait = parse_duration(told[field][name], field=name).total_seconds() / pace
            told[field][name] = format_duration(parse_duration(max(wait, 1.0), field=name))
    return told


pace = float(os.environ.get("SAGAS_PACE", "1"))
if pace != 1:
    app.schedules = {id_: paced(each, pace) for id_, each in app.schedules.items()}
