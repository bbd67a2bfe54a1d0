"""Errors of the command line itself, and those of others as it shows them."""

from __future__ import annotations

from horae_domain.errors import HoraeError, InvalidField, Unavailable


class AppNotFound(HoraeError):
    """`APP` does not name a `Horae` object that can be imported."""

    code = "app_not_found"
    status = 400


class FileUnreadable(HoraeError):
    """A file that a command was given cannot be read."""

    code = "file_unreadable"
    status = 400


class NoEngine(Unavailable):
    """Nobody said where the engine is, and none runs here."""

    code = "no_engine"


class AlreadyRunning(HoraeError):
    """Another `horae dev` works in this data directory."""

    code = "already_running"
    status = 409


EXPECTED = (HoraeError, OSError)
"""What a command may meet without being at fault."""


def as_refusal(error: Exception) -> HoraeError:
    """The error with a code, a field and a message."""
    match error:
        case HoraeError():
            return error
        case OSError():
            return FileUnreadable(str(error))
        case _:
            return InvalidField(str(error))
