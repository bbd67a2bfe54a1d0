"""The code in the README, run as it stands."""

from __future__ import annotations

import sys

import pytest
from documents import blocks, run


@pytest.mark.parametrize("number", range(2))
def test_python_of_the_readme_runs(number, tmp_path):
    code = blocks("README.md", "python")[number]
    if "async def test_" in code:
        code += "\nimport asyncio\nasyncio.run(test_heartbeat_beats_twice_a_minute())\n"
    (tmp_path / "program.py").write_text(code)
    said = run(sys.executable, "program.py", cwd=tmp_path)
    assert bool(said) == ("print(" in code)
