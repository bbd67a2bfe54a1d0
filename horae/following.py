"""Tells an engine when the log grows by what others write."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack

from horae_application.engine import Engine
from horae_application.ports import PARTITIONS, EventStore, StoreError

WAIT = 1.0
"""Seconds that one look at the log may wait."""
PAUSE = 0.01
"""Seconds between two hints."""


def follow(stack: AsyncExitStack, engine: Engine, store: EventStore) -> None:
    """Give the engine hints until the stack unwinds; its own look each second is the guarantee."""
    stopping = threading.Event()

    def run() -> None:
        head = 0
        while not stopping.is_set():
            if len(engine.ownership.epochs) == PARTITIONS:  # nobody else can write anything
                stopping.wait(WAIT)
                continue
            try:
                if store.wait(head, WAIT):
                    head = store.head()
                    engine.hear()
            except StoreError:
                stopping.wait(WAIT)
            stopping.wait(PAUSE)

    threading.Thread(target=run, name="horae-tail", daemon=True).start()
    stack.callback(stopping.set)
