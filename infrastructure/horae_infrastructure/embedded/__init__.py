"""Servers from wheels as child processes: NATS, Valkey and PostgreSQL on this machine alone.

Each has a data directory of its own, is reached through loopback or a private socket, and leaves
nothing running: see `horae_infrastructure.guard`. They need the extra `horae[embedded]`.
"""

from horae_infrastructure.embedded.nats import Nats
from horae_infrastructure.embedded.postgres import Postgres
from horae_infrastructure.embedded.server import (
    EmbeddedServer,
    EmbeddedServerFailed,
    EmbeddedServerMissing,
)
from horae_infrastructure.embedded.valkey import Valkey

__all__ = [
    "EmbeddedServer",
    "EmbeddedServerFailed",
    "EmbeddedServerMissing",
    "Nats",
    "Postgres",
    "Valkey",
]
