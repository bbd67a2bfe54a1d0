"""Names of processes."""

from __future__ import annotations

import os
import socket
from uuid import uuid4


def process_name() -> str:
    """A name for a part of this process that no other one has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
