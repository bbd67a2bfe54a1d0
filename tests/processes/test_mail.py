"""What commands are told of their attempt, and the mail that cron would send of their output."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from horae_application.context import Context
from horae_application.work import Work
from horae_infrastructure.children import ChildProcesses, ProcessFailed, children_of
from horae_infrastructure.mail import Mail, MailNotSent
from horae_infrastructure.settings import Settings


class Inbox:
    """An SMTP server's handler that keeps what comes."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 OK"

    @property
    def messages(self) -> list[Any]:
        return [
            email.message_from_bytes(each.content, policy=email.policy.default)
            for each in self.envelopes
        ]


@pytest.fixture
def inbox(unused_tcp_port: int) -> Iterator[tuple[Inbox, str]]:
    kept = Inbox()
    server = Controller(kept, hostname="127.0.0.1", port=unused_tcp_port)
    server.start()
    yield kept, f"smtp://127.0.0.1:{unused_tcp_port}"
    server.stop()


def context(**fields: Any) -> Context:
    told: dict[str, Any] = {
        "execution_id": "e-1",
        "schedule_id": "nightly",
        "tenant": "default",
        "attempt": 2,
        "lease": "l",
        "due": datetime(2026, 1, 1, 2, tzinfo=UTC),
        "action": {},
    }
    return Context(Work(**told | fields))


def shell(script: str, **env: str) -> dict[str, Any]:
    return {"type": "process", "command": ["/bin/sh", "-c", script], "env": env}


async def test_command_is_told_whose_attempt_it_is() -> None:
    script = 'echo "$HORAE_EXECUTION_ID $HORAE_SCHEDULE_ID $HORAE_DUE $HORAE_ATTEMPT"'
    facts = await ChildProcesses().process(shell(script, HORAE_ATTEMPT="9"), context())
    assert facts["stdout"] == "e-1 nightly 2026-01-01T02:00:00Z 2\n"


async def test_output_goes_to_mailto(inbox: tuple[Inbox, str]) -> None:
    kept, url = inbox
    children = children_of(
        Settings.read(environment={}, mail_url=url, mail_from="cron@example.org")
    )
    script = "echo größer; echo wrong >&2"
    facts = await children.process(shell(script, MAILTO="ops@example.org, root"), context())
    assert facts["mail"] == {"to": ["ops@example.org", "root"], "sent": True}
    assert kept.envelopes[0].rcpt_tos == ["ops@example.org", "root"]
    (message,) = kept.messages
    assert message["From"] == "cron@example.org"
    assert message["To"] == "ops@example.org, root"
    assert message["Subject"].startswith("Cron <")
    assert message["Subject"].endswith(script)
    assert message.get_content().splitlines() == ["größer", "wrong"]


async def test_output_of_a_command_that_fails_is_sent_too(inbox: tuple[Inbox, str]) -> None:
    kept, url = inbox
    told = context()
    with pytest.raises(ProcessFailed):
        await ChildProcesses(Mail(url)).process(
            shell("echo no; exit 3", MAILTO="ops@example.org"), told
        )
    assert kept.messages[0].get_content().strip() == "no"
    assert told.logs[0]["facts"]["sent"] is True


@pytest.mark.parametrize(
    ("script", "env"),
    [("true", {"MAILTO": "ops@example.org"}), ("echo x", {"MAILTO": ""}), ("echo x", {})],
    ids=["no output", "empty MAILTO", "no MAILTO"],
)
async def test_no_mail_is_sent_where_cron_would_send_none(
    script: str, env: dict[str, str], inbox: tuple[Inbox, str]
) -> None:
    kept, url = inbox
    facts = await ChildProcesses(Mail(url)).process(shell(script, **env), context())
    assert "mail" not in facts
    assert kept.envelopes == []


async def test_recipient_is_recorded_where_mail_is_off() -> None:
    facts = await ChildProcesses().process(shell("echo x", MAILTO="ops@example.org"), context())
    assert facts["mail"]["to"] == ["ops@example.org"]
    assert facts["mail"]["sent"] is False
    assert "HORAE_MAIL_URL" in facts["mail"]["reason"]


@pytest.mark.parametrize("to", ["-oQ/tmp", "a@b\nBcc: c@d", "|/bin/sh", "a b@c"])
async def test_recipient_that_could_be_something_else_is_refused(
    to: str, inbox: tuple[Inbox, str]
) -> None:
    kept, url = inbox
    facts = await ChildProcesses(Mail(url)).process(shell("echo x", MAILTO=to), context())
    assert facts["mail"]["sent"] is False
    assert kept.envelopes == []


async def test_mail_that_cannot_be_sent_changes_nothing_else(unused_tcp_port: int) -> None:
    children = ChildProcesses(Mail(f"smtp://127.0.0.1:{unused_tcp_port}"))
    facts = await children.process(shell("echo x", MAILTO="ops@example.org"), context())
    assert (facts["exit_code"], facts["mail"]["sent"]) == (0, False)
    assert "Connection" in facts["mail"]["reason"]


async def test_mail_goes_out_by_sendmail(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat > {tmp_path}/message\n')
    program.chmod(0o755)
    mail = Mail(f"sendmail://{program}", "cron@example.org")
    await mail.send(["ops@example.org"], "Cron <me> true", "x\n")
    arguments = (tmp_path / "arguments").read_text()
    assert arguments == "-i -f cron@example.org -- ops@example.org\n"
    assert "Subject: Cron <me> true" in (tmp_path / "message").read_text()
    program.write_text("#!/bin/sh\necho full >&2\nexit 75\n")
    with pytest.raises(MailNotSent, match="full"):
        await mail.send(["ops@example.org"], "s", "x")


async def test_server_that_asks_for_a_password_is_given_it(inbox: tuple[Inbox, str]) -> None:
    """This one takes none, and says so."""
    _, url = inbox
    with pytest.raises(MailNotSent, match="AUTH"):
        await asyncio.wait_for(Mail(url.replace("//", "//me:p%40ss@")).send(["a@b"], "s", "x"), 60)
