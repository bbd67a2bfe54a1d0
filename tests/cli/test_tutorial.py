"""The code and the commands in the tutorial, run as they stand."""

from __future__ import annotations

import shlex
import sys

import pytest
from documents import blocks, run
from launching import start, stop


@pytest.fixture
def hello(tmp_path):
    """A folder with the tutorial's files, in which `horae dev hello.py` runs."""
    for code in blocks("docs/tutorial.md", "python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    (tmp_path / "monday.json").write_text(blocks("docs/tutorial.md", "json")[0])
    running = start("hello.py", cwd=tmp_path)
    yield tmp_path, running.facts
    assert stop(running) == 0


SHOWS = {
    "schedule list": "greeting",
    "execution list": "delivery",
    "schedule history": "enough for now",
    "schedule create": "monday-greeting: active",
    "replay": "execution.attempt_failed.v1",
}
"""What commands of the tutorial are there to show."""


@pytest.fixture
def followed(command, until):
    """A function that gives a command, again if the views do not show yet what it is there for."""

    def give(arguments):
        wanted = SHOWS.get(" ".join(arguments[:2]), "")

        def shown():
            said = command(*arguments)
            assert said.code == 0, said.err
            return wanted in said.out

        until(shown)

    return give


def test_tutorial_can_be_followed(hello, followed):
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
            followed(arguments)
    made = run(sys.executable, "client.py", cwd=folder, HORAE_NATS_URL=facts["nats_url"])
    assert made.startswith("active ")
    assert "hello engine" in run(sys.executable, "embedded.py", cwd=folder, HORAE_DATA_DIR="other")
