"""The file by which client commands find the `horae dev` of a data directory.

It is locked as long as the process lives, so that a file left by a killed one is known as such.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from horae.cli.errors import AlreadyRunning

FILE = "dev.json"


class Presence:
    """This process's hold on a data directory.

    Raises:
        AlreadyRunning: another process has it.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._path = data_dir / FILE
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.read(self._file, 65536)
            os.close(self._file)
            pid = json.loads(content)["pid"] if content else "starting"
            raise AlreadyRunning(
                f"another `horae dev` ({pid}) works in {data_dir}; --data DIR takes another"
            ) from None
        os.ftruncate(self._file, 0)

    def announce(self, facts: dict[str, Any]) -> None:
        """Tell client commands where we are reached."""
        os.pwrite(self._file, json.dumps(facts).encode() + b"\n", 0)

    def close(self) -> None:
        """Be gone."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def running_here(data_dir: Path) -> dict[str, Any] | None:
    """What the `horae dev` of a data directory has announced; None if there is none that lives."""
    try:
        file = os.open(data_dir / FILE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        content = os.read(file, 65536)
        facts: dict[str, Any] | None = json.loads(content) if content else None
        return facts
    else:
        return None  # nobody holds it: left over
    finally:
        os.close(file)
