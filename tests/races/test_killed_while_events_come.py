"""An engine that is killed between the record and the acknowledgement, or before either (R1)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.connection import close, connect

DESK = Path(__file__).with_name("event_desk.py")
EVENTS = 150
KILLS = 2
PATIENCE = 100.0


def start(url: str, directory: Path) -> subprocess.Popen[str]:
    env = os.environ | {"DESK_NATS": url, "DESK_DIR": str(directory)}
    desk = subprocess.Popen([sys.executable, str(DESK)], env=env, stdout=subprocess.PIPE, text=True)
    assert desk.stdout is not None
    assert desk.stdout.readline().strip() == "ready"
    return desk


def kill(desk: subprocess.Popen[str]) -> None:
    with desk:
        desk.kill()


def recorded(directory: Path) -> dict[str, int]:
    query = "select topic, count(*) from horae_events group by 1"
    with closing(sqlite3.connect(f"file:{directory}/horae.db?mode=ro", uri=True)) as db:
        return dict(db.execute(query).fetchall())


async def publish(nc: Any, numbers: range) -> None:
    for number in numbers:
        headers = {"Nats-Msg-Id": f"e-{number}"}
        await nc.jetstream().publish("events.tick", b"{}", headers=headers)
        await asyncio.sleep(0.005)


@pytest.mark.slow
@pytest.mark.no_cover  # what is killed leaves no measurement
async def test_each_event_runs_once_though_its_engine_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    with Nats() as server:
        desk = await asyncio.to_thread(start, server.url, tmp_path)
        nc = await connect(server.url, name="publisher")
        try:
            for first in range(0, EVENTS, EVENTS // KILLS):
                before = recorded(tmp_path).get("external_event.received.v1", 0)
                publishing = asyncio.create_task(publish(nc, range(first, first + EVENTS // KILLS)))
                async with asyncio.timeout(PATIENCE):
                    while recorded(tmp_path).get("external_event.received.v1", 0) < before + 20:
                        await asyncio.sleep(0.002)
                kill(desk)
                desk = await asyncio.to_thread(start, server.url, tmp_path)
                await publishing
            async with asyncio.timeout(PATIENCE):
                while recorded(tmp_path).get("execution.succeeded.v1", 0) < EVENTS:
                    await asyncio.sleep(0.05)
                info = await nc.jetstream().stream_info("HORAE_INBOX")
                while info.state.messages:
                    await asyncio.sleep(0.2)
                    info = await nc.jetstream().stream_info("HORAE_INBOX")
        finally:
            kill(desk)
            await close(nc)
        found = recorded(tmp_path)
        assert found["external_event.received.v1"] == EVENTS
        assert found["execution.requested.v1"] == EVENTS
        assert found["execution.succeeded.v1"] == EVENTS
