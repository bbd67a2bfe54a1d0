"""`horae dev` has the history swept, unless somebody wants it otherwise."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from launching import APP, start, stop

from horae.app import connect
from horae_domain.errors import NotFound


async def _found(url: str) -> dict[str, Any]:
    async with connect(url) as client:
        end = time.monotonic() + 60
        while True:
            try:
                return await client.get_schedule("horae.cleanup")
            except NotFound:
                assert time.monotonic() < end


async def test_history_is_swept_hourly_and_what_was_cancelled_stays_so(tmp_path: Path) -> None:
    told = {"HORAE_CLEANUP": "true"}
    dev = start(APP, cwd=tmp_path, **told)
    try:
        found = await _found(dev.facts["nats_url"])
        assert found["trigger"]["every"] == "1h"
        async with connect(dev.facts["nats_url"]) as client:
            assert (await client.command("history.sweep", {}))["executions"] == 0
            await client.cancel_schedule("horae.cleanup")
    finally:
        stop(dev)
    again = start(APP, cwd=tmp_path, **told)
    try:
        assert (await _found(again.facts["nats_url"]))["status"] == "cancelled"
    finally:
        stop(again)
