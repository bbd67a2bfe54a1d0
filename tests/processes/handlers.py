"""Functions for the tests of isolated calls."""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pydantic


class Model(pydantic.BaseModel):
    at: dt.datetime


class Nested:
    @staticmethod
    def method(argument: Any) -> list[Any]:
        return [argument]


def double(argument: dict[str, int]) -> int:
    return 2 * argument["number"]


async def later(argument: str) -> str:
    await asyncio.sleep(0)
    return argument + " later"


def model(_: None) -> dict[str, Any]:
    return {"model": Model(at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))}


def unserialisable(_: None) -> object:
    return object()


def long(argument: int) -> str:
    return "x" * argument


def noisy(argument: str) -> str:
    sys.stdout.write(argument + "\n")
    sys.stdin.read()
    return "said"


def fails(_: None) -> NoReturn:
    raise LookupError("no such thing")


def leaves(_: None) -> NoReturn:
    sys.exit("good bye")


def exits(code: int) -> None:
    os._exit(code)


def kills(_: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(_: None) -> None:
    ctypes.string_at(0)


def spins(path: str) -> None:
    child = subprocess.Popen(["sleep", "96"])
    new = Path(path + ".new")
    new.write_text(f"{os.getpid()} {child.pid}")
    new.rename(path)
    while True:
        time.sleep(0.01)


def who(_: None) -> int:
    return os.getpid()
