"""What executions wait for, as the command line shows it."""

from __future__ import annotations

import pytest

from horae.cli.waits import waits_for

NONE = {"next_retry_at": None, "wait": None, "due": "2026-01-05T09:00:00Z"}
UNTIL = "2026-01-05T08:10:00.5Z"


def waits(*types: str, need: int, until: str | None = UNTIL) -> dict[str, object]:
    events = [{"event": each, "match": {}} for each in types]
    return NONE | {"status": "waiting", "wait": {"events": events, "need": need, "until": until}}


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (waits("Paid", need=1), "Paid until 2026-01-05T08:10:00Z"),
        (waits("Paid", need=1, until=None), "Paid"),
        (waits("Paid", "Packed", need=2, until=None), "Paid and Packed"),
        (waits("Paid", "Packed", need=1, until=None), "Paid or Packed"),
        (waits("Paid", "Packed", "Sent", need=2, until=None), "2 of Paid, Packed, Sent"),
        (NONE | {"status": "delayed"}, "its delay until 2026-01-05T09:00:00Z"),
        (
            NONE | {"status": "delayed", "next_retry_at": UNTIL},
            "next attempt at 2026-01-05T08:10:00Z",
        ),
        (NONE | {"status": "pending"}, "a worker"),
        (NONE | {"status": "held"}, "approval"),
        (NONE | {"status": "running"}, None),
        (NONE | {"status": "succeeded"}, None),
    ],
)
def test_wait_is_told_in_a_few_words(run, text):
    assert waits_for(run) == text


def test_wait_is_shown_with_its_execution_and_its_schedule(horae, write, until):
    wait = {"event": "Paid", "match": {"order": "trigger.data.order"}, "timeout": "1 hour"}
    content = {
        "id": "payment",
        "trigger": {"type": "event", "event": "Ordered"},
        "action": {"type": "none"},
        "wait_for": wait | {"fallback": {"type": "function", "name": "echo"}},
    }
    assert horae("schedule", "create", "-f", write(content)).code == 0
    for number in (1, 2):
        horae("event", "publish", "Ordered", "--data", f'{{"order": {number}}}')
    horae("event", "publish", "Paid", "--data", '{"order": 1}', "--id", "paid-1")
    listed = ("execution", "list", "--schedule", "payment", "--status")
    (line,) = until(
        lambda: (t := horae(*listed, "waiting").out.splitlines()[1:]) and len(t) == 1 and t
    )
    assert "  Paid until 20" in line
    text = horae("execution", "show", line.split()[0]).out
    assert "waits for    Paid until 20" in text
    assert 'match        [{"order":2}]' in text
    (paid,) = until(lambda: horae(*listed, "succeeded").out.splitlines()[1:])
    text = horae("execution", "show", paid.split()[0]).out
    assert "confirmed by  paid-1" in text
    assert "waits for" not in text
    text = horae("schedule", "show", "payment").out
    assert "waiting   1" in text
    assert "  Paid until 20" in text
    assert "WAITING" in horae("schedule", "list", "--status", "active").out
    horae("execution", "cancel", line.split()[0])
    horae("schedule", "cancel", "payment")


def test_attempts_are_shown_with_the_stage_that_they_are_of(horae, write, until):
    echo = {"type": "function", "name": "echo"}
    steps = [{"name": "pack", "action": echo}, {"name": "send", "action": echo}]
    content = {"id": "parcel", "trigger": {"type": "manual"}}
    content |= {"action": {"type": "steps", "steps": steps}}
    assert horae("schedule", "create", "-f", write(content)).code == 0
    id_ = horae("schedule", "trigger", "parcel", "--json").document["execution_id"]
    until(lambda: "status       succeeded" in horae("execution", "show", id_).out)
    text = horae("execution", "show", id_).out
    rows = [line.split() for line in text.splitlines() if line.startswith(("TRY", "1 ", "2 "))]
    assert rows[0][:3] == ["TRY", "STAGE", "OUTCOME"]
    assert [row[:3] for row in rows[1:]] == [
        ["1", "-", "succeeded"],
        ["2", "step:send", "succeeded"],
    ]
