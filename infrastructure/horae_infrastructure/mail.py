"""The output of commands as mail, as cron sends it to `MAILTO` (crontab(5)).

A command whose environment has `MAILTO` and that wrote anything has a mail; an empty `MAILTO` wants
none. It goes out where `HORAE_MAIL_URL` says how; what became of it stands in the result, and a
mail that cannot be sent changes nothing else.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
import socket
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import unquote, urlsplit

from horae_domain.errors import HoraeError
from horae_infrastructure.processes import ProcessOutcome, ProcessSpec, run_process

TIMEOUT = 30.0
"""Seconds that the mail's server or program may take."""
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+%=@-]{0,253}")
"""Recipients as cron takes them, so that none is an option of sendmail or another header."""


class MailNotSent(HoraeError):
    """A mail was not taken by its server or program."""

    code = "mail_not_sent"


class Mail:
    """A way for mail to go out.

    Args:
        url: `smtp://[user:password@]host[:port]`, `smtps://…`, or `sendmail:///usr/sbin/sendmail`.
        sender: the address that it comes from; `horae@` and this machine's name if None.
    """

    def __init__(self, url: str, sender: str | None = None) -> None:
        self._url = urlsplit(url)
        self._sender = sender or f"horae@{socket.gethostname()}"

    async def send(self, recipients: list[str], subject: str, text: str) -> None:
        """Hand a mail over.

        Raises:
            MailNotSent: it was not taken.
        """
        message = EmailMessage()
        message["From"], message["To"] = self._sender, ", ".join(recipients)
        message["Subject"] = subject
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="horae")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        if self._url.scheme == "sendmail":
            await self._pipe(recipients, message)
            return
        try:
            await asyncio.to_thread(self._smtp, recipients, message)
        except (OSError, smtplib.SMTPException) as error:
            raise MailNotSent(f"{type(error).__name__}: {error}") from error

    async def _pipe(self, recipients: list[str], message: EmailMessage) -> None:
        command = [self._url.path, "-i", "-f", self._sender, "--", *recipients]
        outcome = await run_process(
            ProcessSpec(command=command, stdin=message.as_string()), timeout=TIMEOUT
        )
        if outcome.exit_code != 0:
            raise MailNotSent(f"{self._url.path}: {(outcome.stderr or outcome.stdout)[-500:]}")

    def _smtp(self, recipients: list[str], message: EmailMessage) -> None:
        kind = smtplib.SMTP_SSL if self._url.scheme == "smtps" else smtplib.SMTP
        with kind(
            self._url.hostname or "localhost", self._url.port or 0, timeout=TIMEOUT
        ) as server:
            if self._url.username is not None:
                server.login(unquote(self._url.username), unquote(self._url.password or ""))
            server.send_message(message, self._sender, recipients)


async def mail_output(
    mail: Mail | None, spec: ProcessSpec, outcome: ProcessOutcome
) -> dict[str, Any] | None:
    """Send what a command wrote to its `MAILTO`; what became of it, None if none was wanted."""
    text = outcome.stdout + outcome.stderr
    wanted = [each.strip() for each in spec.env.get("MAILTO", "").split(",")]
    recipients = [each for each in wanted if each]
    if not recipients or not text:
        return None
    told: dict[str, Any] = {"to": recipients, "sent": False}
    if mail is None:
        return told | {"reason": "HORAE_MAIL_URL is not set"}
    if unsafe := [each for each in recipients if _SAFE.fullmatch(each) is None]:
        return told | {"reason": f"not an address: {unsafe[0][:100]}"}
    try:
        await mail.send(recipients, _subject(spec), text)
    except HoraeError as error:
        return told | {"reason": error.message}
    return told | {"sent": True}


def _subject(spec: ProcessSpec) -> str:
    """The command as cron's subject has it, on one line."""
    command = spec.command[2] if list(spec.command[1:2]) == ["-c"] else " ".join(spec.command)
    who = f"{spec.user or spec.env.get('LOGNAME', 'horae')}@{socket.gethostname()}"
    return " ".join(f"Cron <{who}> {command}".split())[:500]
