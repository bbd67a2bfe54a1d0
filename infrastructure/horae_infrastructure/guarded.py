"""Start a command under a guard of its own, so that nothing of it outlives this process.

`Guarded` is for synchronous callers, `AsyncGuarded` for those on an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

KILLED = int(signal.SIGKILL)  # the wait status of a command whose guard was killed
STRAY_WRITER = 1.0  # seconds to wait for a foreign process that was handed a pipe of the command
GUARD = str(Path(__file__).with_name("guard.py"))


Control = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Stopping = Callable[[Callable[[], object]], object]
"""Is told how a command can be asked to end."""


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
    return [sys.executable, "-I", "-S", "-X", "utf8", GUARD, str(control)]


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


class AsyncGuarded:
    """A command under its guard, on an event loop; made by `start`.

    Attributes:
        pid: the process id of the command.
    """

    def __init__(self, pid: int, guard: asyncio.subprocess.Process, control: Control) -> None:
        self.pid = pid
        self._guard = guard
        self._answers, self._words = control
        self._asked = False

    def ask(self) -> None:
        """Send the order's signal, and leave the command the time that it takes to end.

        When it is stopped after that, it is killed at once.
        """
        self._asked = True
        self._say(b"t")

    def _say(self, word: bytes) -> None:
        if not self._words.is_closing():
            with contextlib.suppress(OSError):  # the guard may be gone already
                self._words.write(word)

    @classmethod
    async def start(
        cls,
        order: Order,
        *,
        stdin: int,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Self:
        """Start a command on open descriptors, which stay the caller's; None shares our own.

        Raises:
            Refused: the command could not be started.
            KeyError: there is no such user.
        """
        line = order.line()
        ours, theirs = socket.socketpair()
        with theirs:
            answers, words = await asyncio.open_connection(sock=ours)
            try:
                guard = await asyncio.create_subprocess_exec(
                    *guard_command(theirs.fileno()),
                    pass_fds=[theirs.fileno(), *pass_fds],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
            except BaseException:
                words.close()
                raise
        try:
            words.write(line)
            answer = json.loads(await answers.readline() or b'{"refused": "guard", "errno": 0}')
        except BaseException:
            words.close()
            await guard.wait()
            raise
        guarded = cls(answer.get("pid", 0), guard, (answers, words))
        if "pid" not in answer:
            await guarded._ended()
            raise Refused(answer["refused"], answer["errno"])
        return guarded

    async def wait(self, timeout: float | None) -> tuple[int, bool]:  # noqa: ASYNC109
        """Wait until nothing of the command is left; stop it after `timeout` seconds.

        Cancelled, it stops the command too, and ends when nothing of it is left.

        Returns:
            The command's wait status, and whether the time ran out.
        """
        ended = asyncio.ensure_future(self._ended())
        try:
            done, _ = await asyncio.wait({ended}, timeout=timeout)
        finally:
            if self._asked and not ended.done():
                self._say(b"k")
            if not self._words.is_closing():
                with contextlib.suppress(OSError):  # the guard may be gone already
                    self._words.write_eof()
            status = await ended
        return status, not done

    async def _ended(self) -> int:
        answer = json.loads(await self._answers.readline() or b"{}")
        await self._guard.wait()
        self._words.close()
        with contextlib.suppress(OSError):  # the order may not have been read
            await self._words.wait_closed()
        return int(answer.get("status", KILLED))


@contextmanager
def input_file(content: bytes) -> Iterator[int]:
    """A descriptor to read the content from, however late, without a writer that waits."""
    descriptor = os.memfd_create("stdin")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class Captured:
    """A pipe whose last bytes are kept, read as long as somebody writes; made by `open`.

    Attributes:
        writing: the end for the command.
        truncated: whether there was more than is kept.
        task: ends when nobody writes any more.
    """

    def __init__(self, reader: asyncio.StreamReader, writing: int, keep: int) -> None:
        self.writing = writing
        self.keep = keep
        self.truncated = False
        self._kept = bytearray()
        self.task = asyncio.ensure_future(self._read(reader))

    @classmethod
    @asynccontextmanager
    async def open(cls, keep: int) -> AsyncIterator[Self]:
        """A pipe that keeps so many bytes; closed at the end, even if somebody still writes."""
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        captured = cls(reader, writing, keep)
        try:
            yield captured
        finally:
            captured.release()
            captured.task.cancel()
            transport.close()

    def release(self) -> None:
        """Close our copy of the writing end, once the command has its own."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def text(self) -> str:
        """What was kept; bytes that are no UTF-8 are replaced."""
        return self._kept.decode(errors="replace")

    def content(self) -> bytes:
        """What was kept."""
        return bytes(self._kept)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(65536):
            self._kept += chunk
            if len(self._kept) > self.keep:
                del self._kept[: -self.keep]
                self.truncated = True
