"""The code and the commands in the README and the tutorial, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    return [code for kind, code in BLOCK.findall((ROOT / document).read_text()) if kind == language]


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HORAE_")}
    return clean | {"HORAE_CLEANUP": "false"} | more


def run(*command, cwd, **env):
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("number", range(2))
def test_python_of_the_readme_runs(number, tmp_path):
    code = blocks("README.md", "python")[number]
    if "async def test_" in code:
        code += "\nimport asyncio\nasyncio.run(test_heartbeat_beats_twice_a_minute())\n"
    (tmp_path / "program.py").write_text(code)
    said = run(sys.executable, "program.py", cwd=tmp_path)
    assert bool(said) == ("print(" in code)


@pytest.fixture
def hello(tmp_path):
    """A folder with the tutorial's files, in which `horae dev hello.py` runs."""
    for code in blocks("docs/tutorial.md", "python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    (tmp_path / "monday.json").write_text(blocks("docs/tutorial.md", "json")[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "horae", "dev", "hello.py", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    yield tmp_path, json.loads(process.stdout.readline())
    process.terminate()
    process.communicate(timeout=100)
    assert process.returncode == 0


SHOWS = {
    "schedule list": "greeting",
    "execution list": "delivery",
    "schedule history": "enough for now",
    "schedule create": "monday-greeting: active",
    "replay": "execution.attempt_failed.v1",
}
"""What commands of the tutorial are there to show."""


def followed(arguments, folder):
    """Give a command, again if the views do not show yet what it is there for."""
    wanted = SHOWS.get(" ".join(arguments[:2]), "")
    deadline = time.monotonic() + 100
    while wanted not in (said := run(sys.executable, "-m", "horae", *arguments, cwd=folder)):
        assert time.monotonic() < deadline, said


def test_tutorial_can_be_followed(hello):
    folder, facts = hello
    run(sys.executable, "test_hello.py", cwd=folder)
    commands = [
        line.removeprefix("$ ")
        for block in blocks("docs/tutorial.md", "console")
        for line in block.splitlines()
    ]
    asked = [shlex.split(line)[1:] for line in commands if line.startswith("horae ")]
    assert {" ".join(each[:2]) for each in asked} > SHOWS.keys()
    for arguments in asked:
        if arguments[0] != "dev":
            followed(arguments, folder)
    made = run(sys.executable, "client.py", cwd=folder, HORAE_NATS_URL=facts["nats_url"])
    assert made.startswith("active ")
    assert "hello engine" in run(sys.executable, "embedded.py", cwd=folder, HORAE_DATA_DIR="other")
