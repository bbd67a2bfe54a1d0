"""Keeps a view at the head of the log, and builds it anew when it has to.

The position is stored with the rows, in one atomic step that is refused unless the view stands
where this projector left it; so any number of projectors may run, and a view that was emptied,
replaced or left behind is noticed with the next step, or within `IDLE` seconds.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from horae_domain.codec import Undecodable, decode
from horae_domain.errors import reason_of
from horae_domain.events import Event
from horae_domain.positions import Position, parse_position
from horae_projections.fold import project
from horae_projections.pacing import Pacing
from horae_projections.ports import Change, Key, LogReader, LogRow, StaleProjector, Step, ViewStore
from horae_projections.rows import FORMAT
from horae_projections.sheet import Sheet

IDLE = 1.0
"""Seconds between looks at the log and at the view while nothing is heard of either."""
PAGE = 2000
"""Events read from the log at once."""
STEP = 50
"""Events in one atomic step: at most about a millisecond of the view's server."""
BURST = 4
"""Steps sent before their answers are awaited."""
HINTS = 20_000
"""Events handed over that are kept; when there are more, they are read from the log."""
BACKOFF = (0.05, 2.0)
"""Seconds until the next try after a failure: at first, and at most."""

Item = tuple[int, Event | None]
"""An event with its number; None for one that cannot be decoded."""

_log = structlog.wrap_logger(
    logging.getLogger("horae.projector"),
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    wrapper_class=structlog.stdlib.BoundLogger,
)
"""To the standard library; without the program's will nothing goes to standard output."""


