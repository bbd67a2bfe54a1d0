"""A file whose lock proves that one process alone has a SQLite store open."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from horae_infrastructure.store.errors import StoreLocked


class LockFile:
    """An exclusive `flock` on `<database>.lock`, held until `release` or the process's end.

    The file stays behind: removing it would let two processes lock two files of one name. The
    descriptor is closed on exec by default (PEP 446) and after a fork by a hook, so that no child
    keeps the lock of a parent that died.

    Raises:
        StoreLocked: somebody else holds it.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).strip()
            self.release()
            raise StoreLocked(str(database), int(holder) if holder.isdigit() else None) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        held = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _let_go(held))

    def release(self) -> None:
        """Let another process have it. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _let_go(held: weakref.ref[LockFile]) -> None:
    lock = held()
    if lock is not None:
        lock.release()
