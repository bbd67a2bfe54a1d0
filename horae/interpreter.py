"""How the interpreter of a process that serves, or that reads many schedules, is set."""

from __future__ import annotations

import gc
import sys

SWITCH = 0.001
"""Seconds after which the engine's thread and the loop make room for each other; Python's 5 ms
would be the lateness of every handler beside a busy loop."""

YOUNG, MIDDLE, OLD = 50_000, 50, 100
"""Thresholds of the garbage collector: a batch allocates tens of thousands of small tuples and
structs, which reference counts free; at the interpreter's own thresholds a fifth of the time of a
burst goes into looking for cycles among them."""


def tune() -> None:
    """Set both; what has been imported so far is never looked at again."""
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