class Projector:
    """Projects one log into one view store.

    Args:
        log: read in threads, never on the event loop.
        views: where the rows go.
        idle: seconds after which a silent view is looked at.
        alone: True if every event comes by `hint`, because nobody else writes the log; then it is
            read only to begin, and where hints were dropped.
        behind: true while the engine of this process has not begun what is due; it goes first.
    """

    def __init__(
        self,
        log: LogReader,
        views: ViewStore,
        *,
        idle: float = IDLE,
        alone: bool = False,
        behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log = log
        self._views = views
        self._idle = idle
        self._alone = alone
        self._pacing = Pacing(behind)
        self._sheet = Sheet()
        self._version: str | None = None
        self._at: Position | None = None
        self._head = 0
        self._hints: deque[Item] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._moved = asyncio.Condition()
        self._waiting: asyncio.Task[bool] | None = None
        self._wanted = False
        self._building = False
        self._undecodable: dict[str, int] = {}
        self._error: str | None = None
        self.rebuilding = False
        """True while there is nothing that queries could read."""
        self.rebuilds = 0
        """How often a view was built from nothing."""

    # --- from outside -----------------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """Where the view stands, as far as this projector knows; None before it has begun."""
        return self._at

    @property
    def lag(self) -> int:
        """How many events the view is behind the head of the log that is known here."""
        return max(0, self._head - (self._at.number if self._at else 0))

    def hint(self, positions: Sequence[int], events: Sequence[Event]) -> None:
        """Events have just become durable; from any thread, in order.

        They need not be read from the log where they continue what has been projected.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self._take_hint, positions, events)

    def _take_hint(self, positions: Sequence[int], events: Sequence[Event]) -> None:
        if len(self._hints) + len(events) > HINTS:
            self._hints.clear()
        self._hints.extend(zip(positions, events, strict=True))
        self._head = max(self._head, positions[-1])
        self._news.set()

    def rebuild(self) -> None:
        """Build the view from nothing, beside the one that answers meanwhile, then swap."""
        self._wanted = True
        self._news.set()

    async def reached(self, position: Position, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until the view has seen a position; False after `timeout` seconds."""
        try:
            with self._pacing.awaited():
                async with self._moved, asyncio.timeout(timeout):
                    await self._moved.wait_for(
                        lambda: (
                            not self._building
                            and self._at is not None
                            and position.reached_by(self._at)
                        )
                    )
        except TimeoutError:
            return False
        return True

    def health(self) -> dict[str, Any]:
        """State for the health query: position, lag, and what went wrong."""
        issues = [
            {"severity": "error", "message": f"{count} events of kind {name} cannot be decoded"}
            for name, count in self._undecodable.items()
        ]
        if self._error is not None:
            issues.append({"severity": "error", "message": self._error})
        if self.rebuilding:
            issues.append({"severity": "warning", "message": "the view is being rebuilt"})
        return {
            "status": "down" if self._error is not None else "up",
            "position": str(self._at) if self._at else None,
            "lag": self.lag,
            "rebuilding": self.rebuilding,
            "issues": issues,
        }

    async def run(self) -> None:
        """Project until cancelled; failures are reported in `health` and tried again."""
        self._loop = asyncio.get_running_loop()
        pause = BACKOFF[0]
        while True:
            try:
                await self._open()
                pause = BACKOFF[0]
                self._head = await asyncio.to_thread(self._log.head)
                while not self._wanted:
                    await self._advance()
                    self._error = None
                    await self._wait()
            except StaleProjector as stale:
                _log.info("view stands elsewhere", expected=str(self._at), current=stale.current)
            except Exception as error:  # noqa: BLE001 - recorded, and tried again
                if self._error is None:
                    _log.warning("projection interrupted", error=repr(error))
                self._error = f"{type(error).__name__}: {reason_of(error)}"
                await asyncio.sleep(pause)
                pause = min(2 * pause, BACKOFF[1])

    async def catch_up(self) -> Position:
        """Project up to the present head of the log, then return where the view stands."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                if self._at is None or self._wanted or not await self._in_place():
                    await self._open()
                await self._advance()
            except StaleProjector:
                continue
            assert self._at is not None  # noqa: S101 - _open has set it
            return self._at

    # --- one session ------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Find the view that is live, or build one if none can be used."""
        self._sheet.clear()
        await self._views.check()
        self._head = await asyncio.to_thread(self._log.head)
        live = await self._views.live()
        at = await self._standing(live)
        usable = at is not None and self._usable(at)
        if usable and not self._wanted and live is not None and _format_of(live) == FORMAT:
            self._version, self._at = live, at
            self.rebuilding = False
            return
        if not usable and live is not None:
            # What it holds is not of this history: better no answer than a wrong one.
            await self._views.publish(None, instead_of=live)
            live = None
        self.rebuilding = live is None
        await self._build(live)

    async def _standing(self, version: str | None) -> Position | None:
        stored = await self._views.position(version) if version is not None else None
        return parse_position(stored) if stored is not None else None

    def _usable(self, at: Position) -> bool:
        return at[:2] == (self._log.identity, 0) and at.number <= self._head

    async def _build(self, live: str | None) -> None:
        """Project everything into a new version and make it the live one."""
        self._wanted = False
        self._version = f"{FORMAT}-{uuid.uuid4().hex[:12]}"
        self._at = Position(self._log.identity, 0, 0)
        _log.info("view is built anew", version=self._version, beside=live)
        await self._views.apply(self._version, [Step(None, str(self._at), ())])
        self.rebuilds += 1
        self._building = True
        try:
            await self._advance()
            behind = await self._standing(live)
            if behind is not None and self._usable(behind) and self._at.number < behind.number:
                await self._advance()
            swapped = await self._views.publish(self._version, instead_of=live)
        except BaseException:
            self._at = None
            raise
        finally:
            self._building = False
        if not swapped:
            await self._views.drop(self._version)
            raise StaleProjector(None)
        self.rebuilding = False
        await self._move(self._at)

    async def _in_place(self) -> bool:
        """Whether the view still stands where this projector left it, and is the live one."""
        assert self._version is not None  # noqa: S101 - set with the position
        return (
            self._same_store()
            and await self._views.live() == self._version
            and await self._standing(self._version) == self._at
        )

    def _same_store(self) -> bool:
        """False once another server has taken the place of the one that the view was built of."""
        return self._at is None or self._at.store == self._log.identity

    # --- events -----------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Project until nothing more is in the log."""
        while True:
            items = self._handed_over()
            if not items and (not self._alone or self._head > self._number()):
                items = await self._read()
            if not items:
                return
            await self._project(items)

    def _number(self) -> int:
        assert self._at is not None  # noqa: S101 - a session has begun
        return self._at.number

    def _handed_over(self) -> list[Item]:
        """Hints that continue the present position without a gap."""
        number = self._number()
        while self._hints and self._hints[0][0] <= number:
            self._hints.popleft()
        items: list[Item] = []
        while self._hints and self._hints[0][0] == number + len(items) + 1 and len(items) < PAGE:
            items.append(self._hints.popleft())
        return items

    async def _read(self) -> list[Item]:
        rows = await asyncio.to_thread(self._log.read, self._number(), PAGE)
        if rows:
            self._head = max(self._head, rows[-1].position)
        items = []
        for index, row in enumerate(rows):
            items.append((row.position, self._decode(row)))
            if index % 200 == 199:  # noqa: PLR2004 - about a millisecond of the event loop
                await asyncio.sleep(0)
        return items

    def _decode(self, row: LogRow) -> Event | None:
        try:
            return decode(row.name, row.state)
        except Undecodable as error:
            self._undecodable[row.name] = self._undecodable.get(row.name, 0) + 1
            _log.error("event cannot be decoded", position=row.position, error=str(error))
            return None

    async def _project(self, items: list[Item]) -> None:
        """Project a stretch in steps; while one burst is sent, the next one is folded."""
        assert self._version is not None  # noqa: S101 - a session has begun
        if not self._same_store():
            raise StaleProjector(None)
        at, sent, loop = self._at, None, asyncio.get_running_loop()
        try:
            for first in range(0, len(items), STEP * BURST):
                began = loop.time()
                steps = await self._steps(at, items[first : first + STEP * BURST])
                at = parse_position(steps[-1].position)
                if sent is not None:
                    await sent
                sent = asyncio.create_task(self._send(steps, at))
                await self._pacing.give_way(began)
            if sent is not None:
                await sent
        except BaseException:
            self._sheet.clear()
            if sent is not None:
                sent.cancel()
                await asyncio.gather(sent, return_exceptions=True)
            raise
        self._sheet.trim()

    async def _bring(self, missing: list[Key]) -> None:
        """Put rows of the view into the sheet."""
        assert self._version is not None  # noqa: S101 - a session has begun
        stored = await self._views.load(self._version, missing) if missing else []
        for key, row in zip(missing, stored, strict=True):
            self._sheet.put(key, row)

    async def _steps(self, at: Position | None, items: list[Item]) -> list[Step]:
        """What follows from a burst; between two steps the event loop has other things to do."""
        events = [event for _, event in items if event is not None]
        await self._bring(self._sheet.missing(events))
        await self._bring(self._sheet.missing_queues(events))
        steps = []
        for first in range(0, len(items), STEP):
            chunk = items[first : first + STEP]
            after = Position(self._log.identity, 0, chunk[-1][0])
            steps.append(Step(str(at), str(after), self._changes(chunk)))
            at = after
            await asyncio.sleep(0)
        return steps

    def _changes(self, items: list[Item]) -> list[Change]:
        for number, event in items:
            if event is not None:
                project(self._sheet, number, event)
        return self._sheet.collect()

    async def _send(self, steps: list[Step], after: Position) -> None:
        assert self._version is not None  # noqa: S101 - a session has begun
        await self._views.apply(self._version, steps)
        await self._move(after)

    async def _move(self, at: Position) -> None:
        self._at = at
        async with self._moved:
            self._moved.notify_all()

    # --- waiting ----------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until something was handed over or written; a silence is used to look at the view.

        Raises:
            StaleProjector: the view is not where it was left.
        """
        if self._alone:
            await self._wait_for_hint()
            return
        if self._waiting is None:
            self._waiting = asyncio.create_task(
                asyncio.to_thread(self._log.wait, self._number(), self._idle)
            )
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({self._waiting, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        self._news.clear()
        if self._waiting.done():
            silent = not self._waiting.result()
            self._waiting = None
            if silent and not self._hints and not await self._in_place():
                raise StaleProjector(None)
        await self._pacing.gather()

    async def _wait_for_hint(self) -> None:
        try:
            async with asyncio.timeout(self._idle):
                await self._news.wait()
        except TimeoutError:
            self._head = await asyncio.to_thread(self._log.head)
            if not self._hints and not await self._in_place():
                raise StaleProjector(None) from None
        self._news.clear()
        await self._pacing.gather()


def _format_of(version: str) -> int:
    return int(version.partition("-")[0])
