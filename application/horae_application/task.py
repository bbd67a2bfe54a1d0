"""A command on its way through the engine, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from horae_application.messages import Command, Reply, Request, refused
from horae_domain.errors import HoraeError


class Task(NamedTuple):
    """A command on its way through the engine; `done` is called once, after the commit."""

    request: Request
    command: Command
    done: Callable[[Reply], None]
    tries: int = 0


class Answer(NamedTuple):
    """A reply that waits for its commit; `event` is the one of its draft that it rests on."""

    task: Task
    status: int
    body: dict[str, Any]
    event: int | None = None
    position: int | None = None
    parts: Sequence[Answer] = ()
    """Of a task that is several, the answers of each; then `body` has their `results`."""


def refusal(task: Task, error: HoraeError) -> Answer:
    """The answer of a task that is refused; it says what the command was about."""
    _name(task, error)
    reply = refused(error)
    return Answer(task, reply.status, reply.body)


def _name(task: Task, error: HoraeError) -> None:
    command, name = task.command, "execution_id"
    id_ = command.execution
    if id_ is None:
        id_, name = command.schedule(task.request.tenant), "schedule_id"
    if id_ is None or id_ == error.value:
        return
    if error.value is None and error.field in {"id", name}:
        error.value = id_
    else:
        error.details.setdefault(name, id_)
