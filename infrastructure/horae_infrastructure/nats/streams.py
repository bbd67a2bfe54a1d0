"""The streams of Horae: made when they are missing, brought to their settings when they differ."""

from __future__ import annotations

import msgspec
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo

WORK = "HORAE_WORK"
EVENTS = "HORAE_EVENTS"
COMMANDS = "HORAE_COMMANDS"
INBOX = "HORAE_INBOX"
EVENTS_SUBJECT = "horae.*.event.>"

DUPLICATE_WINDOW = 600.0
"""Seconds in which a message sent again is recognised; more than any retry of a publish."""
_OTHER_CONFIGURATION = 10058
"""JetStream's error code: the name is in use with a different configuration."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator chooses about the streams."""

    replicas: int = 1
    """Copies in a cluster: 1, 3 or 5."""
    work_max_bytes: int = 1024**3
    """Beyond, work waits in the engine until some has been done."""
    events_max_age: float = 7 * 86_400.0
    """Seconds that events stay in their stream; the history itself is in the event store."""
    events_max_bytes: int = 1024**3
    commands_max_age: float = 7 * 86_400.0
    """Seconds that a service has for commands that nobody waits for."""
    commands_max_bytes: int = 1024**3
    inbox_max_bytes: int = 1024**3
    """Beyond, publishers of external events are refused until engines have taken some."""


def work_stream(settings: StreamSettings) -> StreamConfig:
    """`HORAE_WORK`: each message goes to one executor and is gone once it is acknowledged."""
    return StreamConfig(
        name=WORK,
        description="Work for executors in other processes and languages",
        subjects=["horae.*.work.*.*", "horae.*.function.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,
        max_bytes=settings.work_max_bytes,
        num_replicas=settings.replicas,
        duplicate_window=DUPLICATE_WINDOW,
    )


def events_stream(settings: StreamSettings) -> StreamConfig:
    """`HORAE_EVENTS`: what happened, as CloudEvents; the oldest go first."""
    return StreamConfig(
        name=EVENTS,
        description="Events of Horae as CloudEvents",
        subjects=[EVENTS_SUBJECT],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=settings.events_max_age,
        max_bytes=settings.events_max_bytes,
        num_replicas=settings.replicas,
        duplicate_window=min(DUPLICATE_WINDOW, settings.events_max_age),
        allow_atomic=True,
        allow_direct=True,
    )


def commands_stream(settings: StreamSettings) -> StreamConfig:
    """`HORAE_COMMANDS`: commands to services that nobody waits for; the oldest go first."""
    return StreamConfig(
        name=COMMANDS,
        description="Commands of Horae to services, fire-and-forget",
        subjects=["horae.*.send.>"],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        max_age=settings.commands_max_age,
        max_bytes=settings.commands_max_bytes,
        num_replicas=settings.replicas,
        duplicate_window=min(DUPLICATE_WINDOW, settings.commands_max_age),
    )


def inbox_stream(settings: StreamSettings, subjects: list[str]) -> StreamConfig:
    """`HORAE_INBOX`: external events until an engine has recorded them."""
    return StreamConfig(
        name=INBOX,
        description="External events on their way to Horae",
        subjects=subjects,
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,
        max_bytes=settings.inbox_max_bytes,
        num_replicas=settings.replicas,
        duplicate_window=DUPLICATE_WINDOW,
    )


async def ensure(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    """The stream, made or brought to `config` if needed; whoever else does so at once wins too.

    Raises:
        nats.errors.Error: JetStream does not answer, or refuses.
    """
    try:
        return await js.add_stream(config)
    except nats.js.errors.APIError as error:
        if error.err_code != _OTHER_CONFIGURATION:
            raise
        return await js.update_stream(config)


def identity(info: StreamInfo) -> str:
    """Of this making of the stream: another one if its storage was wiped and it was made again."""
    return "" if info.created is None else info.created.isoformat()
