"""The synchronous standby of PostgreSQL takes over: nothing acknowledged is lost, engines go on."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import pytest

from horae import Context, Horae, every, manual
from horae.client import Client
from horae.runtime import Runtime
from horae_application.ports import StoreError
from horae_domain.errors import HoraeError
from horae_domain.positions import parse_position
from horae_infrastructure.embedded import Postgres
from horae_infrastructure.settings import Settings
from horae_infrastructure.store import StoreReplaced, open_store

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(580)]

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "deploy.md"
STANDBY = "postgres_2"


class Pair(NamedTuple):
    """A primary whose commits wait for its standby."""

    primary: Postgres
    standby: Postgres

    @property
    def url(self) -> str:
        """Of the one that takes writes, whichever it is."""
        hosts = ",".join(quote(str(each.leftovers()[0]), safe="") for each in self)
        return f"postgresql://postgres@/postgres?host={hosts}&port=5432&target_session_attrs=read-write"

    def promote(self) -> None:
        """What the guide says of a primary that is lost."""
        statements = re.findall(r"-c '([^']+)'", GUIDE.read_text())
        assert statements[-1] == "SELECT pg_reload_conf()"
        for each in statements[-3:]:
            sql(self.standby, each)


def sql(server: Postgres, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def make_standby(primary: Postgres, folder: Path) -> Postgres:
    """A copy of the primary that follows it."""
    standby = Postgres(folder)
    folder.mkdir()
    if standby.user() is not None:
        folder.chmod(0o711)
    standby._own(standby.cluster)
    source = f"host={primary.leftovers()[0]} user=postgres application_name={STANDBY}"
    copy = [
        primary.program().with_name("pg_basebackup"), "--dbname", source, "--pgdata", standby.cluster,
        "--wal-method=stream", "--write-recovery-conf", "--checkpoint=fast",
    ]  # fmt: skip
    subprocess.run(copy, check=True, user=standby.user(), cwd="/", env=primary.environment())
    return standby.start()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="horae-pair-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Postgres(folder / "primary") as primary:
            standby = make_standby(primary, folder / "standby")
            try:
                sql(primary, f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
                sql(primary, "SELECT pg_reload_conf()")
                follows = "SELECT application_name, sync_state FROM pg_stat_replication"
                while sql(primary, follows) != [(STANDBY, "sync")]:
                    pass
                yield Pair(primary, standby)
            finally:
                standby.stop()


def test_promoted_standby_is_another_store_and_is_written_to_after_one_refusal(pair: Pair) -> None:
    store = open_store(pair.url, data_dir=Path("/unused"))
    before = store.identity
    store.join("me", "", 60)
    pair.primary.kill()
    pair.promote()
    with pytest.raises(StoreReplaced):
        _until_it_answers(store)
    assert store.identity != before
    store.join("me", "", 60)
    store.close()


def _until_it_answers(store: Any) -> None:
    while True:
        try:
            store.join("me", "", 60)
        except StoreReplaced:
            raise
        except StoreError:
            continue
        return


def application(ran: list[str]) -> Horae:
    app = Horae("desk")

    @app.handler("work")
    def work(ctx: Context, payload: Any) -> str:
        ran.append(payload)
        return "done"

    @app.schedule("beat", every("1 second"))
    def beat() -> None:
        """Fires whatever happens."""

    return app


async def test_engine_goes_on_with_the_promoted_standby_and_loses_nothing(
    pair: Pair, tmp_path: Path
) -> None:
    ran: list[str] = []
    told = Settings.read(store_url=pair.url, data_dir=tmp_path)
    async with application(ran).serve(told, roles=("engine", "executor", "views")) as runtime:
        client = runtime.client()
        made = await client.create_schedule("job", manual(), "work", overlap="allow")
        acknowledged: dict[str, str] = {}
        asking = asyncio.create_task(_ask(client, acknowledged))
        await _more(acknowledged, 20)
        pair.primary.kill()
        before = len(acknowledged)
        await asyncio.to_thread(pair.promote)
        await _more(acknowledged, before + 20)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        again = await _again(client)
        first, second = (parse_position(each["position"]) for each in (made, again))
        assert first.store != second.store
        await _done(client, acknowledged, again["position"])
        assert await _fired(runtime, acknowledged) == 1
        beats = await client.get_schedule("beat", min_position=again["position"], wait_ms=60_000)
        assert beats["status"] == "active"
    assert set(acknowledged) <= set(ran)


async def _ask(client: Client, acknowledged: dict[str, str]) -> None:
    """Trigger under one key after another, each until it is answered."""
    number = 0
    while True:
        key = f"k{number}"
        with suppress(HoraeError):
            answer = await client.trigger_schedule("job", key=key, payload=key)
            acknowledged[key] = answer["execution_id"]
            number += 1
        await asyncio.sleep(0.01)


async def _more(acknowledged: dict[str, str], count: int) -> None:
    async with asyncio.timeout(200):
        while len(acknowledged) < count:
            await asyncio.sleep(0.02)


async def _again(client: Client) -> dict[str, Any]:
    """A position of the store that there is now."""
    async with asyncio.timeout(200):
        while True:
            with suppress(HoraeError):
                return await client.pause_schedule("job")
            await asyncio.sleep(0.1)


async def _done(client: Client, acknowledged: dict[str, str], position: str) -> None:
    """Everything that was acknowledged has an outcome, in views that were built anew."""
    async with asyncio.timeout(200):
        for id_ in acknowledged.values():
            while True:
                found = await client.get_execution(id_, min_position=position, wait_ms=60_000)
                if found["status"] == "succeeded":
                    break
                await asyncio.sleep(0.1)


async def _fired(runtime: Runtime, acknowledged: dict[str, str]) -> int:
    """The most decisions that the history has of one of these executions."""
    assert runtime.store is not None
    rows = await asyncio.to_thread(runtime.store.load, list(acknowledged.values()))
    assert rows.keys() == set(acknowledged.values())
    names = [[row.name for row in found] for found in rows.values()]
    return max(each.count("execution.requested.v1") for each in names)
