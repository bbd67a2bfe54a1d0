"""The services of `compose.yaml` as processes of this machine: their commands, files and variables,
with this machine's addresses and directories in place of a container's."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import redis
import yaml

from horae_infrastructure.embedded import Nats, Postgres, Valkey
from horae_infrastructure.embedded.nats import free_port
from horae_infrastructure.embedded.postgres import SYSTEM_USER

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
NODES = ("nats-1", "nats-2", "nats-3")


def until(question: Callable[[], Any], limit: float = 100.0) -> Any:
    """Ask again until the answer is true."""
    deadline = time.monotonic() + limit
    while not (answer := question()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return answer


class Deployment:
    """Processes by the names of their services.

    Args:
        folder: everything is below it; the user of PostgreSQL can enter it.
        secrets: as the script has made them.
    """

    def __init__(self, folder: Path, secrets: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in (*NODES, "postgres-1", "postgres-2", "valkey")}
        self.routes = {name: free_port() for name in NODES}
        self.secrets = folder / "run" / "secrets"
        self.secrets.mkdir(parents=True)
        for each in secrets.iterdir():
            (self.secrets / each.name).write_text(self.placed(each.read_text()))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def placed(self, text: str) -> str:
        """Text with the addresses and directories of this machine."""
        for name, port in self.routes.items():
            text = text.replace(f"{name}:6222", f"127.0.0.1:{port}")
        for name, port in self.ports.items():
            text = re.sub(rf"{name}:\d+", f"127.0.0.1:{port}", text)
        return text.replace("/run/secrets", str(self.secrets)).replace(
            f"../..{self.secrets}", "../../run/secrets"
        )

    def config(self, service: str, source: str) -> Path:
        """A configuration file of a service."""
        (found,) = (each for each in SERVICES[service]["configs"] if each["source"] == source)
        path = self.folder / service / found["target"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        original = ROOT / COMPOSE["configs"][source]["file"]
        path.write_text(self.placed(original.read_text()))
        path.chmod(original.stat().st_mode)
        return path

    def start(self, name: str, command: list[Any], *, user: str | None = None, **env: str) -> None:
        """Run a process; what it says goes to a file."""
        kept = {key: each for key, each in os.environ.items() if not key.startswith("HORAE_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT if name not in self.ports else "/",
                env=kept | env,
                user=user,
            )

    def stop(self, name: str, *, kill: bool = False) -> int:
        """End a process."""
        process = self.processes.pop(name)
        # As the image of PostgreSQL is stopped: sessions end, too.
        orderly = signal.SIGINT if name.startswith("postgres") else signal.SIGTERM
        process.send_signal(signal.SIGKILL if kill else orderly)
        return process.wait(100)

    def close(self) -> None:
        """End all of them."""
        for name in list(self.processes):
            self.stop(name, kill=not name.startswith("postgres"))

    # --- NATS and Valkey --------------------------------------------------------------------------

    def start_nats(self, name: str) -> None:
        path = self.config(name, "nats")
        text = path.read_text().replace("/data", str(self.folder / name / "data"))
        text = text.replace("port: 4222", f"listen: 127.0.0.1:{self.ports[name]}")
        text = text.replace("port: 6222", f"listen: 127.0.0.1:{self.routes[name]}")
        path.write_text(text.replace("http: 127.0.0.1:8222\n", ""))
        shared = self.folder / name / "run"
        if not shared.exists():
            shared.symlink_to(self.folder / "run")
        option, given = SERVICES[name]["command"]
        assert given == "/etc/nats/nats.conf"
        environment = SERVICES[name]["environment"]
        checked = subprocess.run(
            [Nats().program(), "-t", option, path],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        self.start(name, [Nats().program(), option, path], **environment)

    def start_valkey(self) -> redis.Redis:
        path = self.config("valkey", "valkey")
        _, given = SERVICES["valkey"]["command"]
        assert given == "/etc/valkey/valkey.conf"
        port = self.ports["valkey"]
        options = ["--port", port, "--bind", "127.0.0.1", "--dir", self.folder]
        self.start("valkey", [Valkey().program(), path, *options])
        client: Any = redis.Redis.from_url((self.secrets / "redis_url").read_text().strip())

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        until(answers)
        return client

    # --- PostgreSQL -------------------------------------------------------------------------------

    @property
    def postgres_user(self) -> str | None:
        return SYSTEM_USER if os.geteuid() == 0 else None

    def server(self, name: str) -> list[Any]:
        """The command of a server, with this machine's addresses after its own."""
        program, *settings = SERVICES[name]["command"]
        assert program == "postgres"
        hba = self.config(name, "pg_hba")
        return [
            *[each.replace("/etc/postgresql/pg_hba.conf", str(hba)) for each in settings],
            f"--port={self.ports[name]}",
            f"--unix_socket_directories={self.directory(name)}",
        ]

    def directory(self, name: str) -> Path:
        """Of a cluster's data and socket."""
        path = self.folder / name / "data"
        if not path.exists():
            path.mkdir(parents=True, mode=0o700)
            if self.postgres_user is not None:
                shutil.chown(path, self.postgres_user, pwd.getpwnam(self.postgres_user).pw_gid)
        return path

    def make_primary(self) -> None:
        """What the entry point of the official image does with a new volume, then the start."""
        if self.postgres_user is not None:
            Postgres()._ensure_user()
        programs = Postgres().program().parent
        told = SERVICES["postgres-1"]["environment"]
        user, database = told["POSTGRES_USER"], told["POSTGRES_DB"]
        word = self.placed(told["POSTGRES_PASSWORD_FILE"])
        data = self.directory("postgres-1") / "pg"
        as_user: dict[str, Any] = {"user": self.postgres_user, "cwd": "/"}
        initdb = [programs / "initdb", "-D", data, "-U", user, f"--pwfile={word}"]
        subprocess.run(initdb, check=True, **as_user)
        own = {"PGPASSWORD": Path(word).read_text().strip(), "PGDATA": str(data)}
        command = [programs / "postgres", *self.server("postgres-1"), "--listen_addresses="]
        self.start("postgres-1", command, user=self.postgres_user, **own)
        psql = [programs / "psql", "-v", "ON_ERROR_STOP=1", "--no-psqlrc", f"--username={user}"]
        psql += ["-h", self.directory("postgres-1"), "-p", str(self.ports["postgres-1"])]
        environment: dict[str, Any] = {"env": os.environ | own, **as_user}
        ready = [programs / "pg_isready", "--quiet", *psql[5:]]
        until(lambda: subprocess.run(ready, check=False).returncode == 0)
        create = [*psql, "-d", "postgres", "-c", f"CREATE DATABASE {database}"]
        subprocess.run(create, check=True, **environment)
        script = self.config("postgres-1", "primary")
        subprocess.run([*psql, "-d", database, "-f", script], check=True, **environment)
        assert self.stop("postgres-1") == 0
        self.start_primary()

    def start_primary(self) -> None:
        data = self.directory("postgres-1") / "pg"
        program = Postgres().program()
        command = [program, *self.server("postgres-1"), "--listen_addresses=127.0.0.1"]
        self.start("postgres-1", command, user=self.postgres_user, PGDATA=str(data))
        until(lambda: self.accepts("postgres-1"))

    def start_standby(self) -> None:
        """Its own entry point, with one of the image's that runs what it is given."""
        (entrypoint,) = SERVICES["postgres-2"]["entrypoint"]
        script = self.config("postgres-2", "standby")
        assert script.match(f"*{entrypoint}")
        image = self.folder / "image" / "docker-entrypoint.sh"
        image.parent.mkdir(exist_ok=True)
        image.write_text('#!/bin/sh\nexec "$@"\n')
        image.chmod(0o755)
        path = f"{image.parent}:{Postgres().program().parent}:{os.environ['PATH']}"
        environment = SERVICES["postgres-2"]["environment"] | {
            "PGDATA": str(self.directory("postgres-2") / "pg"),
            "PATH": path,
            "PRIMARY_HOST": "127.0.0.1",
            "PRIMARY_PORT": str(self.ports["postgres-1"]),
        }
        command = [script, "postgres", *self.server("postgres-2"), "--listen_addresses=127.0.0.1"]
        self.start("postgres-2", command, user=self.postgres_user, **environment)

    def accepts(self, name: str) -> bool:
        """Whether a server takes connections by now."""
        try:
            self.sql(name, "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def sql(self, name: str, *statements: str) -> Any:
        """Run statements on one server; the last one's rows."""
        word = (self.secrets / "postgres_password").read_text().strip()
        url = f"postgresql://horae:{word}@127.0.0.1:{self.ports[name]}/horae"
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            for each in statements:
                cursor = connection.execute(each)
            return cursor.fetchall() if cursor.description else None

    # --- Horae ------------------------------------------------------------------------------------

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a service of ours."""
        told = {key: self.placed(each) for key, each in SERVICES[name]["environment"].items()}
        data = self.folder / name
        return told | {"HORAE_DATA_DIR": str(data / "data"), "DESK_DIR": str(data / "desk")}

    def serve(self, name: str) -> None:
        """Run a service of ours."""
        command = [sys.executable, "-m", "horae", *SERVICES[name]["command"]]
        self.start(name, command, **self.environment(name))

    def horae(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A client command, as one would run it inside the service `views`."""
        kept = {key: each for key, each in os.environ.items() if not key.startswith("HORAE_")}
        return subprocess.run(
            [sys.executable, "-m", "horae", *arguments],
            capture_output=True,
            text=True,
            env=kept | self.environment("views"),
            timeout=100,
            check=False,
        )
