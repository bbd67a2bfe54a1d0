"""What PostgreSQL's store promises beyond the contract: leases, lost connections, settings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from store_examples import batch, event, new_stream, stream_number

from horae_application.ports import (
    CommitUnknown,
    Fenced,
    LedgerRow,
    StoreError,
    StoreUnavailable,
)
from horae_infrastructure.store import StoreFormat, StoreNotDurable, StoreReplaced, open_store
from horae_infrastructure.store.postgres import PostgresStore

pytestmark = pytest.mark.postgres


@pytest.fixture
def store(schema_url: str) -> Iterator[PostgresStore]:
    opened = PostgresStore(schema_url)
    yield opened
    opened.close()


@pytest.fixture
def admin(schema_url: str) -> Iterator[psycopg.Connection]:
    base, _, schema = schema_url.partition("&schema=")
    with psycopg.connect(base, autocommit=True, options=f"-c search_path={schema}") as connection:
        yield connection


def terminate(admin: psycopg.Connection, schema_url: str) -> int:
    """End every session of the store's schema."""
    schema = schema_url.partition("&schema=")[2]
    ended = 0
    for (pid,) in admin.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s", (schema,)
    ).fetchall():
        [(gone,)] = admin.execute("SELECT pg_terminate_backend(%s, 100000)", (pid,)).fetchall()
        ended += gone
    return ended


def named(schema_url: str) -> str:
    return f"{schema_url}&application_name={schema_url.partition('&schema=')[2]}"


def patiently(read):
    """Sessions end again and again here, those of readers too."""
    while True:
        try:
            return read()
        except StoreUnavailable:
            pass


class TestLeases:
    def test_a_living_owner_keeps_its_partitions(self, store: PostgresStore):
        store.join("a", "", 60)
        store.join("b", "", 60)
        assert store.claim("a", range(4)) == {0: 1, 1: 1, 2: 1, 3: 1}
        assert store.claim("b", range(6)) == {4: 1, 5: 1}
        assert store.claim("b", range(4)) == {}
        assert [o.owner for o in store.ownership()[:6]] == list("aaaabb")

    def test_an_expired_owner_is_taken_over_and_fenced(self, store: PostgresStore):
        store.join("a", "", 60)
        old = store.claim("a", [7])
        store.join("a", "", -1)
        store.join("b", "", 60)
        store.append(batch(event(new_stream()), epochs=old))
        assert store.claim("b", [7]) == {7: 2}
        with pytest.raises(Fenced):
            store.append(batch(event(new_stream()), epochs=old))
        with pytest.raises(Fenced) as refused:
            store.join("a", "", 60)
        assert refused.value.partitions == {7}
        assert [m.owner for m in store.members()] == ["b"]

    def test_an_expired_owner_that_nobody_missed_renews(self, store: PostgresStore):
        store.join("a", "", 60)
        old = store.claim("a", [7])
        store.join("a", "", -1)
        store.join("a", "", 60)
        store.append(batch(event(new_stream()), epochs=old))
        assert store.ownership()[7] == (7, 1, "a")

    def test_who_has_no_lease_is_granted_nothing(self, store: PostgresStore):
        assert store.claim("stranger", [1]) == {}
        store.join("late", "", -1)
        assert store.claim("late", [1]) == {}
        assert store.ownership()[1] == (1, 0, None)

    def test_a_claim_waits_for_the_append_before_it(
        self, store: PostgresStore, schema_url: str, admin: psycopg.Connection
    ):
        store.join("a", "", 60)
        epochs = store.claim("a", [7])
        store.release("a", [7])
        other = PostgresStore(schema_url)
        other.join("b", "", 60)
        with ThreadPoolExecutor(1) as pool:
            with admin.transaction():
                admin.execute("SELECT horae_lock()")
                claiming = pool.submit(other.claim, "b", [7])
                waiting = (
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                )
                while not admin.execute(waiting).fetchall()[0][0]:
                    pass
                assert not claiming.done()
                # what an append does, in the transaction that has the lock
                admin.execute(
                    "SELECT horae_append('{7}', %s, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',"
                    " '{}', '{}', '{}', '{}', '{}', '{}', 0, NULL)",
                    ([epochs[7]],),
                )
            assert claiming.result(100) == {7: 2}
        with pytest.raises(Fenced):
            store.append(batch(event(new_stream()), epochs=epochs))
        other.close()


