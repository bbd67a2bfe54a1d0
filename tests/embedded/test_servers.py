"""The embedded servers start, survive crashes and stop."""

from __future__ import annotations

import os
import signal
import socket
import stat
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import nats
import psycopg
import pytest
import redis

from horae_infrastructure.embedded import (
    EmbeddedServer,
    EmbeddedServerFailed,
    EmbeddedServerMissing,
    Nats,
    Postgres,
    Valkey,
)
from horae_infrastructure.embedded import server as server_module

KINDS = [Nats, Valkey, Postgres]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@every_kind
def test_temporary_server_takes_its_directory_with_it(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        assert server.alive
        assert server.answers()
        directory, pid = server.data_dir, server.pid
        assert (directory / "server.pid").read_text() == f"{pid}\n"
    assert not directory.exists()
    assert not server.alive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@every_kind
def test_starting_a_running_server_changes_nothing(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        pid = server.pid
        assert server.start().pid == pid


@every_kind
def test_killed_server_comes_back_at_the_same_url(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        url, pid = server.url, server.pid
        server.kill()
        assert not server.alive
        server.start()
        assert server.url == url
        assert server.pid != pid
        assert server.answers()


@every_kind
def test_server_killed_behind_our_back_comes_back(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        url, pid = server.url, server.pid
        os.kill(pid, signal.SIGKILL)
        server.start()
        assert server.url == url
        assert server.pid != pid


def test_second_server_on_the_same_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LOCK_PATIENCE", 0.1)
    with Valkey() as first:
        second = Valkey(first.data_dir)
        with pytest.raises(EmbeddedServerFailed, match=f"in use by the server {first.pid}"):
            second.start()
        second.stop()
        assert first.answers()


@every_kind
def test_missing_wheel_names_the_extra(
    kind: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_installed(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(server_module, "files", not_installed)
    with pytest.raises(EmbeddedServerMissing, match=r"horae\[embedded\]"):
        kind(tmp_path / "data").start()


async def test_jetstream_keeps_messages_over_a_crash() -> None:
    with Nats() as server:
        client = await nats.connect(server.url)
        stream = client.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", b"one")
        await client.close()
        server.kill()
        server.start()
        client = await nats.connect(server.url)
        assert (await client.jetstream().get_msg("KEPT", 1)).data == b"one"
        await client.close()


async def test_nats_takes_messages_of_sixteen_mebibytes(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    assert client.max_payload == 16 * 1024 * 1024
    await client.close()


def said_to_a_stranger(server: Nats) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        heard = b""
        while chunk := stranger.recv(4096):
            heard += chunk
    return heard


async def test_nats_with_a_token_refuses_strangers() -> None:
    with Nats(token="secret") as server:
        client = await nats.connect(server.url)
        await client.close()
        heard = b"Authentication Timeout"
        while b"Authentication Timeout" in heard:  # it was not in time to say who it is
            heard = said_to_a_stranger(server)
        assert b"Authorization Violation" in heard
        assert stat.S_IMODE((server.data_dir / "nats.conf").stat().st_mode) == 0o600


def test_nats_listens_on_loopback_only(nats_server: Nats) -> None:
    hexed = f":{nats_server.port:04X} "
    lines = [line for line in Path("/proc/net/tcp").read_text().splitlines() if hexed in line]
    assert any("0100007F" + hexed in line for line in lines)
    assert not [
        line
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text().splitlines()
        if f"00000000{hexed}" in line
    ]


def test_nats_tries_another_port_when_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from horae_infrastructure.embedded import nats as module

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], *(module.free_port() for _ in range(4))]
        monkeypatch.setattr(module, "free_port", ports.copy().__iter__().__next__)
        with Nats() as server:
            assert server.port in ports[1:]


def test_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Nats(tmp_path / "data", port=taken.getsockname()[1])
        with pytest.raises(EmbeddedServerFailed, match="address already in use") as caught:
            server.start()
    assert caught.value.details["log"]
    assert not server.alive


def test_valkey_keeps_data_only_if_asked_to(tmp_path: Path) -> None:
    for append_only in (True, False):
        with Valkey(tmp_path / str(append_only), append_only=append_only) as server:
            with redis.Redis.from_url(server.url) as client:
                client.set("key", "value")
                assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
                assert client.config_get("port")["port"] == "0"
            server.stop()
            server.start()
            with redis.Redis.from_url(server.url) as client:
                assert client.get("key") == (b"value" if append_only else None)


def test_socket_of_a_deep_directory_moves_to_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30) / "data"
    with Valkey(deep) as server:
        assert not server.socket.is_relative_to(deep)
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert server.answers()
    assert not server.socket.parent.exists()


def test_postgres_keeps_rows_over_a_crash_and_is_durable() -> None:
    with Postgres() as server:
        with psycopg.connect(server.url) as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        server.kill()
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (1,)


def test_postgres_socket_is_private(postgres_server: Postgres) -> None:
    directory = postgres_server.data_dir / "run"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(postgres_server.cluster.stat().st_mode) == 0o700


def test_postgres_starts_beside_a_pid_file_of_a_foreign_process() -> None:
    with Postgres() as server:
        server.kill()
        lock = server.cluster / "postmaster.pid"
        lines = lock.read_text().split("\n")
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]))
        (server.data_dir / "server.pid").write_text(f"{os.getpid()}\n")
        server.start()
        assert server.answers()


def test_interrupted_initdb_is_done_again() -> None:
    server = Postgres()
    server.data_dir.mkdir()
    (server.data_dir / "cluster.new").mkdir()
    (server.data_dir / "cluster.new" / "half").touch()
    with server:
        assert server.answers()
        assert not (server.data_dir / "cluster.new").exists()


def test_every_test_gets_a_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone() == (0,)


def test_every_test_gets_an_empty_valkey(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
def test_postgres_of_root_says_which_directory_is_closed_to_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedServerFailed, match=f"may not enter {tmp_path}"):
        Postgres(tmp_path / "data").start()
