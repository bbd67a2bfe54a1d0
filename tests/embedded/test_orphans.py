"""Nothing of a server outlives the process that started it, however that process ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from horae_infrastructure.embedded import Nats, Postgres, Valkey

PARENT = Path(__file__).parents[1] / "servers.py"
PATIENCE = 60.0
"""Seconds; what is left behind by mistake stays for ever."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that the user of PostgreSQL can reach, which tests' own are not for root."""
    with tempfile.TemporaryDirectory(prefix="horae-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextlib.contextmanager
def parent(directory: Path, how: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, str(PARENT), str(directory), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        report = json.loads(process.stdout.readline())
        try:
            yield process, report
        finally:
            os.kill(report["bystander"], signal.SIGKILL)
            process.kill()
            process.wait()
            shutil.rmtree(report["temporary"], ignore_errors=True)  # if the guard was killed


def descendants(process: subprocess.Popen[str], report: dict[str, Any]) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if child.pid != report["bystander"]]


def running(family: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def remains(family: list[psutil.Process], report: dict[str, Any], directory: Path) -> list[Any]:
    named = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline"])
        if process.pid != report["bystander"]
        and str(directory) in " ".join(process.info["cmdline"] or [])
    ]
    paths = [path for path in [*report["paths"], report["temporary"]] if Path(path).exists()]
    ports = [
        each.laddr for each in psutil.net_connections("tcp") if each.laddr[1] == report["port"]
    ]
    return [*running(family), *named, *paths, *ports]


def assert_gone(family: list[psutil.Process], report: dict[str, Any], directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while remains(family, report, directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert remains(family, report, directory) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_servers_end_with_a_killed_parent(number: int, directory: Path) -> None:
    with parent(directory, "wait") as (process, report):
        family = descendants(process, report)
        assert {child.pid for child in family} >= set(report["pids"])
        assert len(family) > 2 * len(report["pids"])  # guards, and the children of PostgreSQL
        os.kill(process.pid, number)
        process.wait()
        assert_gone(family, report, directory)


def test_servers_end_with_a_parent_that_exits_without_stopping_them(directory: Path) -> None:
    with parent(directory, "exit") as (process, report):
        process.wait()
        family = []
        for pid in report["pids"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                family.append(psutil.Process(pid))
        assert_gone(family, report, directory)


def test_servers_outlive_the_thread_that_started_them(directory: Path) -> None:
    with parent(directory, "thread") as (process, report):
        assert all(psutil.Process(pid).is_running() for pid in report["pids"])
        family = descendants(process, report)
        process.kill()
        process.wait()
        assert_gone(family, report, directory)


def test_servers_end_with_a_killed_guard(directory: Path) -> None:
    with parent(directory, "wait") as (process, report):
        family = descendants(process, report)
        for guard in psutil.Process(process.pid).children():
            if guard.pid != report["bystander"]:
                guard.kill()
        deadline = time.monotonic() + PATIENCE
        while running(family) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running(family) == []


def test_data_of_a_killed_parent_starts_again(directory: Path) -> None:
    with parent(directory, "wait") as (process, report):
        os.kill(process.pid, signal.SIGKILL)
        # At once, while the servers of the dead parent are still ending.
        for kind in (Nats, Valkey, Postgres):
            with kind(directory / kind.__name__) as server:
                assert server.answers()
                assert server.pid not in report["pids"]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_stopping_leaks_no_descriptor_and_no_zombie() -> None:
    def once() -> None:
        server = Valkey().start()
        server.kill()
        server.start()
        server.stop()

    once()
    before = open_descriptors()
    once()
    assert open_descriptors() == before
    children = psutil.Process().children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == []
