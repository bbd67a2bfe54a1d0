"""Call a Python function in a process of its own, which can be killed, as no thread can.

Each call has a fresh interpreter, which imports the function's module and nothing else of this
process. What crosses is JSON. Nothing of the call outlives its end, its timeout, its cancellation,
or this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from horae_domain.errors import HoraeError, InvalidField, Unavailable
from horae_infrastructure.guarded import (
    STRAY_WRITER,
    AsyncGuarded,
    Captured,
    Order,
    Refused,
    Stopping,
    input_file,
)

CHILD = str(Path(__file__).with_name("isolated_child.py"))
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes; far above what the engine accepts as a result


class IsolatedFailure(HoraeError):
    """The function raised an error.

    Attributes:
        type: the name of the error's class.
        stack: the traceback, as text.
    """

    code = "handler_failed"

    def __init__(self, type: str, message: str, stack: str) -> None:  # noqa: A002 - the wire's name
        super().__init__(message, type=type, stack=stack)
        self.type = type
        self.stack = stack


class WorkerDied(HoraeError):
    """The process ended before the function returned: `os._exit`, a signal, a crash.

    Attributes:
        exit_code: None if a signal ended it.
        signal: the number of that signal, else None.
    """

    code = "worker_died"

    def __init__(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else None
        self.signal = -code if code < 0 else None
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        super().__init__(
            f"The process of the handler ended early: {how}.",
            exit_code=self.exit_code,
            signal=self.signal,
        )


def target_of(function: Callable[..., Any]) -> str:
    """The name by which another process finds the function: `module:qualname`.

    Raises:
        InvalidField: it has none, being a lambda, a closure or an object.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "<unnamed>")
    if module is None or "<" in name:
        raise InvalidField(
            f"Only a function of a module can run in a process of its own, and {name} is none.",
            field="isolation",
            value="process",
        )
    return f"{module}:{name}"


async def run_isolated(
    target: str,
    argument_json: bytes,
    *,
    timeout: float | None,  # noqa: ASYNC109 - the time is the call's, whose process is then stopped
    stopping: Stopping | None = None,
    pass_fds: Sequence[int] = (),
    grace: float = GRACE,
) -> bytes:
    """Call a function, or coroutine function, with one argument in a process of its own.

    What it prints goes where this process prints. At its end `atexit` handlers do not run, and
    threads and children that it left are killed.

    Args:
        target: `module:qualname`, see `target_of`.
        argument_json: the argument.
        timeout: seconds it may take, the start of the interpreter (some 0.1 s) included; None for
            any time.
        stopping: told how to ask it to end, by SIGTERM.
        pass_fds: further descriptors that the function may use.
        grace: seconds between SIGTERM and SIGKILL, on timeout and on cancellation.

    Returns:
        The result as JSON.

    Raises:
        IsolatedFailure: the function raised an error, or could not be imported.
        WorkerDied: the process ended before the function returned.
        TimeoutError: it took too long, and was stopped.
        Unavailable: the process could not be started.
    """
    header = {"target": target, "path": sys.path, "main": main_program(target)}
    request = json.dumps(header).encode() + b"\n" + argument_json
    async with Captured.open(LARGEST_ANSWER) as answer:
        with input_file(request) as stdin:
            order = Order(
                command=[sys.executable, "-P", CHILD, str(answer.writing)],
                env=dict(os.environ),
                cwd=str(Path.cwd()),
                grace=grace,
            )
            try:
                descriptors = [answer.writing, *pass_fds]
                guarded = await AsyncGuarded.start(order, stdin=stdin, pass_fds=descriptors)
            except Refused as refused:
                raise Unavailable(f"No process for the handler: {refused}.") from refused
            finally:
                answer.release()
        if stopping is not None:
            stopping(guarded.ask)
        status, timed_out = await guarded.wait(timeout)
        await asyncio.wait({answer.task}, timeout=STRAY_WRITER)
    return unpacked(answer.content(), status, timed_out=timed_out)


def unpacked(answer: bytes, status: int, *, timed_out: bool) -> bytes:
    """The result, or the error that the answer or the lack of one stands for."""
    kind, body = answer[:1], answer[1:]
    if not body.endswith(b"\n"):
        if timed_out:
            raise TimeoutError("The process of the handler was stopped: its time ran out.")
        raise WorkerDied(status)
    if kind == b"!" and timed_out:
        raise TimeoutError("The process of the handler was stopped: its time ran out.")
    if kind == b"!":
        raise IsolatedFailure(**json.loads(body))
    return body[:-1]


def main_program(target: str) -> dict[str, str] | None:
    """Where the functions of this program itself come from; None for those of any module.

    Raises:
        InvalidField: the program is no file, such as an interactive session.
    """
    if not target.startswith("__main__:"):
        return None
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise InvalidField(
            "A function of an interactive session cannot run in a process of its own.",
            field="isolation",
            value="process",
        )
    return {"file": str(Path(file).absolute())}
