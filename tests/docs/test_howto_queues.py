"""The how-to about queues is run."""

from __future__ import annotations

import re
from typing import Any

from documents import blocks
from typer.testing import CliRunner

from horae import testing
from horae.cli.main import app

PAGE = "docs/howto/queues.md"


async def test_queues() -> None:
    page: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, "queues.md", "exec"), page)
    async with testing.engine(page["app"]) as engine:
        await page["limited"](engine)
        await engine.settle()
        queue = await engine.get_queue("mail")
        assert queue == queue | {"waiting": 3, "paused": True, "note": "the server is down"}
        await page["released"](engine)
        await engine.settle()
        done = await engine.list_executions(schedule_id="mail", status="succeeded")
        results = sorted(each["result"] for each in done["executions"])
        assert results == ["sent to ann", "sent to bob", "sent to eve"]


def test_the_commands_are_those_of_the_command_line() -> None:
    [session] = blocks(PAGE, "console")
    for line in re.findall(r"^\$ horae (.*)$", session, re.MULTILINE):
        told = CliRunner().invoke(app, [*line.split()[:2], "--help"])
        assert told.exit_code == 0, line
        for option in re.findall(r"--[a-z]+", line):
            assert option in told.output
