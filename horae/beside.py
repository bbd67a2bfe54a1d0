"""A computation in a process of its own, beside this one."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin a computation that touches nothing outside itself; what is returned waits for its result.

    The process is a copy of this one, so that nothing is handed over but the result, which has to
    be pickled: call it before there are other threads. Where systems do not copy processes safely,
    or the copy was killed, it is computed when it is waited for.
    """
    if sys.platform != "linux":
        return work
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, work), daemon=True)
    process.start()
    sending.close()

    def result() -> T:
        try:
            found: T = receiving.recv()
        except EOFError:
            found = work()
        process.join()
        receiving.close()
        return found

    return result


def _send(sending: Connection, work: Callable[[], T]) -> None:
    sending.send(work())
