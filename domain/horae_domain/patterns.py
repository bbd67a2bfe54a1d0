"""What texts look like where a definition or a message has them, and how people are told."""

from __future__ import annotations

from pydantic_core import ErrorDetails

ID = r"^[A-Za-z0-9_.:-]{1,128}$"
NAME = r"^[A-Za-z0-9_.:/-]{1,255}$"
CHECK = r"^[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)*$"
PLACE = r"^(trigger|payload)(\.[^.]+)*$"
EVENT_TYPE = r"^[^\s*>\x00-\x1f\x7f]{1,255}$"
EVENT_PATTERN = r"^[^\s\x00-\x1f\x7f]{1,255}$"
SERVICE = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
SERVICE_COMMAND = r"^[A-Za-z0-9_-]{1,128}$"
OWN_COMMAND = r"^[A-Za-z0-9_.:/-]{1,128}$"
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"
HEADER_VALUE = r"^[\t\x20-\x7e]*$"
TIME_OF_DAY = r"^(([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?|24:00)$"
DAY = r"^(\d{4}-)?\d{2}-\d{2}$"
CALENDAR = r"^[A-Za-z0-9_.:-]{1,64}$"
EXECUTION = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

EXPECTED = {
    ID: "1 to 128 of A-Z a-z 0-9 _ . : -, such as `nightly-report`",
    NAME: "1 to 255 of A-Z a-z 0-9 _ . : / -, such as `reports/build`",
    CHECK: "names of A-Z a-z 0-9 _ : - with single dots between them, such as `market.open`",
    PLACE: "a path that begins with trigger or payload, such as `trigger.data.order_id`",
    EVENT_TYPE: "1 to 255 characters without blanks, * and >, such as `order.placed`",
    EVENT_PATTERN: "1 to 255 characters without blanks, such as `order.placed` or `order.*`",
    SERVICE: "names of A-Z a-z 0-9 _ - with single dots between them, such as `agents.research`",
    SERVICE_COMMAND: "1 to 128 of A-Z a-z 0-9 _ -, such as `Rebalance`",
    OWN_COMMAND: "1 to 128 of A-Z a-z 0-9 _ . : / -, such as `SendReminder`",
    HEADER_NAME: "1 to 128 characters of a header's name, such as `x-request-id`",
    HEADER_VALUE: "printable ASCII characters on one line, such as `text/plain`",
    TIME_OF_DAY: "a time of day, such as `09:00`, `09:00:30` or `24:00`",
    DAY: "a date, such as `2026-12-25`, or of every year, such as `12-25`",
    CALENDAR: "1 to 64 of A-Z a-z 0-9 _ . : -, such as `holidays`",
    EXECUTION: "an execution's id, such as `2a019b8b-7502-6057-266e-626ad33819ed`",
}
"""By pattern, what is expected in words, with examples."""


def in_words(found: ErrorDetails) -> str:
    """What pydantic complains of, told so that no regular expression has to be read."""
    words = EXPECTED.get(found.get("ctx", {}).get("pattern", ""))
    return found["msg"] if words is None else f"expected: {words}"
