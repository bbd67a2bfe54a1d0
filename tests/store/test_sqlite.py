"""What SQLite's store promises beyond the contract: crashes, one process, full disks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from store_examples import batch, event, new_stream

from horae_application.ports import CommitUnknown, StoreUnavailable
from horae_domain.errors import InvalidField
from horae_infrastructure.store import StoreFormat, StoreLocked, StoreNotDurable, open_store
from horae_infrastructure.store.sqlite import SqliteStore
from horae_infrastructure.store.sqlite_log import SqliteLog

PROGRAM = """
import os, resource, sys, uuid
from pathlib import Path
from horae_application.ports import Batch, NewEvent, StoreError
from horae_infrastructure.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
def append():
    stream = str(uuid.uuid4())
    store.append(Batch({}, [NewEvent(stream, 1, "a.v1", b"x" * 500)] * 1, (), ()))
    print(stream, flush=True)
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM + program, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "horae.db"


def test_every_acknowledged_append_survives_kill_9(path: Path):
    with start("while True: append()", path) as child:
        acknowledged = [child.stdout.readline().strip() for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in child.stdout if len(line) == 37]
    store = SqliteStore(path)
    assert set(acknowledged) <= set(store.load(acknowledged))
    assert len(store.read(0, 10_000)) - len(acknowledged) in {0, 1}
    store.append(batch(event(new_stream())))
    store.close()


def test_a_second_process_is_refused_by_name(path: Path):
    with start("append(); input()", path) as child:
        child.stdout.readline()
        with pytest.raises(StoreLocked) as refused:
            SqliteStore(path)
        assert refused.value.pid == child.pid
        child.communicate("\n")
    SqliteStore(path).close()


def test_a_second_store_of_one_process_is_refused(path: Path):
    store = SqliteStore(path)
    with pytest.raises(StoreLocked) as refused:
        SqliteStore(path)
    assert refused.value.pid == os.getpid()
    store.close()
    SqliteStore(path).close()


def test_children_do_not_keep_the_lock_of_a_dead_parent(path: Path):
    program = """
import subprocess
run = subprocess.Popen(["sleep", "600"], close_fds=False, stdout=subprocess.DEVNULL)
ready, tell = os.pipe()
fork = os.fork()
if not fork:
    os.write(tell, b"x")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.read(0, 1)
    os._exit(0)
os.read(ready, 1)
print(run.pid, fork, flush=True)
os._exit(0)
"""
    parent = start(program, path)
    run, fork = map(int, parent.stdout.readline().split())
    try:
        assert parent.wait(100) == 0
        os.kill(fork, 0)
        SqliteStore(path).close()
    finally:
        parent.stdin.close()
        parent.stdout.close()
        os.kill(run, signal.SIGKILL)


def test_a_full_file_is_unavailable_until_there_is_room(path: Path):
    program = """
soft = 300_000
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
try:
    while True: append()
except StoreError as error:
    print(type(error).__name__, flush=True)
print(len(store.read(0, 10_000)), flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
append()
store.close()
"""
    child = start(program, path)
    said = child.communicate(timeout=100)[0].splitlines()
    acknowledged = [line for line in said if len(line) == 36]
    assert child.returncode == 0
    assert [line for line in said if len(line) != 36] == [
        "StoreUnavailable",
        str(len(acknowledged) - 1),
    ]
    store = SqliteStore(path)
    assert [e.stream for e in store.read(0, 10_000)] == acknowledged
    store.close()


def fill(store: SqliteStore, written: list[str]) -> None:
    while True:
        stream = new_stream()
        store.append(batch(event(stream)._replace(state=b"x" * 10_000)))
        written.append(stream)


def test_a_full_disk_is_unavailable_until_there_is_room(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 1_000_000)
        store = SqliteStore(disk / "horae.db")
        written = []
        with pytest.raises(StoreUnavailable, match="full"):
            fill(store, written)
        assert [e.stream for e in store.read(0, 1000)] == written
        ballast.unlink()
        stream = new_stream()
        [position] = store.append(batch(event(stream)))
        assert [e.stream for e in store.read(0, 1000)] == [*written, stream]
        assert position == store.head()
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class BrokenSync:
    """A connection whose commits fail in the sync, before or after the fact."""

    def __init__(self, connection: sqlite3.Connection, *, after: bool) -> None:
        self._connection = connection
        self._after = after

    def __getattr__(self, name: str):
        return getattr(self._connection, name)

    def execute(self, sql: str, *values):
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        if self._after:
            self._connection.execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


@pytest.mark.parametrize("after", [False, True])
def test_a_failed_sync_leaves_the_outcome_unknown_and_readable(path: Path, after: bool):
    store = SqliteStore(path)
    whole = store._writer
    store._writer = BrokenSync(whole, after=after)
    stream = new_stream()
    with pytest.raises(CommitUnknown):
        store.append(batch(event(stream)))
    store._writer = whole
    assert (stream in store.load([stream])) is after
    assert store.wait(0, 0) is after
    version = 2 if after else 1
    [position] = store.append(batch(event(stream, version)))
    assert position == version
    assert store.head() == position
    store.close()


def test_a_locked_database_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horae_infrastructure.store.sqlite_log.BUSY_SECONDS", 0.01)
    store = SqliteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.append(batch(event(new_stream())))
    other.execute("ROLLBACK")
    other.close()
    store.append(batch(event(new_stream())))
    store.close()


