"""Scheduled commands as they are answered, event by event."""

from __future__ import annotations

import pytest
from desk import NOW, Desk, at, attempt_failed, created, execution_id, requested, started, succeeded

from horae_domain.errors import CommandNotFound, InvalidField
from horae_domain.events import (
    CommandScheduled,
    ExecutionCancelled,
    OccurrencesDecided,
    ScheduleCancelled,
    ScheduleCompleted,
    SchedulePaused,
    ScheduleQuarantined,
)
from horae_infrastructure.views.memory import MemoryViews
from horae_projections.definitions import pack_command, unpack_definition


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def scheduled(id_: str = "a", **told) -> CommandScheduled:
    asked = {"command": "SendReminder", "data": {"order": 1}, "due": at(60)}
    return CommandScheduled(at=NOW, schedule_id=id_, **(asked | told))


def fired(**told) -> list:
    run = requested(1, kind="once", next_due=None, **told)
    return [run, ScheduleCompleted(at=at(60), schedule_id="a", reason="exhausted")]


async def command(desk: Desk) -> dict:
    return await desk.ask("command.get", id="a")


async def test_waiting_command_is_answered_whole(desk: Desk):
    await desk.tell(scheduled(metadata={"team": "mail"}, correlation_id="corr-1", actor="ann"))
    answer = await command(desk)
    assert answer.pop("position")
    assert answer == {
        "ok": True,
        "id": "a",
        "tenant": "default",
        "command": "SendReminder",
        "data": {"order": 1},
        "execute_at": "2026-01-01T00:01:00Z",
        "status": "scheduled",
        "metadata": {"team": "mail"},
        "result": None,
        "error": None,
        "correlation_id": "corr-1",
        "scheduled_at": "2026-01-01T00:00:00Z",
        "scheduled_by": "ann",
        "execution_id": None,
        "attempts": 0,
        "finished_at": None,
    }


async def test_command_is_a_schedule_with_its_definition(desk: Desk):
    await desk.tell(scheduled(due=None, after="1m", policies={"priority": "high"}))
    answer = await desk.ask("schedule.get", id="a")
    assert answer["trigger"] == {"type": "once", "at": None, "after": "1m", "allow_past": True}
    assert answer["action"]["name"] == "command:SendReminder"
    assert answer["priority"] == "high"
    assert answer["next"] == ["2026-01-01T00:01:00Z"]
    assert (await command(desk))["data"] == {"order": 1}


async def test_status_is_that_of_the_execution_once_there_is_one(desk: Desk):
    await desk.tell(scheduled(), *fired())
    assert (await command(desk))["status"] == "pending"
    await desk.tell(started())
    answer = await command(desk)
    assert (answer["status"], answer["attempts"]) == ("running", 1)
    assert answer["execution_id"] == execution_id(1)
    await desk.tell(attempt_failed(retry_at=at(90)))
    answer = await command(desk)
    assert (answer["status"], answer["error"]["message"]) == ("delayed", "no")
    await desk.tell(started(attempt=2), succeeded(attempt=2, result={"sent": True}))
    answer = await command(desk)
    assert (answer["status"], answer["attempts"]) == ("succeeded", 2)
    assert (answer["result"], answer["error"]) == ({"sent": True}, None)
    assert answer["finished_at"] == "2026-01-01T00:01:03Z"
    assert answer["execute_at"] == "2026-01-01T00:01:00Z"


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([SchedulePaused(at=at(1), schedule_id="a")], "paused"),
        ([ScheduleCancelled(at=at(1), schedule_id="a")], "cancelled"),
        ([ScheduleQuarantined(at=at(1), schedule_id="a", reason="r")], "failed"),
        (
            [
                OccurrencesDecided(
                    at=at(70), schedule_id="a", decision="skipped", reason="paused",
                    first=at(60), last=at(60), count=1, revision=1,
                ),
                ScheduleCompleted(at=at(70), schedule_id="a", reason="exhausted"),
            ],
            "skipped",
        ),
        (
            [
                *fired(),
                ExecutionCancelled(
                    at=at(61), schedule_id="a", execution_id=execution_id(1), reason="r"
                ),
            ],
            "cancelled",
        ),
    ],
    ids=["paused", "cancelled", "quarantined", "skipped", "withdrawn"],
)  # fmt: skip
@pytest.mark.parametrize("when", [{}, {"due": None, "after": "1m"}])
async def test_command_that_does_not_run_says_why(desk: Desk, events: list, status: str, when):
    await desk.tell(scheduled(**when), *events)
    answer = await command(desk)
    assert answer["status"] == status
    assert answer["execute_at"] == "2026-01-01T00:01:00Z"


async def test_what_is_no_command_is_not_found(desk: Desk):
    queue = {"type": "queue", "queue": "command:a"}
    once = {"type": "once", "after": "1m"}
    await desk.tell(created("job"), created("queued", trigger=once, action=queue))
    for id_ in ("job", "queued", "nobody"):
        with pytest.raises(CommandNotFound):
            await desk.ask("command.get", id=id_)


async def test_commands_are_listed_by_their_handler_where_they_are_asked_for(desk: Desk):
    await desk.tell(scheduled(), scheduled("b", command="Refund"), created("job"))
    assert (await desk.ask("schedule.list"))["total"] == 1
    listed = await desk.ask("schedule.list", type="command", handler="command:Refund")
    assert [each["id"] for each in listed["schedules"]] == ["b"]
    assert (await desk.ask("schedule.list", type="command,interval"))["total"] == 3


@pytest.mark.parametrize("data", [None, {}, [], 0, False, "", {"a": [1]}])
@pytest.mark.parametrize("more", [{}, {"metadata": {"a": 1}}, {"policies": {"priority": "low"}}])
@pytest.mark.parametrize("when", [{"due": at(60.000001)}, {"due": None, "after": "1m"}])
def test_packed_definition_is_that_of_the_command(data, more, when):
    event = scheduled(data=data, **more, **when)
    assert {"id": "a"} | unpack_definition(pack_command(event)) == event.created().definition


async def test_commands_are_not_listed_by_name_or_creator(desk: Desk):
    await desk.tell(scheduled(actor="ann"))
    with pytest.raises(InvalidField, match="by name"):
        await desk.ask("schedule.list", type="command", sort="name")
    with pytest.raises(InvalidField, match="who made them"):
        await desk.ask("schedule.list", type="command", created_by="ann")
