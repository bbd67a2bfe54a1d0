"""Run one command so that nothing of it outlives whoever asked for it: a program, not a module.

`guarded.launch` starts it as a process of its own, `python -I -S guard.py CONTROL`, and sends an
order, one line of JSON, through the socket CONTROL. The guard starts the command in a session of
its own and answers with lines of JSON: `{"pid": 7}` or `{"refused": "exec", "errno": 2}`, then
`{"status": 256}` (a wait status). The command is stopped (the order's signal, then SIGKILL after
`grace` seconds) when the socket is shut down or closed, when the parent has gone, or when the
guard is asked to terminate; a byte `k` kills at once, a byte `t` sends the order's signal alone. When the command has ended, all that it left
behind is killed, in whatever session it hides, and the order's sockets and directories are removed.

Why a process between: a death signal (`PR_SET_PDEATHSIG`) fires when the *thread* that forked
ends, is cleared when the user changes, and reaches one process, not its children. The guard has
one thread, is the subreaper of all that its command starts, and sets the death signal of the
command after the change of user, so that a guard that is killed takes its command with it.

It imports no more than it needs of the standard library, because every start waits for it.
"""
# ruff: noqa: PTH112, PTH118, PTH123, PTH208 - importing pathlib would take longer than all the rest

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
import warnings  # noqa: F401 - os.execvpe wants it when the new user may not read it any more

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Message = dict[str, Any]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIMITS = {
    "cpu": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "files": resource.RLIMIT_NOFILE,
}
STOPPING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process.

    Raises:
        OSError: the kernel refused.
    """
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def main(control: int) -> None:
    """Receive the order, carry it out, clean up behind it."""
    os.set_inheritable(control, False)
    order = receive(control)
    if order is None:
        return
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    lock = order["lock"]
    if lock is not None:
        os.set_inheritable(lock, False)
    wakeup = catch_signals()
    child, refusal = spawn(order)
    if refusal is not None:
        tell(control, refusal)
        return
    if lock is not None:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{child}\n".encode(), 0)
    tell(control, {"pid": child})
    status, stopped = Watch(control, wakeup, child, order).run()
    sweep()
    remove(order["remove"] + (order["discard"] if stopped else []))
    if lock is not None:
        os.ftruncate(lock, 0)
    tell(control, {"status": status})


def receive(control: int) -> Message | None:
    """The order, or None if the parent went away before it had sent it."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(control, 65536)
        if not chunk:
            return None
        line += chunk
    order: Message = json.loads(line)
    return order


def tell(control: int, message: Message) -> None:
    """Answer the parent, unless it has gone."""
    with contextlib.suppress(OSError):
        os.write(control, json.dumps(message).encode() + b"\n")


def catch_signals() -> int:
    """Turn the signals that matter into bytes on a pipe; returns its reading end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in STOPPING | {signal.SIGCHLD}:
        signal.signal(number, lambda *_: None)
    return reading


def spawn(order: Message) -> tuple[int, Message | None]:
    """Start the command; the second value says which step was refused, None if none was."""
    guard = os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        become(order, guard, writing)
    os.close(writing)
    # The pipe closes on a successful exec, else it carries the step and the error number.
    with open(reading, encoding="ascii") as pipe:
        answer = pipe.read()
    if not answer:
        return child, None
    os.waitpid(child, 0)
    step, number = answer.split()
    return child, {"refused": step, "errno": int(number)}


def become(order: Message, guard: int, report: int) -> None:
    """In the child: take on the order's session, user, directory and limits, then the command."""
    step = "session"
    try:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        step = "user"
        if order["user"] is not None:
            os.setgroups(order["user"]["groups"])
            os.setgid(order["user"]["gid"])
            os.setuid(order["user"]["uid"])
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        step = "cwd"
        os.chdir(order["cwd"])
        step = "limits"
        for name, value in order["limits"].items():
            bound(LIMITS[name], value)
        step = "exec"
        os.execvpe(order["command"][0], order["command"], order["env"])  # noqa: S606 - the order
    except Exception as error:  # noqa: BLE001 - such as a zero byte in an argument; all are told
        number = getattr(error, "errno", None) or errno.EINVAL
        os.write(report, f"{step} {number}".encode())
    finally:
        os._exit(127)


def bound(limit: int, value: int) -> None:
    """Lower a limit of this process to the value, as far as it is not lower already."""
    hard = resource.getrlimit(limit)[1]
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    soft = min(value, most)
    # At the soft limit of CPU comes SIGXCPU, which tells what happened, at the hard one SIGKILL.
    resource.setrlimit(limit, (soft, min(soft + (limit == resource.RLIMIT_CPU), most)))


class Watch:
    """Wait for the end of the command, and bring it about when that is asked for."""

    def __init__(self, control: int, wakeup: int, child: int, order: Message) -> None:
        self.control, self.wakeup, self.child, self.order = control, wakeup, child, order
        self.deadline: float | None = None
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.poll.register(wakeup, select.POLLIN)
        # The socket may live on in a process that the parent forked; this tells of the parent.
        self.parent = -1
        with contextlib.suppress(OSError):
            self.parent = os.pidfd_open(os.getppid())
            self.poll.register(self.parent, select.POLLIN)

    def run(self) -> tuple[int, bool]:
        """The command's wait status, and whether it was asked to stop."""
        while True:
            status = reap(self.child)
            if status is not None:
                return status, self.deadline is not None
            wait = None
            if self.deadline is not None:
                wait = max(0.0, self.deadline - time.monotonic()) * 1000
            events = self.poll.poll(wait)
            if not events:
                self.signal(signal.SIGKILL)
                self.deadline = time.monotonic() + 1
            for fd, _ in events:
                self.on(fd)

    def on(self, fd: int) -> None:
        """React to the parent's word or end, or to a signal."""
        if fd == self.wakeup:
            if STOPPING & set(os.read(fd, 512)):
                self.stop()
            return
        word = self.heard() if fd == self.control else b""
        if word == b"k":
            self.signal(signal.SIGKILL)
        elif word == b"t":
            self.signal(self.order["stop_signal"])
        else:
            self.poll.unregister(fd)
            self.stop()

    def heard(self) -> bytes:
        """The parent's next word, empty at its end."""
        try:
            return os.read(self.control, 1)
        except OSError:
            return b""

    def stop(self) -> None:
        """Ask the command to end; once."""
        if self.deadline is None:
            self.signal(self.order["stop_signal"])
            self.deadline = time.monotonic() + self.order["grace"]

    def signal(self, number: int) -> None:
        """Send a signal to the command's group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, number)


def reap(child: int) -> int | None:
    """Collect whatever has died; the child's wait status if it is among it."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return status
        if pid == 0:
            return None


def sweep() -> None:
    """Kill and collect all that the command left behind; it was handed to us, the subreaper."""
    while True:
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def children() -> list[int]:
    """The living and dead children of this process."""
    own = str(os.getpid()).encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                if stat.read().rpartition(b")")[2].split()[1] == own:
                    found.append(int(name))
    return found


def remove(paths: list[str]) -> None:
    """Remove files and directory trees, as far as they are there."""
    for path in paths:
        for root, directories, files in os.walk(path, topdown=False):
            for name in files:
                drop(os.unlink, os.path.join(root, name))
            for name in directories:
                drop(os.rmdir, os.path.join(root, name))
        drop(os.rmdir if os.path.isdir(path) else os.unlink, path)


def drop(how: Callable[[str], None], path: str) -> None:
    """Remove one path in the given way, if it is there."""
    with contextlib.suppress(OSError):
        how(path)


if __name__ == "__main__":
    main(int(sys.argv[1]))
