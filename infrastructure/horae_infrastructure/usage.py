"""What this process uses of the machine, as Linux counts it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessUsage:
    """Memory and processor time of this process; children of its own are not in it."""

    def memory(self) -> int:
        """Resident bytes."""
        return int(_STATM.read_text().split()[1]) * _PAGE

    def cpu(self) -> float:
        """Seconds of processor time so far, over all threads."""
        return time.process_time()
