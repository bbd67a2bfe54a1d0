"""`horae serve` against given servers: how it begins without views, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launching import environment

from horae_infrastructure.embedded import Valkey

ENDLESS = """\
import asyncio, os, pathlib, horae
app = horae.Horae('endless')
@app.handler('endless')
async def endless(ctx):
    with open('began', 'a') as began:
        began.write(f'{ctx.attempt}\\n')
    while not pathlib.Path('over').exists():
        await asyncio.sleep(0.02)
    return 'over'
"""


class Serve:
    """One process of `horae serve`."""

    def __init__(self, cwd: Path, *options: str, **env: str) -> None:
        self.cwd = cwd
        (cwd / "endless.py").write_text(ENDLESS)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "horae", "serve", "endless:app", "--json", *options],
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=environment() | {"HORAE_LOG": "console:warning"} | env,
        )
        line = self.process.stdout.readline()
        assert line, f"not ready, exit code {self.process.wait(60)}"

    def began(self) -> int:
        try:
            return len((self.cwd / "began").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path, nats_url, command, monkeypatch):
    """Starts processes against one NATS server, and asks them; whatever is left is killed."""
    monkeypatch.setenv("HORAE_NATS_URL", nats_url)
    tenant = tmp_path.name.replace(".", "_")[:60]
    monkeypatch.setenv("HORAE_TENANT", tenant)
    started = []

    def start(*options, **env):
        told = {"HORAE_NATS_URL": nats_url, "HORAE_REDIS_URL": "memory://"}
        told["HORAE_TENANT"] = tenant
        started.append(Serve(tmp_path, *options, **told | env))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def trigger(command, until, tmp_path, id_="endless"):
    content = {
        "id": id_,
        "trigger": {"type": "manual"},
        "action": {"type": "function", "name": "endless"},
    }
    (tmp_path / f"{id_}.json").write_text(json.dumps(content))
    until(lambda: command("schedule", "create", "-f", f"{id_}.json").code == 0)
    said = command("schedule", "trigger", id_, "--json")
    return said.document["execution_id"]


@pytest.mark.postgres
def test_one_limit_holds_for_all_phases_of_a_stop_and_work_is_handed_back(
    serve, command, until, tmp_path, postgres_url
):
    """With PostgreSQL the same process takes work from its engine and from the stream."""
    first = serve("--store", postgres_url, HORAE_STOP_LIMIT="10")
    id_ = trigger(command, until, tmp_path)
    until(lambda: first.began() == 1)
    assert first.end() == 0  # else it was ended at the limit
    second = serve("--store", postgres_url, HORAE_STOP_LIMIT="10")
    until(lambda: second.began() == 2)
    (tmp_path / "over").touch()
    until(lambda: '"over"' in command("execution", "show", id_, "--json").out)
    assert second.end() == 0


def test_work_that_ends_within_the_limit_is_finished(serve, command, until, tmp_path):
    first = serve("--data", str(tmp_path / "data"), HORAE_STOP_LIMIT="60")
    id_ = trigger(command, until, tmp_path)
    until(lambda: first.began() == 1)
    first.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        first.process.wait(1)
    (tmp_path / "over").touch()
    assert first.process.wait(60) == 0
    second = serve("--data", str(tmp_path / "data"))
    until(lambda: '"over"' in command("execution", "show", id_, "--json").out)
    assert second.began() == 1
    assert second.end() == 0


def test_engine_begins_without_valkey_and_answers_queries_when_it_is_there(
    serve, command, until, tmp_path
):
    valkey = Valkey(tmp_path / "valkey")
    url = valkey.start().url
    valkey.stop()
    running = serve("--data", str(tmp_path / "data"), HORAE_REDIS_URL=url)
    (tmp_path / "over").touch()
    id_ = trigger(command, until, tmp_path)
    until(lambda: running.began() == 1)
    said = command("schedule", "list", "--json")
    assert said.document["error"]["code"] == "unavailable"
    health = command("health", "--json").document
    assert health["status"] != "healthy"
    assert health["components"]["views"]["status"] == "down"
    with valkey:
        until(lambda: '"over"' in command("execution", "show", id_, "--json").out)
        until(lambda: command("health", "--json").document["status"] == "healthy")
        assert running.end() == 0
