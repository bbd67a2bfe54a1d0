"""Horae over NATS: requests, forwarding, work for executors elsewhere, and events out.

Subjects, streams and headers are listed in `subjects`. It needs the extra `horae[nats]`.
"""

from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.forward import NatsForwarder, NatsReceiver, engine_address
from horae_infrastructure.nats.service import NatsService

__all__ = [
    "NatsCaller",
    "NatsForwarder",
    "NatsReceiver",
    "NatsService",
    "close",
    "connect",
    "engine_address",
]
