"""What one round of an engine decides, before it is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from horae_application import messages
from horae_application.creating import CreateTogether, Creation
from horae_application.dispatch import Dispatch
from horae_application.draft import Draft
from horae_application.lines import Broken, Lines, fold_execution
from horae_application.log import get_logger
from horae_application.messages import OK, refused
from horae_application.needs import Needs
from horae_application.ownership import Ownership
from horae_application.ports import StoredEvent
from horae_application.quarantine import MAX_REASON, quarantine
from horae_application.receiving import MAX_AGE, Receiving
from horae_application.task import Answer, Task, refusal
from horae_application.tasks import Desk, decided_by
from horae_application.waiting import Late
from horae_domain import decider, firing
from horae_domain.errors import IllegalState, Unavailable
from horae_domain.events import ScheduleQuarantined
from horae_domain.identity import partition_of_stream
from horae_domain.retention import Retention
from horae_domain.schedule import Cause, Status, about

_log = get_logger("horae.engine")

MANY = 100
"""Creations of one request, from which on their lines are not kept in memory without need."""


class Deciding:
    """Decides for the partitions of an owner; nothing of it holds until its draft is committed."""

    def __init__(self, lines: Lines, ownership: Ownership, dispatch: Dispatch) -> None:
        self._lines = lines
        self._ownership = ownership
        self._dispatch = dispatch
        self._needs = Needs(lines, ownership)
        self.look = False
        """True if this process serves more handlers than in the round before."""
        self.max_event_age = MAX_AGE
        self.retention = Retention()
        """How long what has ended is kept before a sweep may erase it."""

    def decide(
        self,
        draft: Draft,
        tasks: Sequence[Task],
        due: Sequence[str],
        late: Sequence[Late],
        *,
        careful: bool,
    ) -> list[Answer]:
        """Decide commands, what is due and what has waited too long, into a draft.

        Being careful, what cannot even be read has its end recorded another time.
        """
        mine, answers = self._mine(tasks)
        mine.sort(key=_sweeps)  # what else is asked for is decided before anything is erased
        loaded = self._needs.load(mine, due, late)
        if not careful:
            self._bury(draft)
        for stream in due:
            self._settle(draft, stream)
        for each in late:
            self._expire(draft, each, loaded)
        receiving = Receiving(draft, self._lines, loaded, self.max_event_age, self.recover)
        desk = Desk(
            draft, loaded, self._lines.owner_of, self._lines.pulse, receiving, self.retention
        )
        for task in mine:
            if isinstance(task.command, CreateTogether):
                answers.append(self._create(draft, desk, task, task.command))
            else:
                answers.append(self._answer(draft, desk, task))
        receiving.follow(Cause(draft.at))
        if self.look:
            self.look = False
            self._dispatch.look_again(self._lines, draft.at)
        self._dispatch.assign(draft)
        return answers

    def _answer(self, draft: Draft, desk: Desk, task: Task) -> Answer:
        about = self._needs.stream_of(task)
        if about in self._lines.quarantined:
            return _buried(task)
        if about is not None:
            draft.partitions.add(partition_of_stream(about))
            self.recover(draft, about)
        elif isinstance(task.command, messages.PublishEvent | messages.RememberAnswer):
            draft.partitions.add(next(iter(self._ownership.epochs)))
        return desk.decide(task)

    def _create(self, draft: Draft, desk: Desk, task: Task, command: CreateTogether) -> Answer:
        cause = desk.cause(task)
        if len(command.items) >= MANY:
            draft.passing.update(each.stream for each in command.items)
        parts = [self._create_one(draft, desk, task, each, cause) for each in command.items]
        return Answer(task, OK, {}, parts=parts)

    def _create_one(
        self, draft: Draft, desk: Desk, task: Task, one: Creation, cause: Cause
    ) -> Answer:
        if one.partition not in self._ownership.epochs:
            return self._not_mine(task)
        if one.stream in self._lines.quarantined:
            return _buried(task)
        draft.partitions.add(one.partition)
        self.recover(draft, one.stream)
        return desk.create(task, one, cause)

    def _settle(self, draft: Draft, stream: str) -> None:
        if draft.line(stream) is None or stream in self._lines.quarantined:
            return
        decision = draft.begin(stream)
        cause = Cause(draft.at)
        try:
            decider.recover(decision, self._ownership.owner, cause)
            firing.advance(decision, cause)
        except Exception as error:  # noqa: BLE001 - one schedule's trouble is its own
            decision = draft.begin(stream)
            if decision.require().schedule.status is Status.FAILED:
                self.quarantine(stream, error)
                return
            _log.exception("quarantined", stream=str(stream))
            quarantine(decision, error, cause)
        draft.accept(stream, decision)
        draft.seen.add(stream)

    def _expire(
        self, draft: Draft, late: Late, loaded: Mapping[str, Sequence[StoredEvent]]
    ) -> None:
        """Decide what follows if an execution has waited long enough outside of its line."""
        id_, stream = late
        run = draft.waiting.get(id_) or fold_execution(loaded.get(id_, ()))
        if run is None or not run.outside:
            return
        if draft.line(stream) is None or stream in self._lines.quarantined:
            return
        decision = draft.begin(stream, run)
        decider.expire(decision, id_, Cause(draft.at))
        draft.accept(stream, decision)

    def _bury(self, draft: Draft) -> None:
        """Record the end of what cannot even be read."""
        for stream, broken in self._lines.unrecorded.items():
            about_ = about(broken.tenant, broken.id, Cause(draft.at))
            event = ScheduleQuarantined(reason=broken.reason, **about_)
            draft.bury(event, stream, broken.version)

    def recover(self, draft: Draft, stream: str) -> None:
        """Let a schedule take in what its former owner left behind, before anything else of it."""
        if draft.line(stream) is not None and stream not in draft.recovered:
            draft.recovered.add(stream)
            decision = draft.begin(stream)
            decider.recover(decision, self._ownership.owner, Cause(draft.at))
            draft.accept(stream, decision)

    def quarantine(self, stream: str, error: Exception) -> None:
        """Leave a schedule alone from now on, in memory only: not even its end can be recorded."""
        line = self._lines.get(stream)
        schedule = line.schedule if line is not None else None
        tenant, id_ = (schedule.tenant, schedule.id) if schedule is not None else ("", "")
        self._lines.quarantined[stream] = Broken(repr(error)[:MAX_REASON], tenant, id_)
        _log.error("quarantined", stream=str(stream), error=repr(error))

    def _mine(self, tasks: Sequence[Task]) -> tuple[list[Task], list[Answer]]:
        """Those that are decided here, and the answers of the others."""
        mine: list[Task] = []
        answers: list[Answer] = []
        for task in tasks:
            if self._owns(task):
                mine.append(task)
            else:
                answers.append(self._not_mine(task))
        return mine, answers

    def _owns(self, task: Task) -> bool:
        if isinstance(task.command, CreateTogether):
            return True  # each of them is looked at by itself
        return decided_by(self._ownership.epochs, task.request.tenant, task.command) is not None

    def _not_mine(self, task: Task) -> Answer:
        reply = refused(Unavailable("another engine owns this partition", moved=True))
        return Answer(task, reply.status, reply.body)


def _sweeps(task: Task) -> bool:
    return isinstance(task.command, messages.SweepSchedule)


def _buried(task: Task) -> Answer:
    return refusal(task, IllegalState("it is quarantined", state="failed"))
