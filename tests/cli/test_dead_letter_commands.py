"""Dead letters, retries by hand and graceful cancels from the command line."""

from __future__ import annotations

import json
import uuid


def dead(horae, write, until) -> str:
    """An execution out of retries."""
    content = {
        "id": f"d-{uuid.uuid4().hex[:8]}",
        "trigger": {"type": "manual"},
        "action": {"type": "function", "name": "broken"},
        "retry": {"max_attempts": 2, "delay": 0},
    }
    assert horae("schedule", "create", "-f", write(content)).code == 0
    id_: str = horae("schedule", "trigger", content["id"], "--json").document["execution_id"]
    until(lambda: shown(horae, id_) == "dead")
    return id_


def shown(horae, id_: str) -> str | None:
    said = horae("execution", "show", id_, "--json")
    return said.document["status"] if said.code == 0 else None


def test_dead_letter_is_listed_and_requeued(horae, write, until):
    id_ = dead(horae, write, until)
    schedule = horae("execution", "show", id_, "--json").document["schedule_id"]
    text = horae("dead-letter", "list", "--schedule", schedule).out
    assert id_ in text
    (row,) = [
        line.split() for line in horae("schedule", "list").out.splitlines() if schedule in line
    ]
    runs, failed, _ = row[-3:]
    assert (runs, failed) == ("1", "1"), "FAILED counts what is dead"
    listed = horae("dead-letter", "list", "--schedule", schedule, "--error", "ValueError", "--json")
    assert [each["id"] for each in listed.document["dead_letters"]] == [id_]
    assert horae("dead-letter", "requeue", id_).out == f"execution {id_}: pending, attempt 3\n"
    until(lambda: len(json_of(horae, id_)["attempts"]) == 4 and shown(horae, id_) == "dead")
    said = horae("dead-letter", "requeue", "--all", "--schedule", schedule)
    assert said.out == "1 tried again, 0 refused, 0 left\n"
    assert horae("dead-letter", "requeue").err.startswith("horae: invalid_field")


def json_of(horae, id_: str) -> dict:
    found: dict = horae("execution", "show", id_, "--json").document
    return found


def test_failed_execution_is_tried_again(horae, until):
    id_ = horae("schedule", "trigger", "broken", "--json").document["execution_id"]
    until(lambda: shown(horae, id_) == "failed")
    assert horae("execution", "retry", id_).out == f"execution {id_}: pending, attempt 2\n"
    until(lambda: len(json_of(horae, id_)["attempts"]) == 2 and shown(horae, id_) == "failed")
    assert horae("execution", "retry", id_, "--json").document["attempt"] == 3


def test_delayed_execution_is_tried_now_and_cancelled_gracefully(horae, until):
    id_ = horae("schedule", "trigger", "patient", "--json").document["execution_id"]
    until(lambda: shown(horae, id_) == "delayed")
    assert horae("execution", "retry", id_).code == 0
    until(lambda: len(json_of(horae, id_)["attempts"]) == 2 and shown(horae, id_) == "delayed")
    said = horae("execution", "cancel", id_, "--graceful", "--grace", "5s")
    assert said.out == f"execution {id_}: cancelled\n"
    assert json.loads(horae("execution", "cancel", id_, "--json").out)["status"] == "cancelled"
