"""Work that can be killed: command lines and handlers in a process of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from horae_application.context import Context
from horae_application.control import Stopped
from horae_application.registry import Handler
from horae_application.result import Finished
from horae_domain.instants import format_instant
from horae_infrastructure.isolated import (
    IsolatedFailure,
    WorkerDied,
    main_program,
    run_isolated,
    target_of,
)
from horae_infrastructure.mail import Mail, mail_output
from horae_infrastructure.processes import ProcessSpec, run_process
from horae_infrastructure.settings import Settings


class ProcessFailed(Exception):
    """A command line ended with another exit code than 0, or by a signal."""


class ChildProcesses:
    """Runs what an executor may not run in its own process.

    Args:
        mail: how the output of commands goes to their `MAILTO`; None does not send it.
    """

    def __init__(self, mail: Mail | None = None) -> None:
        self._mail = mail

    async def process(self, action: dict[str, Any], context: Context) -> dict[str, Any]:
        """Run a command line, which is told whose attempt it is; its output is the result.

        Raises:
            ProcessRefused: it could not be started.
            ProcessFailed: it ended badly, or was killed at the attempt's timeout.
            Stopped: it was asked to stop, and ended without success.
        """
        told = dict(action.get("env") or {}) | facts_of(context)
        spec = ProcessSpec.of({**action, "env": told})
        outcome = await run_process(spec, timeout=context.timeout, stopping=context.control.by)
        mailed = await mail_output(self._mail, spec, outcome)
        facts: dict[str, Any] = {
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            "stdout": outcome.stdout,
            "stderr": outcome.stderr,
        }
        if mailed is not None:
            facts["mail"] = mailed
            context.log("mail", **{**mailed, "to": ", ".join(mailed["to"])})
        if outcome.exit_code != 0:
            tail = (outcome.stderr or outcome.stdout)[-2000:]
            how = f"exit code {outcome.exit_code}" if outcome.signal is None else (
                f"signal {outcome.signal}"
            )  # fmt: skip
            kind = Stopped if context.cancelled else ProcessFailed
            raise kind(f"{how}: {tail}")
        return facts

    async def function(self, handler: Handler, context: Context) -> Finished:
        """Call a handler in a fresh interpreter, with the context's facts.

        Raises:
            Stopped: it was asked to stop, and ended without a result.
        """
        target = target_of(handler.function)
        async with listening(context.control.beat) as beats:
            argument = {
                "target": target,
                "main": main_program(target),
                "work": context.work,
                "beats": beats,
            }
            try:
                answer = await run_isolated(
                    "horae_infrastructure.isolated_call:call",
                    msgspec.json.encode(argument),
                    timeout=context.timeout,
                    stopping=context.control.by,
                    pass_fds=[beats],
                )
            except (WorkerDied, IsolatedFailure) as error:
                if context.cancelled and _ended_by_it(error):
                    raise Stopped(error.message) from error
                raise
        return Finished(msgspec.json.decode(answer))


def children_of(settings: Settings) -> ChildProcesses:
    """As the settings of a process say."""
    url = settings.mail_url
    return ChildProcesses(None if url is None else Mail(url, settings.mail_from))


def facts_of(context: Context) -> dict[str, str]:
    """What a command learns of its attempt, by its environment."""
    return {
        "HORAE_EXECUTION_ID": context.execution_id,
        "HORAE_SCHEDULE_ID": context.schedule_id,
        "HORAE_DUE": format_instant(context.due),
        "HORAE_ATTEMPT": str(context.attempt),
    }


def _ended_by_it(error: WorkerDied | IsolatedFailure) -> bool:
    """True if a handler ended for being asked to."""
    return isinstance(error, WorkerDied) or error.type == "CancelledError"


@asynccontextmanager
async def listening(beat: Callable[[Any], None]) -> AsyncIterator[int]:
    """A descriptor on which a child writes its progress, a line of JSON for each heartbeat."""
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )

    async def listen() -> None:
        while line := await reader.readline():
            beat(msgspec.json.decode(line))

    task = asyncio.ensure_future(listen())
    try:
        yield writing
    finally:
        os.close(writing)
        task.cancel()
        transport.close()