def test_a_closed_store_is_unavailable(path: Path):
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StoreUnavailable):
        store.read(0, 1)
    with pytest.raises(StoreUnavailable):
        store.append(batch(event(new_stream())))


def test_readers_do_not_wait_for_the_writer(path: Path):
    store = SqliteStore(path)
    stream = new_stream()
    store.append(batch(event(stream)))
    with store._transaction() as writer:
        writer.execute("DELETE FROM horae_events")
        assert len(store.read(0, 10)) == 1
        assert list(store.load([stream])) == [stream]
        writer.execute("INSERT INTO horae_events SELECT 1, zeroblob(16), 1, 'a', '', 0")
    store.close()


def test_numbers_of_erased_events_are_not_given_again(path: Path):
    store = SqliteStore(path)
    [first] = store.append(batch(event(new_stream())))
    with store._transaction() as writer:
        writer.execute("DELETE FROM horae_events")
    store.close()
    store = SqliteStore(path)
    assert store.head() == first
    assert list(store.append(batch(event(new_stream())))) == [first + 1]
    store.close()


def test_a_newer_format_is_refused(path: Path):
    store = SqliteStore(path)
    with store._transaction() as writer:
        writer.execute("UPDATE horae_store SET format = 2")
    store.close()
    with pytest.raises(StoreFormat) as refused:
        SqliteStore(path)
    assert (refused.value.name, refused.value.found) == ("format", 2)


def test_another_number_of_partitions_is_refused(path: Path):
    SqliteStore(path, partitions=8).close()
    with pytest.raises(StoreFormat) as refused:
        SqliteStore(path)
    assert (refused.value.name, refused.value.found, refused.value.wanted) == ("partitions", 8, 64)
    store = SqliteStore(path, partitions=8)
    assert len(store.ownership()) == 8
    store.close()


class Careless(SqliteStore):
    pragma = "PRAGMA synchronous = NORMAL"

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute(self.pragma)
        return connection


class Journalled(Careless):
    pragma = "PRAGMA journal_mode = DELETE"


@pytest.mark.parametrize(
    ("careless", "setting"), [(Careless, "synchronous"), (Journalled, "journal_mode")]
)
def test_a_store_that_could_lose_commits_is_refused(path: Path, careless, setting: str):
    with pytest.raises(StoreNotDurable) as refused:
        careless(path)
    assert refused.value.setting == setting
    careless(path, allow_unsafe=True).close()


def test_a_file_that_is_no_database_is_refused_and_unlocked(path: Path):
    path.write_bytes(b"not a database" * 100)
    for _ in range(2):
        with pytest.raises(Exception, match="not a database"):
            SqliteStore(path)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite://", "data/horae.db"),
        ("sqlite:///other.db", "data/other.db"),
        ("sqlite:///{tmp}/absolute.db", "absolute.db"),
    ],
)
def test_a_url_names_a_file(tmp_path: Path, url: str, file: str):
    open_store(url.format(tmp=tmp_path), data_dir=tmp_path / "data").close()
    assert (tmp_path / file).exists()


def test_an_unknown_url_is_refused(tmp_path: Path):
    with pytest.raises(InvalidField, match="memory://") as refused:
        open_store("mysql://me:secret@host/db", data_dir=tmp_path)
    assert refused.value.field == "store_url"
    assert refused.value.value == "mysql://", "a password is not shown"
    open_store("memory://", data_dir=tmp_path).close()


def test_room_of_what_was_erased_goes_back_to_the_file_system(tmp_path: Path):
    store = SqliteStore(tmp_path / "horae.db")
    streams = [new_stream() for _ in range(300)]
    big = [event(stream)._replace(state=b"x" * 40_000) for stream in streams]
    store.append(batch(*big))
    store.append(batch(event(new_stream()))._replace(erased=streams))
    store.compact()
    store.close()
    assert (tmp_path / "horae.db").stat().st_size < 6_000_000


def test_the_log_is_followed_beside_the_process_that_writes_it(path: Path):
    program = "append(); input(); append(); input(); store.close()"
    with ExitStack() as stack:
        child = stack.enter_context(start(program, path))
        first = child.stdout.readline().strip()
        log = stack.enter_context(closing(SqliteLog(path)))
        assert log.wait(0, 60)
        assert [each.stream for each in log.read(0, 10)] == [first]
        assert not log.wait(1, 0.01)
        with ThreadPoolExecutor() as pool:
            woken = pool.submit(log.wait, 1, 60)
            print(file=child.stdin, flush=True)
            assert woken.result()
        second = child.stdout.readline().strip()
        assert [each.stream for each in log.read_named(1, 2, ["a.v1"], 10)] == [second]
        assert log.read_named(0, 2, ["b.v1"], 10) == []
        print(file=child.stdin, flush=True)
        assert child.wait(60) == 0
        assert log.head() == 2
        with closing(SqliteStore(path)) as store:
            assert store.identity == log.identity
            store.append(batch(event(new_stream())))
            assert log.head() == 3


def test_a_follower_writes_nothing_and_ends_its_waits_when_closed(path: Path):
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SqliteLog(path)
    SqliteStore(path).close()
    log = SqliteLog(path)
    assert log.head() == 0
    with pytest.raises(StoreUnavailable, match="readonly"):
        log._rows("DELETE FROM horae_events")
    with ThreadPoolExecutor() as pool:
        woken = pool.submit(log.wait, 0, 60)
        log.close()
        assert not woken.result()
    assert not log.wait(0, 60)
