"""Commands that erase what has ended."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from horae_application.messages.base import Command, SingleCommand
from horae_domain.wire import ExecutionId


class SweepHistory(Command):
    """`history.sweep`: erase what has ended and was kept long enough (O5); `horae.cleanup` asks it."""

    name = "history.sweep"
    dry_run: bool = False
    """Count what could be erased, and erase nothing."""


class SweepSchedule(SingleCommand):
    """`history.sweep_schedule`: erase executions of one schedule, or the schedule with all of them.

    Its owner leaves alone what has to be kept, so that asking for too much does no harm.
    """

    name = "history.sweep_schedule"
    executions: Annotated[tuple[ExecutionId, ...], Field(max_length=1_000)] = ()
    whole: bool = False
    """These are all that it has, and it goes with them."""
