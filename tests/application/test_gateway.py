"""Requests come in: read, brought to whoever owns their partition, answered; nothing is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from stepping import WORK, Clock, Recorder, Stepped, events_of, reported

from horae_application import creating
from horae_application import gateway as module
from horae_application.engine import Engine
from horae_application.gateway import Gateway, new_request
from horae_application.lines import Broken
from horae_application.messages import Reply, ReportExecution, Request, read_command
from horae_application.ownership import Ownership
from horae_application.ports import Batch
from horae_application.task import Task
from horae_domain.errors import HoraeError, Unavailable
from horae_domain.events import CommandScheduled
from horae_domain.identity import command_id, partition_of, schedule_stream
from horae_infrastructure.store.memory import MemoryStore

MANUAL = {"trigger": {"type": "manual"}, "action": WORK}


class Leased(MemoryStore):
    """Several owners share it, as they do a database."""

    single_process = False


class Steps(Engine):
    """Decides as soon as it is asked."""

    def submit(self, task: Task) -> None:
        super().submit(task)
        asyncio.get_running_loop().call_soon(self.round)


class Known:
    def serves(self, name: str) -> bool:
        return name in self.names()

    def names(self) -> list[str]:
        return ["work", "command:Remind"]


class Switchboard:
    """A forwarder that reaches the gateways of this test by their address."""

    def __init__(self) -> None:
        self.lines: dict[str, Gateway] = {}
        self.carried: list[tuple[str, str]] = []
        self.broken = False

    async def forward(self, address: str, request: Request) -> Reply:
        self.carried.append((address, request.name))
        if address not in self.lines:
            raise Unavailable(f"nobody listens at {address}", moved=True)
        if self.broken:
            raise Unavailable(f"nobody answered at {address}")
        return await self.lines[address].local(request)


class Office:
    """Two engines with a gateway each, over one store."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.store = Leased(clock=clock.micros)
        self.board = Switchboard()
        self.engines = [self._engine(name) for name in ("a", "b")]
        self.executors: list[Recorder]
        self.gateways = [Gateway(each, Known(), self.board) for each in self.engines]
        for each, gateway in zip(self.engines, self.gateways, strict=True):
            self.board.lines[each.ownership.address] = gateway
        self.tick(4)

    def _engine(self, name: str) -> Steps:
        ownership = Ownership(self.store, name, f"at-{name}")
        return Steps(self.store, self.clock, ownership, executor=Recorder())

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.move(1)
            for each in self.engines:
                each.round()

    def owned_by(self, index: int, prefix: str = "job") -> str:
        """The id of a schedule that an engine owns."""
        epochs = self.engines[index].ownership.epochs
        return next(
            name
            for name in (f"{prefix}{n}" for n in range(10_000))
            if partition_of("default", name) in epochs
        )

    async def ask(self, index: int, name: str, body: dict[str, Any], **told: Any) -> Reply:
        return await self.gateways[index].command(new_request("default", name, body, **told))


@pytest.fixture
def office(clock: Clock) -> Office:
    return Office(clock)


async def test_command_is_decided_here_or_forwarded_once(office: Office) -> None:
    here, there = office.owned_by(0), office.owned_by(1)
    assert (await office.ask(0, "schedule.create", {"id": here, **MANUAL})).ok
    assert office.board.carried == []
    assert (await office.ask(0, "schedule.create", {"id": there, **MANUAL})).ok
    assert office.board.carried == [("at-b", "schedule.create")]


async def test_command_to_be_scheduled_goes_to_the_owner_of_its_key(office: Office) -> None:
    here, there = (
        next(key for key in map(str, range(1000)) if partition_of("default", command_id("default", key)) in each.ownership.epochs)
        for each in office.engines
    )  # fmt: skip
    body = {"command": "Remind", "data": {"order": 1}, "after": "1h", "allow_unknown": True}
    for key, carried in ((here, 0), (there, 1)):
        office.board.carried.clear()
        reply = await office.ask(0, "command.schedule", body, key=key)
        assert reply.body["id"] == command_id("default", key)
        assert len(office.board.carried) == carried
        again = await office.ask(1, "command.schedule", body | {"key": key})
        assert again.body == reply.body
    ids = [(await office.ask(0, "command.schedule", body)).body["id"] for _ in range(8)]
    assert len(set(ids)) == 8, "without a key each is another one"
    assert len(events_of(office.store, CommandScheduled)) == 10


async def test_command_that_nobody_takes_is_refused_with_those_that_are_taken(
    office: Office,
) -> None:
    body = {"command": "Vanish", "after": "1h"}
    reply = await office.ask(0, "command.schedule", body)
    assert reply.body["error"] == {
        "code": "unknown_command",
        "message": "no handler takes the command 'Vanish'; there are: Remind",
        "field": "command",
        "value": "Vanish",
        "known": ["Remind"],
    }
    assert (await office.ask(0, "command.schedule", body | {"command": "Remind"})).ok


