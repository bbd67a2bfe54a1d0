"""Every error that a caller of Horae can meet, as one tree.

```
HoraeError                      code, field, value, details; what a wire reply carries
├── InvalidField                400 invalid_field        a field's value breaks its rule
│   ├── InvalidTrigger          400 invalid_trigger      a schedule that cannot be evaluated
│   ├── InvalidExpression       400 invalid_expression   a text that is no usable expression
│   ├── ExpressionFailed        400 expression_failed    an expression cannot judge this data
│   ├── PayloadTooLarge         400 payload_too_large    over 1 MiB of JSON
│   ├── BaggageTooLarge         400 baggage_too_large    over 8 KiB, or 64 members
│   ├── UnknownHandler          400 unknown_handler      nobody serves the named handler
│   └── UnknownCommand          400 unknown_command      the application has no such command
├── NotPermitted                403 not_permitted        who asks may not ask for this
├── NotFound                    404
│   ├── ScheduleNotFound        404 schedule_not_found
│   ├── ExecutionNotFound       404 execution_not_found
│   ├── TimerNotFound           404 timer_not_found      nothing waits under this id any more
│   ├── CommandNotFound         404 command_not_found
│   └── QueueNotFound           404 queue_not_found
├── Conflict                    409
│   ├── ScheduleExists          409 schedule_exists      the id is taken by other content
│   ├── RevisionConflict        409 revision_conflict    expected_revision is not the current one
│   ├── IdempotencyConflict     409 idempotency_conflict the key was used with another request
│   ├── IllegalState            409 illegal_state        the command does not fit the state
│   ├── ChainTooDeep            409 chain_too_deep       schedules that make each other end here
│   └── StaleLease              409 stale_lease          the work was handed to somebody else
├── TooManyRequests             429 too_many_requests    not done: a limit; send it again later
├── Internal                    500 internal             a fault of ours; the logs have the reason
└── Unavailable                 503 unavailable          not done; the same request may be sent again
```
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

_IDS = ("schedule_id", "execution_id")
"""Details that say what an error is about."""


class HoraeError(Exception):
    """Root of the tree; as text it is `code: message [what it is about]`.

    Attributes:
        code: the stable noun of the interface, such as `invalid_trigger`.
        status: the number of the wire reply, as in HTTP.
        field: dotted path of the offending field, such as `trigger.expression`, or None.
        value: the offending value, shortened, or None.
        details: further facts for the caller, JSON values only.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, field: str | None = None, value: object = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = None if value is None else str(value)[:200]
        self.details = details

    def __str__(self) -> str:
        code = f"{self.details.get('code', self.code)}: "
        return self.reason if self.reason.startswith(code) else code + self.reason

    @property
    def reason(self) -> str:
        """The message, and the ids of what it is about as far as it does not name them."""
        told = self.message
        missing: list[str] = []
        for each in self._about():
            if each is not None and str(each) not in told:
                missing.append(str(each))
                told += str(each)
        return f"{self.message} [{', '.join(missing)}]" if missing else self.message

    def _about(self) -> Iterable[object]:
        """A wrong value is left out: what belongs into no log may stand in the wrong field."""
        wrong = self.status == InvalidField.status
        return (None if wrong else self.value, *(self.details.get(name) for name in _IDS))

    def to_json(self) -> dict[str, Any]:
        """The `error` object of a refusal."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.field is not None:
            body["field"] = self.field
        if self.value is not None:
            body["value"] = self.value
        return body | self.details


class InvalidField(HoraeError):
    """A field's value breaks its rule."""

    code = "invalid_field"
    status = 400


class InvalidTrigger(InvalidField):
    """A trigger that cannot be evaluated, or can never fire."""

    code = "invalid_trigger"


class InvalidExpression(InvalidField):
    """A text that is no expression, or none that can be evaluated within the bounds."""

    code = "invalid_expression"