class TestLostConnections:
    def test_nothing_acknowledged_is_lost_when_sessions_end(
        self, schema_url: str, admin: psycopg.Connection
    ):
        store = PostgresStore(named(schema_url))
        outcomes: dict[str, str] = {}
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                stream = new_stream()
                line = LedgerRow(1, stream, 5, b"")
                try:
                    store.append(batch(event(stream), event(stream, 2), ledger=[line]))
                except CommitUnknown:
                    found = len(patiently(lambda s=stream: store.load([s])).get(stream, ()))
                    assert found == 2 * len(patiently(lambda s=stream: store.lines([s])))
                    outcomes[stream] = "written" if found else "absent"
                except StoreUnavailable:
                    outcomes[stream] = "absent"
                else:
                    outcomes[stream] = "acknowledged"

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            ended = 0
            while ended < 40 and not writing.done():
                ended += terminate(admin, schema_url)
            done.set()
            writing.result(100)
        present = {stream for stream, outcome in outcomes.items() if outcome != "absent"}
        log = []
        while page := store.read(log[-1].position if log else 0, 1000):
            log += page
        assert {e.stream for e in log} == present
        assert len(log) == 2 * len(present)
        assert "acknowledged" in outcomes.values()
        assert set(outcomes.values()) > {"acknowledged"}
        store.close()

    def test_a_session_that_ended_between_appends_is_not_noticed(
        self, schema_url: str, admin: psycopg.Connection
    ):
        store = PostgresStore(named(schema_url))
        first, second = new_stream(), new_stream()
        store.append(batch(event(first)))
        assert set(store.load([first])) == {first}
        assert terminate(admin, schema_url) == 2
        store.append(batch(event(second)))
        assert set(store.load([first, second])) == {first, second}
        store.close()

    def test_waiting_outlives_the_session(self, schema_url: str, admin: psycopg.Connection):
        store = PostgresStore(named(schema_url))
        other = PostgresStore(schema_url)
        with ThreadPoolExecutor(1) as pool:
            woken = pool.submit(store.wait, 0, 60)
            listens = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            schema = schema_url.partition("&schema=")[2]
            while admin.execute(listens, (schema,)).fetchall()[0][0] < 2:
                pass
            terminate(admin, schema_url)
            assert not woken.done()
            other.append(batch(event(new_stream())))
            assert woken.result(100)
        store.close()
        other.close()

    def test_a_server_that_is_not_there_is_unavailable(self):
        with pytest.raises(StoreUnavailable):
            PostgresStore("postgresql:///postgres?host=/nowhere")

    def test_a_replaced_server_is_refused_once(self, schema_url: str, admin: psycopg.Connection):
        store = PostgresStore(named(schema_url))
        before = store.identity
        admin.execute("UPDATE horae_store SET identity = 'restored'")
        terminate(admin, schema_url)
        with pytest.raises(StoreReplaced):
            store.append(batch(event(new_stream())))
        assert store.read(0, 1) == []
        assert store.identity != before
        store.append(batch(event(new_stream())))
        assert len(store.read(0, 2)) == 1
        store.close()

    def test_a_reader_notices_a_replaced_server_and_what_was_decided_before_is_not_written(
        self, schema_url: str, admin: psycopg.Connection
    ):
        store = PostgresStore(named(schema_url))
        before = store.identity
        admin.execute("UPDATE horae_store SET identity = 'restored'")
        terminate(admin, schema_url)
        assert store.read(0, 1) == []
        assert store.identity != before
        with pytest.raises(StoreReplaced):
            store.append(batch(event(new_stream())))
        assert store.read(0, 1) == []
        store.close()

    def test_a_lock_that_is_not_given_is_unavailable(
        self, schema_url: str, admin: psycopg.Connection
    ):
        store = PostgresStore(f"{schema_url}&options=-c%20lock_timeout%3D20ms")
        stream = new_stream()
        with admin.transaction():
            admin.execute("SELECT horae_lock()")
            with pytest.raises(StoreUnavailable):
                store.append(batch(event(stream)))
            assert store.head() == 0
        store.append(batch(event(stream)))
        store.close()

    def test_a_closed_store_is_unavailable(self, schema_url: str):
        store = PostgresStore(schema_url)
        store.close()
        with pytest.raises(StoreUnavailable):
            store.read(0, 1)
        with pytest.raises(StoreUnavailable):
            store.append(batch(event(new_stream())))


