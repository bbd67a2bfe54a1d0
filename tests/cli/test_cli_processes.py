"""`horae dev` as a process: it is found, it ends in order, and nothing of it outlives a kill."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from launching import APP, HERE, environment, start, stop

from horae_infrastructure.embedded import Nats


@pytest.fixture
def running(tmp_path):
    """An engine that keeps its data in the test's directory, and that the test may end."""
    dev = start(APP, cwd=tmp_path)
    yield dev
    if dev.process.poll() is None:
        dev.process.kill()
        dev.process.wait()
    dev.process.stdout.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The directory of an engine that goes on, and the engine."""
    directory = tmp_path_factory.mktemp("shared")
    dev = start(APP, cwd=directory)
    yield directory, dev
    assert stop(dev) == 0


@pytest.fixture
def going_on(shared, command, monkeypatch):
    """An engine that no test ends, whose directory this one is."""
    directory, dev = shared
    monkeypatch.chdir(directory)
    return dev


def reachable(url):
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Path(parts.path).exists()
    with socket.socket() as client:
        return client.connect_ex((parts.hostname, parts.port)) == 0


def test_ready_line_tells_where_everything_is(dev):
    assert dev.facts["ready"] is True
    assert dev.facts["pid"] == dev.process.pid
    assert dev.facts["roles"] == ["engine", "executor", "views"]
    assert dev.facts["http_url"] is None
    assert dev.facts["store_url"] == "memory://"
    assert reachable(dev.facts["nats_url"])
    assert reachable(dev.facts["redis_url"])


def test_commands_find_the_engine_of_their_directory_and_replay_its_history(
    going_on, command, until
):
    until(lambda: "succeeded" in command("execution", "list", "--schedule", "tick").out)
    lines = [json.loads(line) for line in command("replay").out.splitlines()]
    names = [line["name"] for line in lines]
    assert "schedule.created.v1" in names
    assert "execution.succeeded.v1" in names
    third = lines[2]
    between = command("replay", "--from", third["position"], "--to", third["position"]).out
    assert json.loads(between) == third
    since = command("replay", "--from", third["recorded_at"]).out.splitlines()
    assert len(since) >= len(lines) - 3
    assert command("replay", "--to", "2020-01-01T00:00:00Z").out == ""


def test_replay_refuses_positions_of_other_stores_and_times_without_zone(going_on, command):
    for bound in ("another.0.1", "2030-01-01T00:00:00", "yesterday"):
        said = command("replay", "--from", bound, "--json")
        assert said.code == 1
        assert said.document["error"]["code"] == "invalid_field"
        assert said.document["error"]["field"] == "--from"


def test_refused_commands_leave_nothing_in_the_log(going_on, command):
    before = command("replay").out
    for line in ("61 * * * *", "nonsense"):
        content = {"id": "x", "trigger": {"type": "cron", "expression": line}}
        Path("x.json").write_text(json.dumps(content | {"action": {"type": "queue", "queue": "q"}}))
        assert command("schedule", "create", "-f", "x.json").code == 1
    assert command("schedule", "trigger", "nobody").code == 1
    said = command("replay").out[len(before) :]
    assert "nobody" not in said
    assert '"x"' not in said


def test_second_engine_in_the_same_directory_is_refused(going_on, command):
    said = command("dev", "--json")
    assert said.code == 1
    assert said.document["error"]["code"] == "already_running"
    assert str(going_on.process.pid) in said.err


def shown(command, id_):
    """What the views know of a schedule, which they may not know yet."""
    said = command("schedule", "show", id_, "--json")
    return said.document if said.code == 0 else {}


def test_schedules_and_counts_survive_a_restart_and_a_stopped_store_is_replayed(
    running, command, until, tmp_path
):
    until(lambda: "succeeded" in command("execution", "list", "--schedule", "tick").out)
    assert command("schedule", "pause", "broken", "--note", "kept").code == 0
    assert stop(running) == 0
    assert command("schedule", "list", "--json").document["error"]["code"] == "no_engine"
    assert "schedule.paused.v1" in command("replay").out
    assert command("replay", "--store", "sqlite:///other.db", "--json").code == 1
    again = start(APP, cwd=tmp_path)
    try:
        until(lambda: shown(command, "broken").get("status") == "paused")
        assert shown(command, "broken")["revision"] == 1
        assert until(lambda: shown(command, "tick"))["statistics"]["fired"] >= 1
    finally:
        assert stop(again) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_ends_in_order(number, running, tmp_path):
    running.process.send_signal(number)
    assert running.process.wait(100) == 0
    assert not reachable(running.facts["nats_url"])
    assert not reachable(running.facts["redis_url"])
    assert not (tmp_path / ".horae" / "dev.json").exists()


def test_running_handler_is_waited_for_and_a_second_signal_ends_at_once(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import asyncio, horae, pathlib\n"
        "app = horae.Horae('slow')\n"
        "@app.schedule('slow', horae.once(after='0s'))\n"
        "async def slow(ctx):\n"
        "    pathlib.Path('began').touch()\n"
        "    await asyncio.sleep(3600)\n"
    )
    dev = start("slow:app", cwd=tmp_path, HORAE_STOP_LIMIT="3600")
    children = psutil.Process(dev.process.pid).children(recursive=True)
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    dev.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        dev.process.wait(1)
    while dev.process.poll() is None:  # one that comes while another is not heard yet is lost
        dev.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            dev.process.wait(10)
    assert dev.process.returncode == 128 + signal.SIGTERM
    assert not psutil.wait_procs(children, timeout=60)[1]
    dev.process.stdout.close()


@pytest.mark.no_cover  # what is killed leaves no measurement
def test_nothing_outlives_a_kill(running):
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) >= 2
    running.process.kill()
    running.process.wait()
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert not reachable(running.facts["nats_url"])
    assert not reachable(running.facts["redis_url"])


@pytest.mark.no_cover  # what is killed leaves no measurement
def test_it_starts_again_where_it_was_killed(running, tmp_path, command, until):
    until(lambda: "succeeded" in command("execution", "list", "--schedule", "tick").out)
    running.process.kill()
    running.process.wait()
    assert command("schedule", "list", "--json").document["error"]["code"] == "no_engine"
    again = start(APP, cwd=tmp_path)
    until(lambda: shown(command, "tick"))
    assert stop(again) == 0


def test_killed_servers_come_back_at_the_same_address(running, command, until):
    killed = set()
    for child in psutil.Process(running.process.pid).children(recursive=True):
        if (name := child.name()) in {"nats-server", "valkey-server"}:
            child.kill()
            killed.add(name)
    assert killed == {"nats-server", "valkey-server"}

    def answers():
        said = command("schedule", "show", "tick", "--json")
        return said.code == 0 and said.document["statistics"]["fired"]

    before = until(answers)
    until(lambda: (answers() or 0) > before)


def test_human_output_names_what_to_try_and_prints_a_line_for_each_run(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "horae", "dev", APP],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    said = ""
    while "succeeded   tick" not in said:
        line = process.stdout.readline()
        assert line
        said += line
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert "schedule trigger tick" in said
    assert "data in .horae" in said
    assert "\x1b" not in said


def test_executor_in_another_process_serves_what_the_engine_s_own_does_not(
    dev, horae, until, tmp_path
):
    (tmp_path / "other.py").write_text(
        "import horae\napp = horae.Horae('other')\n"
        "@app.handler('elsewhere')\nasync def elsewhere(ctx): return 'from elsewhere'\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "horae", "serve", "other.py", "--roles", "executor", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment() | {"HORAE_NATS_URL": dev.facts["nats_url"]},
    )
    assert json.loads(process.stdout.readline())["roles"] == ["executor"]
    action = {"type": "function", "name": "elsewhere"}
    content = {"id": "elsewhere", "trigger": {"type": "manual"}, "action": action}
    (tmp_path / "elsewhere.json").write_text(json.dumps(content))
    until(lambda: horae("schedule", "create", "-f", "elsewhere.json").code == 0)
    id_ = horae("schedule", "trigger", "elsewhere", "--json").document["execution_id"]
    until(lambda: "from elsewhere" in horae("execution", "show", id_).out)
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode == 0


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_log_of_a_served_engine_has_a_secret(form, tmp_path):
    kept = ("--store", "memory", "--redis", "memory://", "--data", str(tmp_path))
    with Nats(token="s3cret") as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "horae", "serve", APP, "--nats", server.url, *form, *kept],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        heard = ""
        while "ready" not in heard:
            line = process.stdout.readline()
            assert line, heard
            heard += line
        process.terminate()
        heard += process.communicate(timeout=100)[0]
    assert process.returncode == 0
    assert "***" in heard
    assert "s3cret" not in heard


def test_help_loads_no_driver_and_no_domain():
    """What `--help` takes is what it imports; the drivers alone would take a second."""
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "horae", "--help"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ).stderr
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in loaded.splitlines()}
    assert "horae" in modules
    heavy = {"horae_domain", "horae_infrastructure", "nats", "psycopg", "pydantic", "redis"}
    assert not modules & (heavy | {"eventsourcing", "opentelemetry", "structlog"})


def test_table_on_a_terminal_fits_it(dev, horae, until):
    """A terminal of 80 columns, which may have colours, has no line that is longer."""
    until(lambda: horae("execution", "list", "--json").document["total"])
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "horae", "execution", "list"],
        stdout=follower,
        cwd=HERE,
        env=environment()
        | {"HORAE_NATS_URL": dev.facts["nats_url"], "COLUMNS": "80", "NO_COLOR": "1"},
    )
    os.close(follower)
    said = b""
    while True:
        try:
            said += os.read(leader, 65536)
        except OSError:
            break
    os.close(leader)
    assert process.wait() == 0
    visible = re.sub(r"\x1b\[[0-9;]*m", "", said.decode())
    lines = [line for line in visible.splitlines() if not line.startswith("--cursor ")]
    assert re.match(r"[0-9a-f-]{36}  ", lines[1])
    assert max(map(len, lines)) <= 80
