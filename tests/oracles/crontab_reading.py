"""What a crontab says, read without Horae: word by word, as Vixie's cron walks it.

It is for files that are in order: a line is empty, a comment, a setting, or else a job.
"""

from __future__ import annotations

from dataclasses import dataclass

BLANK = " \t"
QUOTES = "\"'"
DEFAULTS = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}


@dataclass(frozen=True)
class Job:
    """A line that cron runs.

    Attributes:
        number: of the line, from 1.
        time: when, with all the space in it and behind it.
        user: who; None where there is no column for it.
        command: for the shell.
        stdin: what the command reads, None if nothing.
        environment: what cron sets unless told, and what the lines above set.
    """

    number: int
    time: str
    user: str | None
    command: str
    stdin: str | None
    environment: dict[str, str]

    @property
    def expression(self) -> str:
        return " ".join(self.time.split())

    @property
    def at_start(self) -> bool:
        """Whether it runs when the machine starts, at no instant that is known before."""
        return self.expression == "@reboot"


def read(text: str, *, system: bool) -> list[Job]:
    """The jobs of a crontab; `system` says that it has a column for the user."""
    environment = dict(DEFAULTS)
    found = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip(BLANK)
        if not line or line.startswith("#"):
            continue
        setting = read_setting(line)
        if setting is None:
            found.append(read_job(number, line, dict(environment), system=system))
        else:
            environment.update([setting])
    return found


def read_setting(line: str) -> tuple[str, str] | None:
    """A name and its value; None if the line is no setting."""
    if line[0] in QUOTES:
        name, closed, rest = line[1:].partition(line[0])
        if not closed:
            return None
    else:
        end = next((n for n, letter in enumerate(line) if letter in BLANK + "="), len(line))
        name, rest = line[:end], line[end:]
    rest = rest.lstrip(BLANK)
    if not rest.startswith("="):
        return None
    value = rest[1:].strip(BLANK)
    if value[:1] and value[0] in QUOTES:
        value, closed, rest = value[1:].partition(value[0])
        return (name, value) if closed and not rest else None
    return name, value


def read_job(number: int, line: str, environment: dict[str, str], *, system: bool) -> Job:
    words = 1 if line.startswith("@") else 5
    rest = line.split(None, words)[words]
    time = line.removesuffix(rest)
    user = None
    if system:
        user, rest = rest.split(None, 1)
    command, *lines = divide(rest)
    stdin = "\n".join(lines) if lines else None
    if stdin and not stdin.endswith("\n"):
        stdin += "\n"
    return Job(number, time, user, command, stdin, environment)


def divide(text: str) -> list[str]:
    r"""The parts between signs of per cent; `\%` is one that divides nothing."""
    parts = [""]
    escaped = False
    for letter in text:
        if letter != "%":
            parts[-1] += letter
        elif escaped:
            parts[-1] = parts[-1][:-1] + "%"
        else:
            parts.append("")
        escaped = letter == "\\" and not escaped
    return parts
