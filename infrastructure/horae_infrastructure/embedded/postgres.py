"""PostgreSQL on a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from horae_infrastructure.embedded.server import (
    EmbeddedServer,
    EmbeddedServerFailed,
    binary,
    connect,
    socket_directory,
)

SOCKET = ".s.PGSQL.5432"
SYSTEM_USER = "embedded_postgres"


class Postgres(EmbeddedServer):
    """A PostgreSQL server without a TCP port; whoever reaches the private socket is `postgres`.

    PostgreSQL refuses to run as root: started by root, it runs as the system user
    `embedded_postgres`, which is created when missing.

    Args:
        data_dir: holds the cluster, which is made on the first start; None for a temporary one.
        settings: further ones of `postgresql.conf`; durability stays as the server has it.
        start_timeout: seconds until it has to answer.
    """

    name = "PostgreSQL"
    package = "embedded-postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        settings: dict[str, str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        super().__init__(data_dir, start_timeout=start_timeout)
        self.settings = {"shared_buffers": "64MB", "max_connections": "100"} | (settings or {})
        self._sockets = socket_directory(self.data_dir, SOCKET)

    @property
    def cluster(self) -> Path:
        """The directory of the database cluster."""
        return self.data_dir / "cluster"

    @property
    def url(self) -> str:
        """A connection string for the database `postgres`."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """A connection string for any database of the server."""
        host = quote(str(self._sockets), safe="")
        return f"postgresql://postgres@/{quote(database)}?host={host}&port=5432"

    def program(self) -> Path:
        """`postgres`."""
        return binary(self.name, self.package, "pginstall/bin/postgres")

    def user(self) -> str | None:
        """Another system user if this process is root."""
        return SYSTEM_USER if os.geteuid() == 0 else None

    def leftovers(self) -> Sequence[Path]:
        """The socket's directory."""
        return [self._sockets]

    def prepare(self) -> Sequence[str]:
        """Make the cluster and the socket's directory, owned by the server's user."""
        if self.user() is not None:
            self._ensure_user()
            self._check_ways()
            os.chmod(self.data_dir, 0o711)  # noqa: PTH101, S103 - the cluster inside is private
        self._own(self._sockets)
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._forget_foreign_pid()
        settings = self.settings | {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._sockets}"',
            "unix_socket_permissions": "0700",
            "port": "5432",
            "max_prepared_transactions": "0",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.program()), "-D", str(self.cluster), *options]

    def answers(self) -> bool:
        """Whether it is ready for a query, past recovery."""
        start = struct.pack("!I", 196_608) + b"user\0postgres\0database\0postgres\0\0"
        with connect(str(self._sockets / SOCKET)) as client:
            client.sendall(struct.pack("!I", len(start) + 4) + start)
            return client.recv(1) == b"R"  # authentication is over; before that an E, error

    def _ensure_user(self) -> None:
        if has_user(SYSTEM_USER):
            return
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            if not has_user(SYSTEM_USER):  # another process may have made it at the same time
                reason = f"the system user {SYSTEM_USER} could not be made"
                raise EmbeddedServerFailed(self.name, reason, [str(error)]) from error

    def _check_ways(self) -> None:
        """The server's user is a stranger: it must be able to enter what leads to its files."""
        for path in (self.data_dir, self.program()):
            for directory in path.parents:
                if not directory.stat().st_mode & stat.S_IXOTH:
                    reason = (
                        f"its user {SYSTEM_USER} may not enter {directory}, on the way to {path}"
                    )
                    raise EmbeddedServerFailed(self.name, reason, [])

    def _own(self, directory: Path) -> None:
        """Make a private directory that belongs to the server's user."""
        directory.mkdir(mode=0o700, exist_ok=True)
        user = self.user()
        if user is not None:
            shutil.chown(directory, user, pwd.getpwnam(user).pw_gid)

    def _make_cluster(self) -> None:
        """Run initdb beside and rename, so that an interrupted one leaves no half of a cluster.

        Under a new name each time: that of a killed process may still be at work for a second.
        """
        for abandoned in self.data_dir.glob("cluster.*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        making = self.data_dir / f"cluster.{os.urandom(4).hex()}"
        self._own(making)
        initdb = self.program().with_name("initdb")
        user = self.user()
        result = subprocess.run(  # noqa: S603 - the wheel's own program
            [initdb, "-D", making, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
            env=self.environment(),
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )
        if result.returncode != 0:
            lines = (result.stdout + result.stderr).splitlines()
            raise EmbeddedServerFailed(self.name, "initdb failed", lines[-20:])
        making.rename(self.cluster)

    def _forget_foreign_pid(self) -> None:
        """Remove a lock file whose process number now belongs to somebody else.

        PostgreSQL refuses to start when the process in its lock file lives, whoever that is; its
        server always stands in the cluster's directory. Shared memory that is still in use is
        found without the file.
        """
        lock = self.cluster / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
            at_home = Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.cluster.resolve()
        except (OSError, ValueError):
            at_home = False
        if not at_home:
            lock.unlink(missing_ok=True)


def has_user(name: str) -> bool:
    """Whether the system knows the user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
