"""Run the Node program of `tests/interop` against an engine of this checkout.

python scripts/interop.py
"""
# ruff: noqa: S603, S607, T201 - a program that prints and runs programs

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Start an engine, let the program work, stop the engine; the program's exit code."""
    with tempfile.TemporaryDirectory() as work:
        engine = subprocess.Popen(
            [sys.executable, "-m", "horae", "dev", "--ephemeral", "--json"],
            cwd=work,
            stdout=subprocess.PIPE,
            text=True,
        )
        with engine:
            assert engine.stdout is not None  # noqa: S101 - it is a pipe
            url = json.loads(engine.stdout.readline())["nats_url"]
            done = subprocess.run(["node", ROOT / "tests/interop/interop.js", url], check=False)
            engine.terminate()
        print("the engine ended with", engine.returncode)
    return done.returncode or engine.returncode


if __name__ == "__main__":
    sys.exit(main())
