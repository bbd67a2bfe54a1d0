"""Commands as messages: what comes over NATS, from Python and from the command line.

A request is the same everywhere: a tenant, a name, a JSON object. Its models refuse unknown fields
and name the field that is wrong.
"""

from __future__ import annotations

from typing import Any

from horae_application.messages.applications import CancelCommand, PublishEvent, ScheduleCommand
from horae_application.messages.base import Command, RememberAnswer
from horae_application.messages.envelope import OK, Reply, Request, refused
from horae_application.messages.executions import (
    CancelExecution,
    CheckAnswered,
    HeartbeatExecution,
    ReportExecution,
    ReprioritizeExecution,
    RequeueDeadLetter,
    RetryExecution,
    StartExecution,
)
from horae_application.messages.history import SweepHistory, SweepSchedule
from horae_application.messages.limits import (
    LimitCommand,
    LimitQueue,
    LimitTenant,
    PauseQueue,
    ResumeQueue,
)
from horae_application.messages.occurrences import (
    ApproveOccurrence,
    CancelTimer,
    HoldOccurrence,
    MoveOccurrence,
    MoveTimer,
    OccurrenceCommand,
    SetOccurrencePayload,
    SkipOccurrence,
    TimerCommand,
)
from horae_application.messages.schedules import (
    BackfillSchedule,
    BulkSchedules,
    CancelSchedule,
    CreateMany,
    CreateSchedule,
    PatchSchedule,
    PauseSchedule,
    ResumeSchedule,
    RetagSchedule,
    TickAnswered,
    TriggerSchedule,
    UpdateSchedule,
    ValidateSchedule,
)
from horae_domain.definition import parse_definition
from horae_domain.errors import InvalidField
from horae_domain.wire import MAX_BULK, MAX_REQUEST, read_object, validate

__all__ = [
    "COMMANDS",
    "OK",
    "ApproveOccurrence",
    "BackfillSchedule",
    "BulkSchedules",
    "CancelCommand",
    "CancelExecution",
    "CancelSchedule",
    "CheckAnswered",
    "Command",
    "CreateMany",
    "CreateSchedule",
    "HeartbeatExecution",
    "HoldOccurrence",
    "LimitCommand",
    "MoveOccurrence",
    "MoveTimer",
    "OccurrenceCommand",
    "PatchSchedule",
    "PauseQueue",
    "PauseSchedule",
    "PublishEvent",
    "RememberAnswer",
    "Reply",
    "ReportExecution",
    "ReprioritizeExecution",
    "Request",
    "RequeueDeadLetter",
    "ResumeQueue",
    "ResumeSchedule",
    "RetagSchedule",
    "RetryExecution",
    "ScheduleCommand",
    "SetOccurrencePayload",
    "SkipOccurrence",
    "StartExecution",
    "SweepHistory",
    "SweepSchedule",
    "TickAnswered",
    "TimerCommand",
    "TriggerSchedule",
    "UpdateSchedule",
    "ValidateSchedule",
    "read_command",
    "refused",
]

COMMANDS: dict[str, type[Command]] = {
    kind.name: kind
    for kind in (
        CreateSchedule,
        CreateMany,
        ValidateSchedule,
        UpdateSchedule,
        PatchSchedule,
        RetagSchedule,
        BulkSchedules,
        PauseSchedule,
        ResumeSchedule,
        CancelSchedule,
        TriggerSchedule,
        BackfillSchedule,
        SkipOccurrence,
        MoveOccurrence,
        HoldOccurrence,
        ApproveOccurrence,
        SetOccurrencePayload,
        MoveTimer,
        CancelTimer,
        StartExecution,
        ReportExecution,
        HeartbeatExecution,
        CancelExecution,
        ReprioritizeExecution,
        RetryExecution,
        ScheduleCommand,
        CancelCommand,
        PublishEvent,
        RequeueDeadLetter,
        LimitQueue,
        PauseQueue,
        ResumeQueue,
        LimitTenant,
        SweepHistory,
        SweepSchedule,
    )
}


def read_command(name: str, body: bytes) -> Command:
    """The command of a request.

    Raises:
        InvalidField, InvalidTrigger, PayloadTooLarge: with the offending field.
    """
    kind = COMMANDS.get(name)
    if kind is None:
        raise InvalidField(f"no such command: {name}", field="name", known=sorted(COMMANDS))
    content = read_object(body, MAX_BULK if kind is CreateMany else MAX_REQUEST)
    if kind is ValidateSchedule:
        known = content.pop("allow_unknown", False)
        return validate(kind, {"definition": content, "allow_unknown": known})
    if kind is CreateSchedule or kind is UpdateSchedule:
        options: dict[str, Any] = {
            option: content.pop(option)
            for option in ("allow_unknown", "expected_revision")
            if option in content and option in kind.model_fields
        }
        definition = parse_definition(content)
        return validate(kind, {"definition": definition, **options})
    return validate(kind, content)
