"""Append-only files that several processes write at once; a line is on disk when `note` returns."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


class Journal:
    """One file; lines are JSON objects of less than 4 KB, so that none is torn by another."""

    def __init__(self, path: Path | str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, **fields) -> None:
        """Write one line and sync it."""
        stamps = {
            "wall": time.time(),
            "boot": time.clock_gettime(time.CLOCK_BOOTTIME),
            "pid": os.getpid(),
        }
        os.write(self._fd, json.dumps(fields | stamps).encode() + b"\n")
        os.fsync(self._fd)


def read(path: Path) -> list[dict]:
    """All whole lines; a last one that a kill cut short does not count."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it ends."""
    import ctypes

    ctypes.CDLL(None).prctl(1, 9)
