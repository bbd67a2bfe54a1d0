"""What commands have in common: their name, and what they are about."""

from __future__ import annotations

from typing import Any, ClassVar

from horae_domain.definition import Definition
from horae_domain.fields import Identifier, Model
from horae_domain.wire import ExecutionId


class Command(Model):
    """Base of the commands; `name` is the last part of the subject."""

    name: ClassVar[str]

    @property
    def execution(self) -> str | None:
        """The id of the execution that it is about, if it names one."""
        return None

    def schedule(self, tenant: str) -> str | None:
        """The id of the schedule that it is about, unless it names an execution; of a tenant."""
        del tenant
        return None

    def limited(self, tenant: str) -> str | None:
        """The stream of the limits that it is about."""
        del tenant
        return None


class RememberAnswer(Command):
    """What a request of many parts was answered; the engine's own, and no request of the bus."""

    name = "request.remember"
    reply: dict[str, Any]


class DefinitionCommand(Command):
    """About the schedule of a definition."""

    definition: Definition

    def schedule(self, tenant: str) -> str:
        """The id of the definition."""
        del tenant
        return self.definition.id


class SingleCommand(Command):
    """About one schedule."""

    id: Identifier

    def schedule(self, tenant: str) -> str:
        """The id told."""
        del tenant
        return self.id


class ExecutionCommand(Command):
    """About one execution."""

    id: ExecutionId

    @property
    def execution(self) -> str:
        """The id told."""
        return self.id


class AttemptCommand(Command):
    """About one execution, by whoever has or wants its lease."""

    execution_id: ExecutionId

    @property
    def execution(self) -> str:
        """The id told."""
        return self.execution_id