class TestOpening:
    def test_settings_that_could_lose_commits_are_refused(self, schema_url: str):
        careless = f"{schema_url}&options=-c%20synchronous_commit%3Doff"
        with pytest.raises(StoreNotDurable) as refused:
            PostgresStore(careless)
        assert (refused.value.setting, refused.value.value) == ("synchronous_commit", "off")
        PostgresStore(careless, allow_unsafe=True).close()

    def test_a_newer_format_is_refused(
        self, store: PostgresStore, schema_url: str, admin: psycopg.Connection
    ):
        admin.execute("UPDATE horae_store SET format = 2")
        with pytest.raises(StoreFormat) as refused:
            PostgresStore(schema_url)
        assert (refused.value.name, refused.value.found) == ("format", 2)

    def test_another_number_of_partitions_is_refused(self, schema_url: str):
        PostgresStore(schema_url, partitions=8).close()
        with pytest.raises(StoreFormat):
            PostgresStore(schema_url)

    def test_processes_that_start_together_make_one_store(self, schema_url: str):
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(PostgresStore, [schema_url] * 4))
        assert len({store.identity for store in stores}) == 1
        for store in stores:
            store.close()

    def test_a_user_without_privileges_can_open_and_write(
        self, store: PostgresStore, schema_url: str, admin: psycopg.Connection
    ):
        schema = schema_url.partition("&schema=")[2]
        role = f"role_{schema}"
        admin.execute(f"CREATE ROLE {role} LOGIN")
        try:
            admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
            admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
            humble = PostgresStore(f"{schema_url}&options=-c%20role%3D{role}")
            assert humble.identity == store.identity
            humble.append(batch(event(new_stream()), ledger=[LedgerRow(0, new_stream(), 1, b"")]))
            humble.close()
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")

    def test_a_schema_needs_a_plain_name(self, postgres_server):
        with pytest.raises(ValueError, match="schema"):
            PostgresStore(f"{postgres_server.url}&schema=a;b")

    def test_a_url_opens_it(self, schema_url: str, tmp_path):
        opened = open_store(schema_url, data_dir=tmp_path)
        assert isinstance(opened, PostgresStore)
        opened.close()


def test_recorded_at_never_goes_back(store: PostgresStore, admin: psycopg.Connection):
    future = store.now() + 3_600_000_000
    store.append(batch(event(new_stream())))
    admin.execute("UPDATE horae_events SET recorded_at = %s", (future,))
    store.append(batch(event(new_stream())))
    assert [e.recorded_at for e in store.read(0, 2)] == [future, future]


def test_text_that_the_server_cannot_hold_is_refused_for_good(store: PostgresStore):
    with pytest.raises(StoreError) as refused:
        store.append(batch(event(new_stream(), name="a\0b")))
    assert not isinstance(refused.value, StoreUnavailable | CommitUnknown)
    store.append(batch(event(new_stream())))


def test_a_large_batch_is_one_commit(store: PostgresStore):
    streams = [stream_number(n) for n in range(5000)]
    positions = store.append(
        batch(
            *(event(stream) for stream in streams),
            ledger=[LedgerRow(0, stream, None, b"") for stream in streams],
        )
    )
    assert list(positions) == list(range(positions[0], positions[0] + 5000))
    assert len({e.recorded_at for e in store.read(0, 5000)}) == 1
