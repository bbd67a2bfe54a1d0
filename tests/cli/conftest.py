"""One `horae dev` for the tests of a file, and the command line run in this process."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer
from launching import APP, Dev, Finished, Horae, environment, start, stop

from horae.app import connect


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """An engine with everything embedded; nothing of it is kept."""
    running = start(APP, "--ephemeral", "--allow-processes", cwd=tmp_path_factory.mktemp("dev"))
    asyncio.run(declared(running.facts["nats_url"]))
    yield running
    assert stop(running) == 0


async def declared(nats_url: str) -> None:
    """Wait for the views, for which a start does not wait for ever."""
    async with asyncio.timeout(100), connect(nats_url) as client:
        while (await client.list_schedules(tags=["often"]))["total"] == 0:
            await asyncio.sleep(0.1)


@pytest.fixture(scope="session", autouse=True)
def built_once() -> Iterator[None]:
    """The tree of commands is made once, and not for every one that a test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Horae]:
    """The command line in this process, in an empty directory, with no settings."""
    from horae.cli.main import run

    for name in list(os.environ):
        if name not in environment():
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level, config = list(root.handlers), root.level, structlog.get_config()

    def call(*arguments: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["horae", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        return Finished(int(ended.value.code or 0), out, err)

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)


@pytest.fixture
def horae(dev: Dev, command: Horae, monkeypatch: pytest.MonkeyPatch) -> Horae:
    """The command line, pointed at the engine that runs."""
    monkeypatch.setenv("HORAE_NATS_URL", dev.facts["nats_url"])
    return command


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Ask again until the answer is true; views follow the log a moment later."""

    def wait(question: Callable[[], Any], limit: float = 100.0) -> Any:
        deadline = time.monotonic() + limit
        while not (answer := question()):
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.02)
        return answer

    return wait


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], str]:
    """Write a file of JSON, or of text, and give its name."""

    def file(content: Any) -> str:
        path = tmp_path / "definition.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return file
