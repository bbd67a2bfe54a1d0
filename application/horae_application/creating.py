"""Many creations in one commit: read once, decided one after the other, answered together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from horae_application.messages import Command, CreateSchedule
from horae_domain.definition import Definition
from horae_domain.identity import partition_of_stream, schedule_stream

SIZE = 500
"""Creations decided in one commit."""


class Creation(NamedTuple):
    """One definition on its way, and where it belongs."""

    definition: Definition
    stream: str
    partition: int


class CreateTogether(Command):
    """Creations for one commit; each is answered by itself. It does not come from outside."""

    name = "schedule.create_together"
    items: tuple[Creation, ...]


def creation_of(tenant: str, definition: Definition) -> Creation:
    """A definition with its stream and partition."""
    stream = schedule_stream(tenant, definition.id)
    return Creation(definition, stream, partition_of_stream(stream))


def together(items: Sequence[Creation]) -> CreateTogether:
    """The command of some creations."""
    return CreateTogether.model_construct(items=tuple(items))


def alone(item: Creation) -> CreateSchedule:
    """The command of one creation by itself; whoever does its work was looked for."""
    return CreateSchedule.model_construct(definition=item.definition, allow_unknown=True)
