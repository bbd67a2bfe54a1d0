"""The program of the guide to scheduled commands, run as it stands."""

from __future__ import annotations

import sys

from documents import blocks, run


def test_programs_of_the_guide_run(tmp_path):
    said = {}
    for code in blocks("docs/howto/commands.md", "python"):
        first = code.splitlines()[0]
        if first.endswith(".py"):
            name = first.removeprefix("# ")
            (tmp_path / name).write_text(code)
            said[name] = run(sys.executable, name, cwd=tmp_path)
    assert "order_id='o-1' reminded of o-1" in said["reminders.py"]
