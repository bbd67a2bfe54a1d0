"""Work that can be killed: command lines and handlers in a process of their own."""

from __future__ import annotations

from typing import Any

import msgspec

from horae_application.context import Context
from horae_application.registry import Handler
from horae_application.result import Finished
from horae_infrastructure.isolated import main_program, run_isolated, target_of
from horae_infrastructure.processes import ProcessSpec, run_process


class ProcessFailed(Exception):
    """A command line ended with another exit code than 0, or by a signal."""


class ChildProcesses:
    """Runs what an executor may not run in its own process."""

    async def process(self, action: dict[str, Any], context: Context) -> dict[str, Any]:
        """Run a command line; its output is the result.

        Raises:
            ProcessRefused: it could not be started.
            ProcessFailed: it ended badly, or was killed at the attempt's timeout.
        """
        outcome = await run_process(ProcessSpec.of(action), timeout=context.timeout)
        facts: dict[str, Any] = {
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            "stdout": outcome.stdout,
            "stderr": outcome.stderr,
        }
        if outcome.exit_code != 0:
            tail = (outcome.stderr or outcome.stdout)[-2000:]
            how = f"exit code {outcome.exit_code}" if outcome.signal is None else (
                f"signal {outcome.signal}"
            )  # fmt: skip
            raise ProcessFailed(f"{how}: {tail}")
        return facts

    async def function(self, handler: Handler, context: Context) -> Finished:
        """Call a handler in a fresh interpreter, with the context's facts."""
        target = target_of(handler.function)
        argument = {"target": target, "main": main_program(target), "work": context.work}
        answer = await run_isolated(
            "horae_infrastructure.isolated_call:call",
            msgspec.json.encode(argument),
            timeout=context.timeout,
        )
        return Finished(msgspec.json.decode(answer))
