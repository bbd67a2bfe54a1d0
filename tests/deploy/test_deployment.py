"""The deployment of `compose.yaml` with real servers: what its configuration promises holds."""

from __future__ import annotations

import json
import runpy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from local import NODES, ROOT, Deployment, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.timeout(580),
    pytest.mark.no_cover,  # what is killed leaves no measurement
]


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """All servers, and all services of ours."""
    with tempfile.TemporaryDirectory(prefix="horae-deployment-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        runpy.run_path(str(ROOT / "scripts" / "secrets.py"))["main"](folder / "made")
        running = Deployment(folder, folder / "made")
        try:
            for node in NODES:
                running.start_nats(node)
            running.start_valkey()
            running.make_primary()
            running.start_standby()
            until(lambda: synchronous(running))
            for service in ("engine-1", "engine-2", "views", "executor"):
                running.serve(service)
            yield running
        finally:
            running.close()


def synchronous(running: Deployment) -> bool:
    """True while the standby follows under the name that commits wait for."""
    try:
        rows = running.sql(
            "postgres-1", "SELECT application_name, sync_state FROM pg_stat_replication"
        )
    except psycopg.OperationalError:
        return False
    return rows == [("postgres_2", "sync")]


def asked(running: Deployment, *arguments: str) -> Any:
    """The document of a command that is done; None while it is refused."""
    said = running.horae(*arguments, "--json")
    return json.loads(said.stdout) if said.returncode == 0 else None


def runs(running: Deployment) -> int:
    page = asked(running, "execution", "list", "--schedule", "quotes", "--status", "succeeded")
    return page["total"] if page else 0


def test_application_runs_over_all_services(deployment: Deployment) -> None:
    until(lambda: runs(deployment) > 0, 200)
    until(lambda: deployment.horae("health").returncode == 0)


def test_commits_wait_for_the_standby(deployment: Deployment) -> None:
    """What one server has acknowledged the other one has, too."""
    word = (deployment.secrets / "postgres_password").read_text().strip()
    assert word not in (deployment.folder / "engine-1.log").read_text()
    settings = deployment.sql("postgres-1", "SHOW synchronous_standby_names")
    assert settings == [("FIRST 1 (postgres_2)",)]
    deployment.sql("postgres-1", "CREATE TABLE IF NOT EXISTS probe (n int)")
    deployment.stop("postgres-2")
    waiting = Thread(target=deployment.sql, args=("postgres-1", "INSERT INTO probe VALUES (1)"))
    waiting.start()
    waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    until(lambda: deployment.sql("postgres-1", waits) == [(True,)])
    waiting.join(1)
    assert waiting.is_alive()
    deployment.start_standby()
    waiting.join(100)
    assert not waiting.is_alive()
    until(lambda: deployment.sql("postgres-2", "SELECT n FROM probe") == [(1,)])
    until(lambda: synchronous(deployment))


def test_streams_have_three_copies(deployment: Deployment) -> None:
    import asyncio

    import nats

    async def replicas() -> int:
        urls = (deployment.secrets / "nats_url").read_text().strip().split(",")
        client = await nats.connect(urls)
        info = await client.jetstream().stream_info("HORAE_WORK")
        await client.close()
        assert info.cluster is not None
        return 1 + len(info.cluster.replicas or ())

    assert asyncio.run(replicas()) == 3


def test_one_of_each_may_be_lost(deployment: Deployment) -> None:
    deployment.stop("engine-1", kill=True)
    deployment.stop("nats-3", kill=True)
    deployment.stop("valkey", kill=True)
    deployment.start_valkey()
    before = until(lambda: runs(deployment), 200)
    until(lambda: runs(deployment) > before, 200)
    deployment.start_nats("nats-3")
    deployment.serve("engine-1")
