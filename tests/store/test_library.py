"""Stock parts of the `eventsourcing` library over Horae's log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import ApplicationRecorder, NotSupportedError, Tracking
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.conninfo import conninfo_to_dict
from store_examples import batch, event, new_stream

from horae_application.ports import EventStore
from horae_infrastructure.store.mapper import LoggedEvent
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.store.postgres import PostgresStore
from horae_infrastructure.store.sqlite import SqliteStore


class Names(POPOTrackingRecorder):
    """A view: what happened, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[UUID, int, str, Any]] = []


class NamesProjection(Projection[Names]):
    name = "names"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        raise NotImplementedError

    @process_event.register
    def _(self, domain_event: LoggedEvent, tracking: Tracking) -> None:
        self.view.insert_tracking(tracking)
        self.view.seen.append(
            (
                domain_event.originator_id,
                domain_event.originator_version,
                domain_event.name,
                domain_event.data,
            )
        )


class SchedulesOnly(NamesProjection):
    name = "names"
    topics = ("schedule.created.v1",)


Log = tuple[EventStore, type[Application[UUID]], dict[str, str]]


def memory_log(_: pytest.FixtureRequest) -> Log:
    store = MemoryStore()

    class MemoryLog(Application[UUID]):
        name = "horae"

        def construct_recorder(self) -> ApplicationRecorder:
            return store.recorder

    topic = "horae_infrastructure.store.mapper:LogMapper"
    return store, MemoryLog, {"MAPPER_TOPIC": topic}


class Stock(Application[UUID]):
    name = "horae"


def sqlite_log(request: pytest.FixtureRequest) -> Log:
    path: Path = request.getfixturevalue("tmp_path") / "horae.db"
    env = {
        "HORAE_PERSISTENCE_MODULE": "horae_infrastructure.store.sqlite",
        "HORAE_SQLITE_DBNAME": str(path),
    }
    return SqliteStore(path), Stock, env


def postgres_log(request: pytest.FixtureRequest) -> Log:
    url: str = request.getfixturevalue("schema_url")
    base, _, schema = url.partition("&schema=")
    place = conninfo_to_dict(base)
    env = {
        "HORAE_PERSISTENCE_MODULE": "horae_infrastructure.store.postgres",
        "POSTGRES_DBNAME": str(place["dbname"]),
        "POSTGRES_HOST": str(place["host"]),
        "POSTGRES_USER": str(place["user"]),
        "POSTGRES_PASSWORD": "",
        "POSTGRES_SCHEMA": schema,
    }
    return PostgresStore(url), Stock, env


@pytest.fixture(
    params=[
        pytest.param(memory_log, id="memory"),
        pytest.param(sqlite_log, id="sqlite"),
        pytest.param(postgres_log, id="postgres", marks=pytest.mark.postgres),
    ]
)
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    make: Callable[[pytest.FixtureRequest], Log] = request.param
    made = make(request)
    yield made
    made[0].close()


def test_a_stock_projection_runs_over_the_log(log: Log):
    store, application, env = log
    stream = new_stream()
    store.append(batch(event(stream, 1, n=1), event(stream, 2, "schedule.paused.v1", n=2)))
    with ProjectionRunner(
        application_class=application, projection_class=NamesProjection, view_class=Names, env=env
    ) as runner:
        [last] = store.append(batch(event(stream, 3, "schedule.resumed.v1", n=3)))
        runner.wait(last, timeout=100)
        assert runner.view.seen == [
            (UUID(stream), 1, "schedule.created.v1", {"n": 1}),
            (UUID(stream), 2, "schedule.paused.v1", {"n": 2}),
            (UUID(stream), 3, "schedule.resumed.v1", {"n": 3}),
        ]


def test_a_stock_projection_chooses_events_by_name(log: Log):
    store, application, env = log
    one, two = new_stream(), new_stream()
    store.append(batch(event(one), event(one, 2, "schedule.paused.v1")))
    [last] = store.append(batch(event(two)))
    with ProjectionRunner(
        application_class=application, projection_class=SchedulesOnly, view_class=Names, env=env
    ) as runner:
        runner.wait(last, timeout=100)
        assert [stream for stream, *_ in runner.view.seen] == [UUID(one), UUID(two)]


def test_stock_readers_go_over_what_was_erased(log: Log):
    store, application, env = log
    gone, kept = new_stream(), new_stream()
    store.append(batch(event(gone), event(kept), event(gone, 2)))
    said = event(new_stream(), name="schedule.history_erased.v1")
    [last] = store.append(batch(said)._replace(erased=[gone]))
    with ProjectionRunner(
        application_class=application, projection_class=NamesProjection, view_class=Names, env=env
    ) as runner:
        runner.wait(last, timeout=100)
        assert [stream for stream, *_ in runner.view.seen] == [UUID(kept), UUID(said.stream)]
    with application(env) as app:
        assert [n.id for n in app.notification_log["1,10"].items] == [2, 4]
        assert list(app.events.get(UUID(gone))) == []


def test_a_stock_application_reads_the_notification_log_and_streams(log: Log):
    store, application, env = log
    stream = new_stream()
    store.append(batch(*(event(stream, v, n=v) for v in range(1, 13))))
    with application(env) as app:
        section = app.notification_log["1,10"]
        assert [n.id for n in section.items] == [e.position for e in store.read(0, 10)]
        assert {n.topic for n in section.items} == {"schedule.created.v1"}
        later = app.notification_log.select(start=10, limit=10, inclusive_of_start=False)
        assert [n.originator_version for n in later] == [11, 12]
        assert app.recorder.max_notification_id() == store.head()
        some = app.events.get(UUID(stream), gt=2, lte=5)
        assert [(e.originator_id, e.data) for e in some] == [
            (UUID(stream), {"n": n}) for n in (3, 4, 5)
        ]
        assert [e.originator_version for e in app.events.get(UUID(stream), desc=True, limit=2)] == [
            12,
            11,
        ]


def test_a_stock_application_cannot_write_past_the_owners(log: Log):
    store, application, env = log
    with application(env) as app, pytest.raises(NotSupportedError):
        app.events.put([LoggedEvent(UUID(new_stream()), 1, "schedule.created.v1", {})])
    assert store.head() == 0
