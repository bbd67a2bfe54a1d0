"""Settings that change in a process that runs, and those that client commands take from a file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from launching import environment, start, stop

SLOW = """\
import asyncio, horae, pathlib
app = horae.Horae('slow')
@app.handler('wait')
async def wait(ctx):
    pathlib.Path('began', ctx.schedule_id).touch()
    while not pathlib.Path('over').exists():
        await asyncio.sleep(0.02)
"""


@pytest.fixture
def dev(tmp_path):
    """An engine with one slot, by its settings' file."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "began").mkdir()
    (tmp_path / "horae.toml").write_text('concurrency = 1\nlog = "json:error"\n')
    with (tmp_path / "log").open("w") as log:
        running = start("slow:app", "--config", "horae.toml", cwd=tmp_path, log=log, HORAE_LOG="")
    yield running
    (tmp_path / "over").touch()
    assert stop(running) == 0


def test_file_that_changes_changes_the_process_at_a_signal(
    dev, command, until, tmp_path, monkeypatch
):
    """One slot becomes three, and the log more talkative; what runs goes on."""

    def reload(text):
        (tmp_path / "horae.toml").write_text(text)
        dev.process.send_signal(signal.SIGHUP)

    def logged(event):
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    def began():
        return len(list((tmp_path / "began").iterdir()))

    action = {"type": "function", "name": "wait"}
    for id_ in "abcd":
        content = {"id": id_, "trigger": {"type": "manual"}, "action": action}
        (tmp_path / f"{id_}.json").write_text(json.dumps(content))
        assert command("schedule", "create", "-f", f"{id_}.json").code == 0
        assert command("schedule", "trigger", id_).code == 0
    until(lambda: began() == 1, 30)

    reload('concurrency = 3\nlog = "json:warning"\nreplicas = 3\n')
    said = until(lambda: logged("settings read again"), 30)[0]
    assert said["changed"] == {"log": "json:warning", "concurrency": 3}
    assert said["need_restart"] == ["replicas"]
    until(lambda: began() == 3, 30)
    workers = command("health", "--json").document["components"]["workers"]
    assert (workers["running"], workers["free"]) == (3, 0)

    reload("concurrency = 0\n")
    refused = until(lambda: logged("settings not changed"), 30)[0]
    assert refused["setting"] == "concurrency"
    assert "1 to 10000" in refused["reason"]
    assert dev.process.poll() is None

    reload('concurrency = 1\nlog = "json:warning"\n')
    until(lambda: len(logged("settings read again")) == 2, 30)
    until(lambda: command("health", "--json").document["components"]["workers"]["free"] == -2, 30)
    (tmp_path / "over").touch()
    until(lambda: began() == 4, 30)

    reload('max_memory = "16MiB"\n')
    until(lambda: "memory" in json.dumps(command("health", "--json").document["issues"]), 30)


def test_hung_up_terminal_ends_the_process_in_order(tmp_path):
    """As when the window that runs it is closed."""
    program = (
        "import os, pty, sys\n"
        "pid, terminal = pty.fork()\n"
        "if pid == 0:\n"
        "    os.execv(sys.executable, [sys.executable, '-m', 'horae', 'dev', '--ephemeral'])\n"
        "seen = b''\n"
        "while b'Runs, as they end' not in seen:\n"
        "    seen += os.read(terminal, 65536)\n"
        "os.close(terminal)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), timeout=100, check=False
    )
    assert ended.returncode == 0


def test_client_commands_take_where_the_engine_is_from_the_file(
    dev, command, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert command("schedule", "list", "--json").document["error"]["code"] == "no_engine"
    (elsewhere / "client.toml").write_text(
        f'nats_url = "{dev.facts["nats_url"]}"\ntenant = "others"\n'
    )
    monkeypatch.setenv("HORAE_CONFIG", "client.toml")
    assert command("schedule", "list", "--json").document["total"] == 0
    monkeypatch.setenv("HORAE_TENANT", "nobody's")
    assert command("schedule", "list", "--json").document["error"]["field"] == "tenant"


def test_config_prints_what_a_file_says_and_names_what_is_no_setting(
    command, tmp_path, monkeypatch
):
    (tmp_path / "horae.toml").write_text("concurrency = 3\n")
    monkeypatch.setenv("HORAE_CONCURENCY", "5")
    said = command("config", "--config", "horae.toml", "--json")
    assert said.document["settings"]["concurrency"] == {
        "variable": "HORAE_CONCURRENCY",
        "value": 3,
        "source": "horae.toml",
        "default": 16,
        "bounds": "1 to 10000",
        "live": True,
    }
    assert said.document["unknown"] == {"HORAE_CONCURENCY": "HORAE_CONCURRENCY"}
    said = command("config", "--config", "horae.toml")
    assert "did you mean HORAE_CONCURRENCY?" in said.err
    assert "horae.toml" in said.out
    assert command("config", "--config", "missing.toml", "--json").code == 1
