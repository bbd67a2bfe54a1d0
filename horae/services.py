"""Services of an application: functions that answer commands (A2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from horae_application.registry import Functions
from horae_application.services import command_action
from horae_domain.durations import format_duration

F = TypeVar("F", bound=Callable[..., Any])
Span = str | float | timedelta


class Service:
    """One service; made by `Horae.service`.

    Args:
        name: tokens with dots between them, such as `trading` or `agents.research`.
        commands: where its functions are kept.
    """

    def __init__(self, name: str, commands: Functions) -> None:
        self.name = name
        self._commands = commands

    def command(self, name: str) -> Callable[[F], F]:
        """Answer a command by a function of (call) or (call, payload).

        The payload is validated into the annotated type. What is returned is the answer; a
        `ServiceError` that is raised is the refusal.

        Raises:
            InvalidField: the name of the service or of the command cannot be one.
        """
        command_action(self.name, name, reply=True, timeout=1)

        def mark(function: F) -> F:
            self._commands.add(f"{self.name}.{name}", function)
            return function

        return mark


def command(
    service: str, name: str, *, reply: bool = True, timeout: Span = "5 seconds"
) -> dict[str, Any]:
    """The action that sends a command to a service.

    Args:
        service: where it goes, such as `trading`.
        name: what is asked, such as `Rebalance`.
        reply: whether the answer is waited for and is the result; else it is done when JetStream
            has stored it.
        timeout: how long to wait; seconds if a number.

    Raises:
        InvalidField: with the part that breaks its rule.
    """
    action = command_action(service, name, reply=reply, timeout=timeout)
    return {
        "type": action.type,
        "service": action.service,
        "command": action.command,
        "reply": action.reply,
        "timeout": format_duration(action.timeout),
    }
