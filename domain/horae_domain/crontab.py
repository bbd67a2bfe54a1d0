"""Crontabs as they stand, read as Debian's cron reads them (crontab(5)), into definitions.

A line that cron would run is never lost: it becomes a definition, or a problem with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from horae_domain.cron import parse_cron
from horae_domain.errors import InvalidTrigger
from horae_domain.zones import load_zone

Style = Literal["user", "system"]
"""A user's crontab, or one with a column for the user, as in /etc/crontab and /etc/cron.d."""

_ENVIRONMENT = re.compile(
    r"""(?:"(?P<name1>[^"]+)"|'(?P<name2>[^']+)'|(?P<name3>[^\s="']+))\s*=\s*"""
    r"""(?:"(?P<value1>[^"]*)"|'(?P<value2>[^']*)'|(?P<value3>[^"'].*)?)"""
)
_JOB = re.compile(r"(?P<expression>@\S+|\S+(?:\s+\S+){4})\s+(?P<rest>.*)")
_USER = re.compile(r"(?P<user>\S+)\s+(?P<command>.*)")
_ESCAPE = re.compile(r"\\.|%")


@dataclass(frozen=True, slots=True)
class CrontabLine:
    r"""A job of a crontab.

    Attributes:
        number: of the line, from 1.
        text: the line as it stands, without space around it.
        expression: five fields or an alias.
        user: who runs it; None in a user's crontab.
        command: for the shell, up to the first `%`; `\%` is `%`.
        stdin: what follows the first `%`, lines divided by `%`; None if there is none.
        environment: what the lines above it set; the last setting of a name counts.
        copy: how many lines above are the same.
    """

    number: int
    text: str
    expression: str
    user: str | None
    command: str
    stdin: str | None
    environment: dict[str, str]
    copy: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that has not become a job, with its number from 1, its text and the reason."""

    number: int
    text: str
    reason: str


def parse_crontab(text: str, *, style: Style) -> list[CrontabLine | Problem]:
    """Read a crontab. Total: any text gives its jobs and problems, in the order of the lines.

    Comments, empty lines and settings of the environment give nothing by themselves.
    """
    found: list[CrontabLine | Problem] = []
    environment: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(" \t\r\f\v")
        if not line or line.startswith("#"):
            continue
        setting = _ENVIRONMENT.fullmatch(line)
        if setting is not None:
            name, value = (_one(setting, key) for key in ("name", "value"))
            environment[name] = value
            continue
        try:
            found.append(_read_job(number, line, style, dict(environment), seen[line]))
        except InvalidTrigger as error:
            found.append(Problem(number, line, error.message))
        seen[line] += 1
    return found


def _one(setting: re.Match[str], key: str) -> str:
    return next((setting[f"{key}{n}"] for n in (1, 2, 3) if setting[f"{key}{n}"] is not None), "")


def _read_job(
    number: int, line: str, style: Style, environment: dict[str, str], copy: int
) -> CrontabLine:
    if "\0" in line:
        raise InvalidTrigger("a line has no NUL character")
    job = _JOB.fullmatch(line)
    if job is None:
        parse_cron(line.split(maxsplit=1)[0] if line.startswith("@") else line)
        raise InvalidTrigger("a command follows the time")
    parse_cron(job["expression"])
    if "CRON_TZ" in environment:
        load_zone(environment["CRON_TZ"], field="CRON_TZ")
    user, command = None, job["rest"]
    if style == "system":
        named = _USER.fullmatch(command)
        if named is None:
            raise InvalidTrigger("a user and a command follow the time")
        user, command = named["user"], named["command"]
    end = next((part.start() for part in _ESCAPE.finditer(command) if part[0] == "%"), len(command))
    if not command[:end].strip():
        raise InvalidTrigger("a command follows the time")
    return CrontabLine(
        number=number,
        text=line,
        expression=" ".join(job["expression"].split()),
        user=user,
        command=_ESCAPE.sub(_unescape, command[:end]),
        stdin=_lines(command[end + 1 :]) if end < len(command) else None,
        environment=environment,
        copy=copy,
    )


def _unescape(found: re.Match[str]) -> str:
    if found[0] == "%":
        return "\n"
    return "%" if found[0] == "\\%" else found[0]


def _lines(text: str) -> str:
    """Standard input: cron ends it with a newline unless it is empty."""
    lines = _ESCAPE.sub(_unescape, text)
    return lines + "\n" if lines and not lines.endswith("\n") else lines


def to_definition(line: CrontabLine, source: str, *, timezone: str = "UTC") -> dict[str, Any]:
    """The schedule of a job, in the wire form of `schedule.create`.

    Its id comes from the name of the source and the line's text, so that importing again finds it
    wherever the line has moved to. As under cron, runs may overlap, and what was missed or has
    failed is not run again.

    Args:
        line: from `parse_crontab`.
        source: the name of the crontab, such as its path.
        timezone: in which cron ran it; `CRON_TZ` above the line wins.
    """
    environment = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"} | line.environment
    zone = environment.pop("CRON_TZ", timezone)
    digest = sha256(f"{source}\0{line.text}\0{line.copy}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", source).strip("-")[-64:]
    action = {
        "type": "process",
        "command": [environment["SHELL"], "-c", line.command],
        "env": environment,
    }
    if line.user is not None:
        action["user"] = line.user
    if line.stdin is not None:
        action["stdin"] = line.stdin
    return {
        "id": f"crontab.{readable}.{digest}",
        "name": line.command[:255],
        "tags": ["crontab", source[-128:]],
        "trigger": {"type": "cron", "expression": line.expression, "timezone": zone},
        "action": action,
        "overlap": "allow",
        "catch_up": {"mode": "skip"},
        "retry": {"max_attempts": 1},
        "timeout": {"start_to_close": None},
    }
