"""The fault suite in short, and the checker against histories that somebody has tampered with."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.check import check
from tests.faults.journal import Journal, read
from tests.faults.red import PLANTED, plant

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.timeout(1200),  # half a minute where nobody else is at work
    pytest.mark.slow,
    pytest.mark.no_cover,  # what is killed leaves no measurement
]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """What a run of twenty seconds leaves behind, in which everything was killed once."""
    folder = tmp_path_factory.mktemp("faults")
    command = [sys.executable, "-m", "tests.faults", "sqlite", "--kills", "1"]
    command += ["--in-flight", "30", "--slow", "9", "--seed", "7", "--keep", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (folder / "sqlite.json").exists(), done.stdout + done.stderr
    return folder / "sqlite"


@pytest.fixture
def copy(short_run, tmp_path):
    """A copy of it, to tamper with."""
    for name in ("ledger", "intent.log", "faults.log"):
        shutil.copy(short_run / name, tmp_path / name)
    source, target = (sqlite3.connect(each / "horae.db") for each in (short_run, tmp_path))
    source.backup(target)  # with what the write-ahead log still holds
    source.close()
    target.close()
    return tmp_path


def violations(folder, sql="", *values):
    """The kinds of violations after a change of the store."""
    if sql:
        connection = sqlite3.connect(folder / "horae.db")
        with connection:
            assert connection.execute(sql, values).rowcount > 0
        connection.close()
    return check(f"sqlite:///{folder}/horae.db", folder)["violations"]


def without_stamps(note):
    """A note without what a journal adds by itself."""
    return {key: value for key, value in note.items() if key not in {"wall", "boot", "pid"}}


def test_kills_lose_and_repeat_nothing(short_run):
    report = json.loads(short_run.with_suffix(".json").read_text())
    assert report["violations"] == {}
    assert report["kills"].keys() == {"node", "nats", "valkey"}
    assert report["decisions"]["expected"] > 100
    assert report["decisions"]["backfilled"] > 0
    assert any(kind.startswith("planned: ") for kind in report["decisions"])


def test_untouched_copy_is_sound(copy):
    assert violations(copy) == {}


OF_AN_INTERVAL = (
    "topic = 'execution.requested.v1' AND CAST(state AS TEXT) LIKE '%\"kind\":\"interval\"%'"
)


def test_lost_decision_is_seen(copy):
    one = f"(SELECT originator_id FROM horae_events WHERE {OF_AN_INTERVAL} LIMIT 1)"
    found = violations(copy, f"DELETE FROM horae_events WHERE originator_id = {one}")
    assert "lost" in found


def test_lost_run_of_a_backfill_is_seen(copy):
    of_a_backfill = OF_AN_INTERVAL.replace("interval", "backfill")
    one = f"(SELECT originator_id FROM horae_events WHERE {of_a_backfill} LIMIT 1)"
    found = violations(copy, f"DELETE FROM horae_events WHERE originator_id = {one}")
    assert "lost" in found


def test_plan_that_was_not_kept_is_seen(copy):
    found = violations(
        copy,
        "INSERT INTO horae_events (originator_id, originator_version, topic, state, recorded_at)"
        " SELECT randomblob(16), 1, 'schedule.occurrence_moved.v1',"
        " json_remove(json_set(CAST(state AS TEXT), '$.to', '2100-01-01T00:00:00Z'),"
        " '$.execution_id'),"
        " (SELECT max(recorded_at) FROM horae_events)"
        " FROM horae_events WHERE topic = 'execution.requested.v1'"
        ' AND CAST(state AS TEXT) LIKE \'%"schedule_id":"quick-0"%\' LIMIT 1',
    )
    assert "ghost" in found


def test_second_decision_of_an_occurrence_is_seen(copy):
    found = violations(
        copy,
        "INSERT INTO horae_events (originator_id, originator_version, topic, state, recorded_at)"
        " SELECT randomblob(16), 1, topic, state, (SELECT max(recorded_at) FROM horae_events)"
        f" FROM horae_events WHERE {OF_AN_INTERVAL} LIMIT 1",
    )
    assert "dup_fire" in found


def test_second_outcome_is_seen(copy):
    found = violations(
        copy,
        "INSERT INTO horae_events (originator_id, originator_version, topic, state, recorded_at)"
        " SELECT originator_id, originator_version + 1, topic, state,"
        " (SELECT max(recorded_at) FROM horae_events)"
        " FROM horae_events WHERE topic = 'execution.succeeded.v1' LIMIT 1",
    )
    assert "double_outcome" in found


def test_outcome_of_another_lease_is_seen(copy):
    found = violations(
        copy,
        "UPDATE horae_events SET state = replace(CAST(state AS TEXT), '\"attempt\":1', '\"attempt\":2')"
        " WHERE rowid = (SELECT min(rowid) FROM horae_events"
        " WHERE topic = 'execution.succeeded.v1' AND CAST(state AS TEXT) LIKE '%\"attempt\":1%')",
    )
    assert "stale_accept" in found


def test_lost_acknowledged_command_is_seen(copy):
    intents = read(copy / "intent.log")
    said = next(
        each for each in intents if each["op"] == "schedule.trigger" and each["outcome"] == "ok"
    )
    Journal(copy / "intent.log").note(**without_stamps(said) | {"key": "never", "outcome": "ok"})
    assert "acked_lost" in violations(copy)


def test_version_gap_is_seen(copy):
    found = violations(
        copy,
        "UPDATE horae_events SET originator_version = originator_version + 5"
        " WHERE rowid = (SELECT max(rowid) FROM horae_events WHERE originator_version > 1)",
    )
    assert "versions" in found


def test_run_without_a_lease_is_seen(copy):
    said = next(each for each in read(copy / "ledger") if each["what"] == "start")
    Journal(copy / "ledger").note(**without_stamps(said) | {"lease": "7.7"})
    assert "ghost" in violations(copy)


@pytest.mark.parametrize("defect", PLANTED, ids=[each.name for each in PLANTED])
def test_planted_defects_fit_the_source(defect, tmp_path):
    assert plant(defect, ROOT, tmp_path).is_dir()
