"""The program of the guide to scheduled commands, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_programs_of_the_guide_run(tmp_path):
    said = {}
    for name, code in PROGRAM.findall((ROOT / "docs/howto/commands.md").read_text()):
        (tmp_path / name).write_text(code)
        done = subprocess.run(
            [sys.executable, name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout
    assert "order_id='o-1' reminded of o-1" in said["reminders.py"]
