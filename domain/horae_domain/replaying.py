"""What executions were told to do, by their events alone: the same events, the same commands."""

from __future__ import annotations

from collections.abc import Iterable

from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.events import AttemptStarted, Event, ExecutionEvent
from horae_domain.execution import Execution, Status
from horae_domain.identity import schedule_stream
from horae_domain.schedule import Schedule
from horae_domain.stages import StageCommand, command_of


class ReplayDiffers(AssertionError):
    """An attempt was at another stage than its events say; what decides has changed meanwhile.

    Attributes:
        execution_id: whose.
        recorded: the stage of the attempt.
        replayed: what the events before it lead to; None if to nothing.
    """

    def __init__(self, execution_id: str, recorded: str, replayed: str | None) -> None:
        self.execution_id = execution_id
        self.recorded = recorded
        self.replayed = replayed
        super().__init__(f"{execution_id}: {recorded!r} was begun, but {replayed!r} is next")


def replay(events: Iterable[Event]) -> dict[str, list[StageCommand]]:
    """The commands of each execution, in order; each stage has one, however often it was tried.

    Args:
        events: of some schedules and all their executions, in the order of the log.

    Raises:
        ReplayDiffers: an attempt that was begun is not what its events lead to.
    """
    schedules_: dict[str, Schedule] = {}
    runs: dict[str, Execution] = {}
    told: dict[str, list[StageCommand]] = {}
    for event in events:
        stream = schedule_stream(event.tenant, event.schedule_id)
        if not isinstance(event, ExecutionEvent):
            after = schedules.evolve(schedules_.get(stream), event)
            if after is not None:
                schedules_[stream] = after
        elif (schedule := schedules_.get(stream)) is not None:
            _follow(schedule, runs, told, event)
    return told


def _follow(
    schedule: Schedule,
    runs: dict[str, Execution],
    told: dict[str, list[StageCommand]],
    event: ExecutionEvent,
) -> None:
    id_ = event.execution_id
    before = runs.get(id_)
    if isinstance(event, AttemptStarted) and before is not None:
        next_ = command_of(schedule.definitions[before.revision], before)
        if next_ is None or next_.stage != event.stage:
            raise ReplayDiffers(id_, event.stage, None if next_ is None else next_.stage)
    run = executions.evolve(before, event)
    if run is None:
        return
    runs[id_] = run
    if run.status is Status.RUNNING:
        command = command_of(schedule.definitions[run.revision], run)
        known = told.setdefault(id_, [])
        if command is not None and (not known or known[-1].id != command.id):
            known.append(command)