async def test_owner_that_does_not_answer_is_an_error_and_not_repeated(office: Office) -> None:
    office.board.broken = True
    reply = await office.ask(0, "schedule.pause", {"id": office.owned_by(1)})
    assert reply.status == 503
    assert len(office.board.carried) == 1


async def test_partition_without_an_owner_is_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = office.owned_by(1)
    office.engines[1].stop()
    office.engines[1].run()
    office.tick()
    asking = asyncio.create_task(office.ask(0, "schedule.create", {"id": there, **MANUAL}))
    await asyncio.sleep(0.05)
    office.engines.pop()
    office.tick(3)
    assert (await asyncio.wait_for(asking, 60)).ok


async def test_owner_that_has_just_died_is_waited_for(office: Office) -> None:
    there = office.owned_by(1)
    address = office.engines[1].ownership.address
    office.board.lines.pop(address)
    asking = asyncio.create_task(office.ask(0, "schedule.create", {"id": there, **MANUAL}))
    await asyncio.sleep(0.05)
    assert office.board.carried[0][0] == address
    office.engines.pop()
    office.tick(8)
    assert (await asyncio.wait_for(asking, 60)).ok


async def test_partition_that_nobody_takes_is_refused_in_the_end(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    office.engines[0].ownership.directory.clear()
    reply = await office.ask(0, "schedule.pause", {"id": office.owned_by(1)})
    assert reply.status == 503
    assert reply.body["error"]["moved"] is True


async def test_many_are_made_by_their_owners_and_answered_in_order(office: Office) -> None:
    ids = [f"s{n}" for n in range(60)]
    bodies: list[Any] = [{"id": each, **MANUAL} for each in ids]
    bodies[3] = {"id": "s3", **MANUAL, "action": {"type": "function", "name": "nobody"}}
    bodies[4] = "no object"
    first = await office.ask(0, "schedule.create_many", {"schedules": bodies}, key="k")
    assert first.body["created"] == 58
    assert [each.get("id") for each in first.body["results"]] == [
        None if n in (3, 4) else each for n, each in enumerate(ids)
    ]
    assert first.body["results"][3]["error"]["code"] == "unknown_handler"
    assert len(office.board.carried) == 1
    again = await office.ask(1, "schedule.create_many", {"schedules": bodies})
    positions = [each.get("position") for each in again.body["results"]]
    assert positions == [each.get("position") for each in first.body["results"]]


async def test_many_whose_owner_does_not_answer_are_refused_together(office: Office) -> None:
    office.board.broken = True
    bodies = [{"id": office.owned_by(index), **MANUAL} for index in (0, 1)]
    gathered = office.ask(0, "schedule.create_many", {"schedules": bodies})
    reply = await gathered
    assert [each["ok"] for each in reply.body["results"]] == [True, False]
    assert reply.body["results"][1]["error"]["code"] == "unavailable"


async def test_many_are_waited_for_while_their_partition_moves(office: Office) -> None:
    there = office.owned_by(1)
    office.engines[0].ownership.directory[partition_of("default", there)] = None
    body = {"schedules": [{"id": there, **MANUAL}]}
    asking = asyncio.create_task(office.ask(0, "schedule.create_many", body, key="k"))
    await asyncio.sleep(0.05)
    office.engines[0].ownership.directory[partition_of("default", there)] = "at-b"
    reply = await asyncio.wait_for(asking, 60)
    assert reply.body["created"] == 1, reply


async def test_forwarded_request_goes_no_further(office: Office) -> None:
    there = office.owned_by(1)
    reply = await office.gateways[0].local(
        new_request("default", "schedule.create", {"id": there, **MANUAL})
    )
    assert reply.body["error"]["moved"] is True
    bad = await office.gateways[0].local(new_request("default", "schedule.pause", {"id": "a b"}))
    assert bad.status == 400


async def test_report_follows_its_partition_to_the_new_owner(office: Office) -> None:
    there = office.owned_by(1)
    await office.ask(1, "schedule.create", {"id": there, **MANUAL})
    run = await office.ask(1, "schedule.trigger", {"id": there})
    body = {"execution_id": run.body["execution_id"], "lease": "1.1", "outcome": "succeeded"}
    raw = msgspec.json.encode(body)
    command = read_command("execution.report", raw)
    assert isinstance(command, ReportExecution)
    request = Request(tenant="default", name="execution.report", body=b"")
    office.board.broken = True
    assert (await office.gateways[0].report(request, command)).status == 503
    office.board.broken = False
    assert (await office.gateways[0].report(request, command)).ok
    assert (await office.gateways[1].report(request, command)).ok


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("schedule.create", {"id": "x", "trigger": {"type": "manual"}, "action": {"type": "no"}}),
        (
            "schedule.create",
            {"id": "x", **MANUAL, "action": {"type": "function", "name": "nobody"}},
        ),
        ("schedule.create_many", {"schedules": "x"}),
        ("schedule.no", {}),
        ("execution.report", {"execution_id": "x"}),
    ],
)
async def test_what_is_wrong_is_answered_and_never_raised(
    office: Office, name: str, body: dict[str, Any]
) -> None:
    reply = await office.ask(0, name, body)
    assert reply.status == 400
    assert reply.body["error"]["code"]


