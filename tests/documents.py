"""The code and the commands in documents, and running them in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document, language):
    return [code for kind, code in BLOCK.findall((ROOT / document).read_text()) if kind == language]


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HORAE_")}
    return clean | {"HORAE_CLEANUP": "false"} | more


def run(*command, cwd, **env):
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
