"""Starting and stopping `horae dev` for the tests of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).parent
APP = f"{HERE / 'desk.py'}:app"


class Dev(NamedTuple):
    process: subprocess.Popen[str]
    facts: dict[str, Any]


class Finished(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


Horae = Callable[..., Finished]


def environment() -> dict[str, str]:
    """This process's environment without settings of Horae, or what xdist says of a terminal."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HORAE_") and name != "COLUMNS"
    }


def start(*options: str, cwd: Path, log: IO[str] | None = None, **env: str) -> Dev:
    """Start `horae dev --json` and wait until it is ready; the log goes to standard error unless told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "horae", "dev", *options, "--json"],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=cwd,
        env=environment() | {"HORAE_LOG": "console:warning", "HORAE_CLEANUP": "false"} | env,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"not ready, exit code {process.wait()}"
    return Dev(process, json.loads(line))


def stop(dev: Dev) -> int:
    """End it in order, and give its exit code."""
    dev.process.terminate()
    code = dev.process.wait(100)
    assert dev.process.stdout is not None
    dev.process.stdout.close()
    return code
