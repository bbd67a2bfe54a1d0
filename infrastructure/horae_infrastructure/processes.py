"""Run a command line as the work of an execution: bounded, observed, and gone when it is over.

The command has a session of its own and the limits it was given; when it has ended, timed out or
been cancelled, or when this process has died, nothing that it started is left. Background children
end with it: a job that is to outlive its command belongs to an init system.
"""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from horae_domain.errors import HoraeError
from horae_infrastructure.guarded import (
    STRAY_WRITER,
    AsyncGuarded,
    Captured,
    Order,
    Refused,
    Stopping,
    input_file,
)

KEPT_OUTPUT = 64 * 1024  # bytes of each of standard output and error, the last ones
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
REASONS = {
    errno.ENOENT: "not found",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.ENOEXEC: "not a program",
    errno.E2BIG: "too long",
    errno.ENOTDIR: "not a directory",
    errno.EINVAL: "invalid",
}


class ProcessRefused(HoraeError):
    """The command could not be started; `field` is the part of the action that is to blame."""

    code = "process_refused"
    status = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A command line and its surroundings.

    Attributes:
        command: program and arguments. No shell reads them, unless the program is one.
        env: added to a minimal environment; nothing of this process's own is passed on.
        user: the system user to become, None to stay; needs the permission to.
        cwd: working directory, the user's home if None.
        stdin: text for its standard input, which is empty if None.
        limits: `cpu` in seconds, `memory` in bytes of address space, open `files`; each process
            that the command starts has the same.
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    cwd: str | None = None
    stdin: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, action: Mapping[str, Any]) -> Self:
        """The spec of an action as it stands in a schedule, `{"type": "process", …}`."""
        fields = {name: action[name] for name in cls.__slots__ if action.get(name) is not None}
        limits = {k: v for k, v in fields.get("limits", {}).items() if v is not None}
        return cls(**fields | {"limits": limits})

    def order(self, grace: float) -> Order:
        """What the guard is told.

        Raises:
            ProcessRefused: there is no such user.
        """
        try:
            account = pwd.getpwuid(os.geteuid()) if self.user is None else pwd.getpwnam(self.user)
        except KeyError:
            raise ProcessRefused(
                f"There is no user {self.user}.", field="user", value=self.user
            ) from None
        minimal = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": account.pw_dir,
            "LOGNAME": account.pw_name,
            "USER": account.pw_name,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
        }
        home = account.pw_dir if os.path.isdir(account.pw_dir) else "/"  # noqa: PTH112
        return Order(
            command=list(self.command),
            env=minimal | dict(self.env),
            cwd=self.cwd or home,
            user=self.user,
            limits=dict(self.limits),
            grace=grace,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutcome:
    """How a command ended.

    Attributes:
        exit_code: None if a signal ended it.
        signal: the number of that signal, else None.
        stdout: the last 64 KiB; bytes that are no UTF-8 are replaced.
        stderr: likewise.
        stdout_truncated: whether there was more.
        stderr_truncated: likewise.
        timed_out: whether it was stopped because its time ran out.
        started: wall time, UTC.
        finished: wall time, UTC.
        duration: seconds, on a clock that does not jump.
    """

    exit_code: int | None
    signal: int | None
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    timed_out: bool
    started: datetime
    finished: datetime
    duration: float


async def run_process(
    spec: ProcessSpec,
    *,
    timeout: float | None,  # noqa: ASYNC109 - the time is the command's, which is then stopped
    on_start: Callable[[int], None] | None = None,
    stopping: Stopping | None = None,
    grace: float = GRACE,
) -> ProcessOutcome:
    """Run a command to its end.

    Args:
        spec: the command.
        timeout: seconds it may take before SIGTERM, None for any time.
        on_start: called with its process id.
        stopping: told how to ask it to end, by SIGTERM.
        grace: seconds between SIGTERM and SIGKILL, on timeout and on cancellation.

    Raises:
        ProcessRefused: it could not be started.
    """
    order = spec.order(grace)
    with input_file((spec.stdin or "").encode(errors="surrogateescape")) as stdin:
        async with Captured.open(KEPT_OUTPUT) as stdout, Captured.open(KEPT_OUTPUT) as stderr:
            try:
                guarded = await AsyncGuarded.start(
                    order, stdin=stdin, stdout=stdout.writing, stderr=stderr.writing
                )
            except Refused as refused:
                raise refusal(spec, refused) from refused
            finally:
                stdout.release()
                stderr.release()
            started, since = datetime.now(UTC), time.monotonic()
            if on_start is not None:
                on_start(guarded.pid)
            if stopping is not None:
                stopping(guarded.ask)
            status, timed_out = await guarded.wait(timeout)
            finished, duration = datetime.now(UTC), time.monotonic() - since
            await asyncio.wait({stdout.task, stderr.task}, timeout=STRAY_WRITER)
    code = os.waitstatus_to_exitcode(status)
    return ProcessOutcome(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        stdout=stdout.text(),
        stderr=stderr.text(),
        stdout_truncated=stdout.truncated,
        stderr_truncated=stderr.truncated,
        timed_out=timed_out,
        started=started,
        finished=finished,
        duration=duration,
    )


def refusal(spec: ProcessSpec, refused: Refused) -> ProcessRefused:
    """The guard's refusal in the words of the action's fields."""
    where = {"exec": "command", "guard": "command", "session": "command"}
    name = where.get(refused.step, refused.step)
    value = spec.command[0] if name == "command" else getattr(spec, name)
    reason = REASONS.get(refused.errno, str(refused))
    return ProcessRefused(
        f"The process was not started: {name}: {reason}.", field=name, value=value
    )