async def test_caller_who_has_gone_disturbs_nobody(office: Office) -> None:
    here = office.owned_by(0)
    asking = asyncio.create_task(office.ask(0, "schedule.create", {"id": here, **MANUAL}))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert (await office.ask(0, "schedule.pause", {"id": here})).ok


def test_bulk_that_is_too_large_is_refused() -> None:
    body = msgspec.json.encode({"schedules": ["x" * 1000] * 20_000})
    with pytest.raises(HoraeError) as caught:
        read_command("schedule.create_many", body)
    assert caught.value.code == "payload_too_large"


def test_replies_of_the_harness_are_those_of_the_wire(clock: Clock) -> None:
    desk = Stepped(MemoryStore(clock=clock.micros), clock)
    desk.settle()
    desk.manual()
    desk.trigger()
    assert msgspec.json.decode(
        msgspec.json.encode(desk.ask("execution.report", reported(desk.executor.started[0])).body)
    )["ok"]


Ask = Callable[..., Awaitable[Reply]]


async def test_many_beyond_one_commit_are_answered_in_order_and_twice_the_same(
    office: Office,
) -> None:
    ids = [f"s{n}" for n in range(2 * creating.SIZE + 7)]
    bodies = [{"id": each, **MANUAL} for each in [*ids, ids[0]]]
    before = office.store.head()
    reply = await office.ask(0, "schedule.create_many", {"schedules": bodies})
    results = reply.body["results"]
    assert reply.body["created"] == len(bodies)
    assert [each["id"] for each in results] == [*ids, ids[0]]
    assert results[-1]["position"] == results[0]["position"]
    assert office.store.head() - before == len(ids)
    other = {"id": ids[1], **MANUAL, "payload": 1}
    answer = await office.ask(0, "schedule.create_many", {"schedules": [other, bodies[2]]})
    assert answer.body["results"][0]["error"]["code"] == "schedule_exists"
    assert answer.body["results"][1]["position"] == results[2]["position"]


async def test_one_that_cannot_be_written_refuses_none_of_those_created_with_it(
    office: Office,
) -> None:
    ids = [office.owned_by(0, prefix) for prefix in ("good", "bad", "fine")]
    append = office.store.append

    def unwritable(batch: Batch) -> Any:
        if any(b'"bad' in event.state for event in batch.events):
            raise TypeError("no such bytes")
        return append(batch)

    office.store.append = unwritable  # type: ignore[method-assign]
    bodies = [{"id": each, **MANUAL} for each in ids]
    asking = asyncio.create_task(office.ask(0, "schedule.create_many", {"schedules": bodies}))
    while not asking.done():
        await asyncio.sleep(0)
        office.engines[0].round()
    results = asking.result().body["results"]
    assert [each["ok"] for each in results] == [True, False, True]
    assert results[1]["error"]["code"] == "internal"


async def test_many_on_a_quarantined_schedule_are_refused_by_themselves(office: Office) -> None:
    ids = [office.owned_by(0, prefix) for prefix in ("good", "ill")]
    stream = schedule_stream("default", ids[1])
    office.engines[0].lines.quarantined[stream] = Broken("ill", "default", ids[1])
    bodies = [{"id": each, **MANUAL} for each in ids]
    reply = await office.ask(0, "schedule.create_many", {"schedules": bodies})
    assert [each["ok"] for each in reply.body["results"]] == [True, False]
    assert reply.body["results"][1]["error"]["code"] == "illegal_state"


async def test_many_that_are_not_due_soon_are_not_kept_in_memory(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.deciding.MANY", 10)
    far = {"trigger": {"type": "once", "at": "2031-01-01T00:00:00Z"}, "action": MANUAL["action"]}
    near = {"trigger": {"type": "once", "after": "1 second"}, "action": MANUAL["action"]}
    bodies = [{"id": f"far{n}", **far} for n in range(40)]
    bodies += [{"id": f"near{n}", **near} for n in range(40)]
    reply = await office.ask(0, "schedule.create_many", {"schedules": bodies})
    assert reply.body["created"] == 80
    kept = [line.schedule.id for each in office.engines for _, line in each.lines.all()]
    assert sorted(kept) == sorted(f"near{n}" for n in range(40))
    there = office.owned_by(1, "far")
    assert (await office.ask(0, "schedule.pause", {"id": there})).ok


async def test_many_whose_checks_are_asked_later_are_kept_in_memory(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.deciding.MANY", 10)
    trigger = {"type": "condition", "check": "stock", "every": "1 minute"}
    asked = {"trigger": trigger, "action": MANUAL["action"]}
    bodies = [{"id": f"asked{n}", **asked} for n in range(40)]
    body = {"schedules": bodies, "allow_unknown": True}
    reply = await office.ask(0, "schedule.create_many", body)
    assert reply.body["created"] == 40
    kept = [stream for each in office.engines for stream, _ in each.lines.all()]
    wakes = [stream for each in office.engines for stream in each.lines._wakes]
    assert len(kept) == 40
    assert sorted(wakes) == sorted(kept)
