"""What has to be read from the store before a round can decide."""

from __future__ import annotations

from collections.abc import Sequence

from horae_application import messages
from horae_application.creating import CreateTogether
from horae_application.depths import causing
from horae_application.lines import Lines
from horae_application.ownership import Ownership
from horae_application.ports import StoredEvent
from horae_application.receiving import event_stream
from horae_application.sweeping import streams_of
from horae_application.task import Task
from horae_application.tasks import key_stream
from horae_application.waiting import Late
from horae_domain import decider
from horae_domain.codec import Undecodable, decode
from horae_domain.identity import schedule_stream

CREATIONS = (messages.CreateSchedule, messages.ScheduleCommand)
"""If one changes nothing, it rests on the position of the first."""


class Needs:
    """Reads it, in one look or two."""

    def __init__(self, lines: Lines, ownership: Ownership) -> None:
        self._lines = lines
        self._ownership = ownership

    def stream_of(self, task: Task) -> str | None:
        """The stream of the schedule that a task is about, as far as that is known by now."""
        id_ = task.command.schedule(task.request.tenant)
        if id_ is not None:
            return schedule_stream(task.request.tenant, id_)
        return self._lines.owner_of(task.command.execution or "")

    def load(
        self, tasks: Sequence[Task], due: Sequence[str], late: Sequence[Late]
    ) -> dict[str, list[StoredEvent]]:
        """Bring lines into memory; the events of other streams that are needed besides."""
        streams = dict.fromkeys([*due, *(each.stream for each in late)])
        extra: dict[str, None] = dict.fromkeys(each.id for each in late)
        for task in tasks:
            extra |= dict.fromkeys(causing(task))
            several = dict.fromkeys(self._several(task))
            extra |= several
            if isinstance(task.command, CreateTogether):
                streams |= several
                continue
            key = key_stream(task.request)
            if key is not None:
                extra[key] = None
            if (limits := task.command.limited(task.request.tenant)) is not None:
                extra[limits] = None
            stream = self.stream_of(task)
            if stream is not None:
                streams[stream] = None
            elif (event := event_stream(task)) is not None:
                extra[event] = None
                concerned = self._lines.listening.concerned(task)
                streams |= dict.fromkeys(each.stream for each in concerned)
                extra |= dict.fromkeys(self._lines.waiting_of(concerned))
            elif (id_ := task.command.execution) is not None:
                extra[id_] = None
            if stream is not None and isinstance(task.command, CREATIONS):
                extra[stream] = None
        loaded = self._lines.load(streams, list(extra))
        second = self._second_look(tasks, loaded)
        if second:
            loaded |= self._lines.load(second[0], second[1])
        return loaded

    def _several(self, task: Task) -> list[str]:
        """The streams of a task that is about many."""
        command, epochs = task.command, self._ownership.epochs
        if isinstance(command, CreateTogether):
            return [each.stream for each in command.items if each.partition in epochs]
        if isinstance(command, messages.SweepSchedule):
            return streams_of(task.request.tenant, command)
        return []

    def _second_look(
        self,
        tasks: Sequence[Task],
        loaded: dict[str, list[StoredEvent]],
    ) -> tuple[list[str], list[str]] | None:
        """What is only known to be needed after the first look."""
        streams: list[str] = []
        extra: list[str] = []
        for task in tasks:
            command = task.command
            if isinstance(command, messages.TriggerSchedule):
                extra += self._triggered(task, command)
            about = command.execution
            if about is not None and (rows := loaded.get(about)):
                streams += _whose(rows)
        return (streams, extra) if streams or extra else None

    def _triggered(self, task: Task, command: messages.TriggerSchedule) -> list[str]:
        """The execution that a caller's key may already stand for."""
        tenant = task.request.tenant
        line = self._lines.get(schedule_stream(tenant, command.id))
        key = command.key or task.request.key
        if line is None or key is None:
            return []
        incarnation = line.schedule.incarnation
        return [decider.trigger_id(tenant, command.id, incarnation, key)]


def _whose(rows: Sequence[StoredEvent]) -> list[str]:
    """The schedule's stream of an execution; none if that cannot be read."""
    if not rows:
        return []
    try:
        event = decode(rows[0].name, rows[0].state)
    except Undecodable:
        return []
    return [schedule_stream(event.tenant, event.schedule_id)]
