"""Ids that are functions of what they name, so that the store's unique key refuses a second one.

All are 128 bits, written as a UUID. The first byte is the partition; executions with an instant go
on with 48 bits of its milliseconds, so that an index over them grows at one end a partition.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

from horae_domain.instants import to_micros

PARTITIONS = 64
_BY_FIRST_BYTE = {f"{byte:02x}": byte % PARTITIONS for byte in range(256)}
REQUESTS = 0xFF
"""The first byte of the streams of requests, which are in no partition."""
NOWHERE = "00000000-0000-0000-0000-000000000000"
"""An id that comes before all others."""


def to_text(raw: bytes) -> str:
    """The id of 16 bytes, which sort as their texts do."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def to_bytes(id_: str) -> bytes:
    """The 16 bytes of an id."""
    return bytes.fromhex(id_.replace("-", ""))


def _digest(size: int, *parts: str) -> bytes:
    hasher = _begun(size, parts[:-1]).copy()
    for last in parts[-1:]:
        hasher.update(_framed(last))
    return hasher.digest()


@lru_cache(maxsize=8192)
def _begun(size: int, parts: tuple[str, ...]) -> blake2b:
    """What digests of the same first parts have in common; to be copied."""
    return blake2b(b"".join([_framed(part) for part in parts]), digest_size=size)


def _framed(part: str) -> bytes:
    text = part.encode()
    return len(text).to_bytes(4, "big") + text


@lru_cache(maxsize=8192)
def partition_of(tenant: str, schedule_id: str) -> int:
    """The partition in which a schedule, its executions and its waits live."""
    return _digest(1, tenant, schedule_id)[0] % PARTITIONS


@lru_cache(maxsize=8192)
def schedule_stream(tenant: str, schedule_id: str) -> str:
    """The stream of a schedule, over all its incarnations."""
    partition = partition_of(tenant, schedule_id)
    return to_text(bytes([partition]) + _digest(15, "schedule", tenant, schedule_id))


def execution_id(
    tenant: str, schedule_id: str, incarnation: int, kind: str, key: str, instant: datetime | None
) -> str:
    """The id of the execution that `key` of `kind` stands for; also the id of its stream."""
    digest = _digest(15, "execution", tenant, schedule_id, str(incarnation), kind, key)
    if instant is not None:
        millis = max(0, to_micros(instant) // 1000)
        digest = (millis & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + digest[:9]
    return to_text(bytes([partition_of(tenant, schedule_id)]) + digest)


@lru_cache(maxsize=8192)
def command_id(tenant: str, key: str) -> str:
    """The id of the schedule of the command that was scheduled under an idempotency key.

    It has 21 characters, the most that fit into the smaller size of an entry in Valkey's orders.
    """
    return f"c{urlsafe_b64encode(_digest(15, 'command', tenant, key)).decode()}"


@lru_cache(maxsize=8192)
def request_stream(tenant: str, command: str, key: str) -> str:
    """The stream that holds the first answer to an idempotency key."""
    return to_text(bytes([REQUESTS]) + _digest(15, "request", tenant, command, key))


def is_request(stream: str) -> bool:
    """True of the streams that `request_stream` gives."""
    return stream.startswith(f"{REQUESTS:02x}")


@lru_cache(maxsize=8192)
def limits_stream(tenant: str, queue: str | None) -> str:
    """The stream of a queue, or of a tenant's own limits; its first byte is the partition."""
    kind = ("tenant", tenant) if queue is None else ("queue", tenant, queue)
    digest = _digest(16, *kind)
    return to_text(bytes([digest[0] % PARTITIONS]) + digest[1:])


@lru_cache(maxsize=8192)
def external_event_stream(tenant: str, source: str, event_id: str) -> str:
    """The stream of an external event, so that the same one is recorded once."""
    return to_text(b"\xfe" + _digest(15, "event", tenant, source, event_id))


def tail_stream(partition: int) -> str:
    """What the ledger keeps under it: how much of the log a partition knows."""
    return to_text(bytes([partition]) + _digest(15, "tail"))


def is_external(stream: str) -> bool:
    """True if it is the stream of an external event."""
    return stream.startswith("fe")


def listener_stream(stream: str, execution_id: str | None) -> str:
    """What the ledger keeps under it: what a schedule, or one of its executions, listens for."""
    digest = _digest(15, "listener", stream, execution_id or "")
    return to_text(bytes([partition_of_stream(stream)]) + digest)


@lru_cache(maxsize=1024)
def erasure_stream(tenant: str, schedule_id: str) -> str:
    """The stream that says what was erased of a schedule's executions."""
    partition = partition_of(tenant, schedule_id)
    return to_text(bytes([partition]) + _digest(15, "erasure", tenant, schedule_id))


def partition_of_stream(stream: str) -> int:
    """The partition of a schedule's or an execution's stream."""
    return _BY_FIRST_BYTE[stream[:2]]


def request_hash(body: bytes) -> str:
    """Fingerprint by which two requests under one idempotency key are compared."""
    return blake2b(body, digest_size=16).hexdigest()


def fraction(*parts: str) -> float:
    """A number in [0, 1) that is a function of the parts: jitter without randomness."""
    return int.from_bytes(_digest(6, *parts), "big") / 2.0**48
