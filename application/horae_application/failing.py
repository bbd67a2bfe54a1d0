"""What fails at present, so that the log tells when that begins, changes and ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

KEPT = 10_000
"""Failures that are remembered, the last ones."""


class Failing:
    """Failures by what fails; of one thing after the other, whoever asks it."""

    def __init__(self) -> None:
        self._reasons: OrderedDict[Hashable, str] = OrderedDict()

    def fails(self, key: Hashable, reason: str) -> bool:
        """True if that is news: it worked before, or failed for another reason."""
        known = self._reasons.pop(key, None) == reason
        self._reasons[key] = reason
        if len(self._reasons) > KEPT:
            self._reasons.popitem(last=False)
        return not known

    def works(self, key: Hashable) -> bool:
        """True if that is news: it failed before."""
        return self._reasons.pop(key, None) is not None
