"""What is used of limits, in memory; the same rules as the tables of the other stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from horae_application.ports import Batch, Crowded, Setting, Usage, Use
from horae_domain.limits import counts_until
from horae_infrastructure.store.common import limits_something


class LimitsInMemory:
    """Settings, what runs, and what has begun lately, by key."""

    def __init__(self) -> None:
        self._settings: dict[str, Setting] = {}
        self._running: Counter[str] = Counter()
        self._starts: dict[str, Counter[int]] = {}
        self._waiting: dict[str, Mapping[str, int]] = {}

    def take(self, batch: Batch) -> None:
        """Count what a batch uses, and set what it sets.

        Raises:
            Crowded: nothing was changed.
        """
        crowded = [use.key for use in batch.uses if use.starts and self._crowded(use, batch.at)]
        if crowded:
            raise Crowded(crowded)
        for setting in batch.settings:
            self._settings[setting.key] = setting
        for use in batch.uses:
            self._running[use.key] += use.change
            setting_ = self._settings.get(use.key)
            if use.starts and setting_ is not None and setting_.per is not None:
                until = counts_until(batch.at, setting_.per)
                self._starts.setdefault(use.key, Counter())[until] += use.starts
            self._forget(use.key, batch.at)

    def usages(self, owner: str, waiting: Mapping[str, int], alive: Collection[str]) -> list[Usage]:
        """What limits something, and what waits at others than the owner that asks."""
        self._waiting[owner] = dict(waiting)
        others = [self._waiting.get(each, {}) for each in alive if each != owner]
        return [
            Usage(
                setting,
                self._running[key],
                sorted(self._starts.get(key, {}).items()),
                min((heads[key] for heads in others if key in heads), default=None),
            )
            for key, setting in self._settings.items()
            if limits_something(setting)
        ]

    def _crowded(self, use: Use, at: int) -> bool:
        setting = self._settings.get(use.key)
        if setting is None:
            return False
        running = self._running[use.key] + use.most
        full = setting.concurrency is not None and running > setting.concurrency
        begun = _count(self._starts.get(use.key, Counter()).items(), at)
        fast = setting.rate is not None and begun + use.starts > setting.rate
        return setting.paused or full or fast

    def _forget(self, key: str, at: int) -> None:
        starts = self._starts.get(key)
        if starts:
            self._starts[key] = Counter({until: n for until, n in starts.items() if until > at})


def _count(starts: Iterable[tuple[int, int]], at: int) -> int:
    return sum(count for until, count in starts if until > at)
