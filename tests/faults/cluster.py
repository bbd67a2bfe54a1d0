"""The processes of one run: embedded servers, nodes of the system under test, a foreign worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from horae_infrastructure.embedded import Nats, Postgres, Valkey

HERE = Path(__file__).parent
LAYERS = ("", "domain", "application", "infrastructure", "projections", "workers")


class Process:
    """A child that is killed and started again under the same name."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._env = env
        self._log = log
        self._child: subprocess.Popen | None = None
        self.pids: list[int] = []

    @property
    def pid(self) -> int:
        return self.pids[-1]

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, patience: float = 180) -> None:
        """Start it and wait for its word; one that gives up is started again, as a supervisor would."""
        deadline = time.monotonic() + patience
        while True:
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    self._command, env=self._env, stdout=subprocess.PIPE, stderr=log
                )
            self.pids.append(self._child.pid)
            if self._child.stdout.readline() == b"ready\n":
                return
            self._child.wait()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start, see {self._log}")
            time.sleep(0.3)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def stop(self, patience: float = 120) -> int:
        """End it in order; its exit code."""
        if not self.alive:
            return self._child.returncode if self._child else 0
        self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9


class Cluster:
    """Servers and nodes in a directory of their own.

    Args:
        folder: for data, logs and journals.
        store: `sqlite` or `postgres`.
        nodes: roles by the name of the node.
        source: the tree whose code is run.
        program: of the nodes.
        settings: further ones of the nodes, by their names in the environment.
        worker: whether a foreign worker serves a queue.
    """

    def __init__(
        self,
        folder: Path,
        store: str,
        nodes: dict[str, str],
        source: Path,
        *,
        program: Path = HERE / "node.py",
        settings: dict[str, str] | None = None,
        worker: bool = True,
    ) -> None:
        self.folder = folder
        self._program = program
        self._settings = settings or {}
        self._worker = worker
        self.store = store
        self.source = source
        folder.mkdir(parents=True)
        self.ledger = folder / "ledger"
        self.intents = folder / "intent.log"
        self.nats = Nats(folder / "nats")
        self.valkey = Valkey(folder / "valkey")
        self.postgres = Postgres(folder / "postgres") if store == "postgres" else None
        self._nodes = nodes
        self.processes: dict[str, Process] = {}

    @property
    def servers(self) -> dict[str, Nats | Valkey | Postgres]:
        named = {"nats": self.nats, "valkey": self.valkey}
        return named | ({"postgres": self.postgres} if self.postgres else {})

    @property
    def store_url(self) -> str:
        if self.postgres is not None:
            return self.postgres.url
        return f"sqlite:///{self.folder}/horae.db"

    def start(self) -> None:
        for server in self.servers.values():
            server.start()
        self._prepare_store()
        for name, roles in self._nodes.items():
            self.processes[name] = self._node(name, roles)
        if self._worker:
            self.processes["worker"] = Process(
                "worker",
                [sys.executable, str(HERE / "worker.py"), self.nats.url],
                self._environment("worker"),
                self.folder / "worker.log",
            )
        for process in self.processes.values():
            process.start()

    def stop(self) -> dict[str, int]:
        """End all in order; the exit codes of the nodes."""
        codes = {name: each.stop() for name, each in self.processes.items() if name != "worker"}
        if "worker" in self.processes and self.processes["worker"].alive:
            self.processes["worker"].kill()
        return codes

    def close(self) -> None:
        """Leave nothing running."""
        for process in self.processes.values():
            if process.alive:
                process.kill()
        for server in self.servers.values():
            server.stop()

    def _prepare_store(self) -> None:
        """Make the tables, and on PostgreSQL let a trigger note who commits for whom."""
        code = (
            "from horae_infrastructure.store import open_store; from pathlib import Path; import sys;"
            "open_store(sys.argv[1], data_dir=Path(sys.argv[2])).close()"
        )
        subprocess.run(
            [sys.executable, "-c", code, self._node_url(""), str(self.folder)],
            env=self._environment("prepare"),
            check=True,
        )
        if self.postgres is not None:
            import psycopg

            with psycopg.connect(self.postgres.url, autocommit=True) as connection:
                connection.execute((HERE / "witness.sql").read_text())

    def _node_url(self, name: str) -> str:
        if self.postgres is not None:
            return f"{self.postgres.url}&application_name={name or 'prepare'}"
        return f"sqlite:///{self.folder}/horae.db"

    def _node(self, name: str, roles: str) -> Process:
        command = [sys.executable, str(self._program), roles]
        return Process(name, command, self._environment(name), self.folder / f"{name}.log")

    def _environment(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HORAE_")}
        return kept | {
            "PYTHONPATH": os.pathsep.join(str(self.source / layer) for layer in LAYERS),
            "HORAE_STORE_URL": self._node_url(name),
            "HORAE_NATS_URL": self.nats.url,
            "HORAE_REDIS_URL": self.valkey.url,
            "HORAE_DATA_DIR": str(self.folder),
            "HORAE_CONCURRENCY": "600",
            "HORAE_STOP_LIMIT": "10",
            "FAULTS_LEDGER": str(self.ledger),
            "FAULTS_INTENTS": str(self.intents),
            **self._settings,
        }