class ExpressionFailed(InvalidField):
    """An expression that cannot be evaluated on the data that it was given."""

    code = "expression_failed"


class PayloadTooLarge(InvalidField):
    """A payload, result or message over its limit (1 MiB of JSON)."""

    code = "payload_too_large"


class BaggageTooLarge(InvalidField):
    """W3C baggage over what everybody has to forward: 8,192 bytes, 64 members."""

    code = "baggage_too_large"


class UnknownHandler(InvalidField):
    """Nobody serves the named handler; `known` lists those that are served."""

    code = "unknown_handler"


class UnknownCommand(InvalidField):
    """No handler takes commands or queries of this type; `known` lists those that are taken."""

    code = "unknown_command"


class NotPermitted(HoraeError):
    """Who asks may not ask for this; nothing was done."""

    code = "not_permitted"
    status = 403


class NotFound(HoraeError):
    """The thing named does not exist."""

    code = "not_found"
    status = 404


class ScheduleNotFound(NotFound):
    """No schedule has this id in this tenant."""

    code = "schedule_not_found"


class ExecutionNotFound(NotFound):
    """No execution has this id in this tenant."""

    code = "execution_not_found"


class TimerNotFound(NotFound):
    """Nothing waits under this id, or not any more."""

    code = "timer_not_found"


class CommandNotFound(NotFound):
    """No scheduled command has this id in this tenant."""

    code = "command_not_found"


class QueueNotFound(NotFound):
    """No queue of this name was used, limited or paused in this tenant."""

    code = "queue_not_found"


class Conflict(HoraeError):
    """The command conflicts with what already holds."""

    code = "conflict"
    status = 409


class ScheduleExists(Conflict):
    """The id is taken by a schedule with other content."""

    code = "schedule_exists"


class RevisionConflict(Conflict):
    """`expected_revision` is not the schedule's revision."""

    code = "revision_conflict"


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with another request."""

    code = "idempotency_conflict"


class IllegalState(Conflict):
    """The command does not fit the state of the thing."""

    code = "illegal_state"


class ChainTooDeep(Conflict):
    """Schedules have made each other so often, one after the other, that it ends here."""

    code = "chain_too_deep"


class StaleLease(Conflict):
    """The report's lease is not the current one; it was recorded and changed nothing."""

    code = "stale_lease"


class TooManyRequests(HoraeError):
    """Nothing was done, because a limit is reached; the same request may be sent again later."""

    code = "too_many_requests"
    status = 429


class Internal(HoraeError):
    """A fault of ours; what happened stands in the logs, under the request's correlation id."""

    code = "internal"
    status = 500


class Unavailable(HoraeError):
    """Nothing was done, or it is unknown whether it was; the same request may be sent again."""

    code = "unavailable"
    status = 503


def _tree(kind: type[HoraeError]) -> list[type[HoraeError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def reason_of(error: BaseException) -> str:
    """What any error says, for where its type or code stands beside it; never raises."""
    try:
        return error.reason if isinstance(error, HoraeError) else str(error)
    except Exception:  # noqa: BLE001 - a handler's own error may fail at anything
        return "<an error that cannot be shown>"


_BY_CODE = {kind.code: kind for kind in _tree(HoraeError)}
_BY_STATUS = {
    400: InvalidField,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
    503: Unavailable,
}


def error_from_json(status: int, body: dict[str, Any]) -> HoraeError:
    """The error of a refusal, as `to_json` wrote it.

    A code that this release does not know becomes the general error of its status; the code is
    then `details["code"]`.
    """
    said = body.get("error")
    content = dict(said) if isinstance(said, dict) else {}
    code = str(content.pop("code", HoraeError.code))
    kind = _BY_CODE.get(code)
    error = (kind or _BY_STATUS.get(status, HoraeError))(
        str(content.pop("message", f"refused with status {status}")),
        field=content.pop("field", None),
        value=content.pop("value", None),
    )
    error.details = content if kind is not None else {"code": code, **content}
    return error
