"""Start a command under a guard of its own, so that nothing of it outlives this process."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GUARD = str(Path(__file__).with_name("guard.py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a guard is to run, and how it is to end it.

    Attributes:
        command: program and arguments; the program is looked up in `env`'s PATH.
        env: the whole environment.
        cwd: working directory, entered as the user.
        user: name of the user to become, None to stay.
        limits: bounds by name, `cpu` seconds, `memory` bytes, open `files`; a bound above the
            hard limit of this process becomes that limit.
        stop_signal: sent to the command's group when it is to stop.
        grace: seconds between that signal and SIGKILL.
        lock: descriptor of a locked file, kept for as long as anything of the command lives, so that
            the lock says whether it does; the file gets the command's pid.
        remove: files and directories removed when it has ended.
        discard: removed too, but only when it was told to stop, not when it died by itself.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"
    user: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    grace: float = 3.0
    lock: int | None = None
    remove: Sequence[str] = ()
    discard: Sequence[str] = ()

    def line(self) -> bytes:
        """The order as the guard reads it.

        Raises:
            KeyError: there is no such user.
        """
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields | {"user": identity(self.user)}).encode() + b"\n"


def identity(user: str | None) -> dict[str, Any] | None:
    """The numbers of a user, None for the user that this process already is.

    Raises:
        KeyError: there is no such user.
    """
    if user is None:
        return None
    entry = pwd.getpwnam(user)
    if entry.pw_uid == os.geteuid():
        return None
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": groups}


def guard_command(control: int) -> list[str]:
    """The command line of a guard; isolated from the environment and from site-packages."""
    return [sys.executable, "-I", "-S", GUARD, str(control)]


@dataclass(slots=True)
class Refused(Exception):
    """The guard could not start the command.

    Attributes:
        step: `session`, `user`, `cwd`, `limits` or `exec`; `guard` if the guard itself died.
        errno: the system's number of the error, 0 if it has none.
    """

    step: str
    errno: int

    def __str__(self) -> str:
        """The step and the system's words for the error."""
        return f"{self.step}: {os.strerror(self.errno)}" if self.errno else self.step


class Guarded:
    """A command under its guard, for synchronous callers.

    Args:
        order: what to run.
        output: descriptor that takes the command's standard output and error.

    Raises:
        Refused: the command could not be started.
        KeyError: there is no such user.
    """

    def __init__(self, order: Order, output: int) -> None:
        line = order.line()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._guard = subprocess.Popen(  # noqa: S603 - the guard is ours
                guard_command(theirs.fileno()),
                pass_fds=[theirs.fileno(), *([] if order.lock is None else [order.lock])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._control.sendall(line)
        with self._control.makefile("rb") as answers:
            answer = json.loads(answers.readline() or b'{"refused": "guard", "errno": 0}')
        if "pid" not in answer:
            self.stop()
            raise Refused(answer["refused"], answer["errno"])
        self.pid: int = answer["pid"]

    @property
    def alive(self) -> bool:
        """Whether anything of the command is left."""
        return self._guard.poll() is None

    def stop(self) -> None:
        """Ask the command to end and wait until nothing of it is left; again is a no-op."""
        with contextlib.suppress(OSError):  # the guard may be gone already
            self._control.shutdown(socket.SHUT_WR)
        self._collect()

    def kill(self) -> None:
        """Kill the command with SIGKILL and wait until nothing of it is left."""
        with contextlib.suppress(OSError):  # the guard may be gone already
            self._control.sendall(b"k")
        self._collect()

    def _collect(self) -> None:
        self._guard.wait()
        self._control.close()
