"""Where the log of an engine goes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from horae.cli.logs import configure
from horae_application.log import get_logger

PROGRAM = """
import asyncio
from horae import Context, Horae, once

app = Horae("quiet")

@app.schedule("job", once(after="0s"))
async def job(ctx: Context) -> None:
    ctx.log("said", name="a name", args="a fact")
    done.set()

async def main() -> None:
    global done
    done = asyncio.Event()
    async with Horae("gone").embedded("sqlite:///s.db", data_dir="."):
        pass
    async with app.embedded("sqlite:///s.db", data_dir="."):
        await done.wait()
    from horae_application.log import get_logger
    get_logger("horae.test").warning("something is wrong", how="very")

asyncio.run(main())
"""


def test_embedded_engine_of_a_program_without_logging_is_quiet(tmp_path: Path) -> None:
    """Warnings go to standard error; standard output is the program's own."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == ""
    assert said.stderr == "something is wrong how='very'\n"


def test_program_that_configures_logging_gets_lines_with_facts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="horae"):
        get_logger("horae.test").info("an event", name="a name", count=3)
        get_logger("horae.test").debug("too little")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("horae.test", "INFO")
    assert record.getMessage() == "an event name='a name' count=3"


@pytest.fixture
def root() -> object:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.usefixtures("root")
def test_command_line_writes_events_as_json_with_their_facts_and_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("json:info")
    try:
        int("at the bottom")
    except ValueError:
        get_logger("horae.test").exception("it failed", name="a name")
    logging.getLogger("other").info("from %s", "elsewhere", extra={"fact": 1})
    get_logger("horae.test").debug("too little")
    ours, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], ours["logger"]) == ("it failed", "error", "horae.test")
    assert ours["name"] == "a name"
    assert "at the bottom" in ours["exception"]
    assert ours["timestamp"].endswith("Z")
    assert (other["event"], other["fact"], other["logger"]) == ("from elsewhere", 1, "other")


@pytest.mark.usefixtures("root")
def test_command_line_writes_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("console:warning")
    get_logger("horae.test").warning("an event", name="a name")
    get_logger("horae.test").info("too little")
    (line,) = capsys.readouterr().err.splitlines()
    assert "an event" in line
    assert "name='a name'" in line
    assert "\x1b" not in line
