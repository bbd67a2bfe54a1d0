"""Run the Node programs of `tests/interop` against an engine of this checkout.

python scripts/interop.py
"""
# ruff: noqa: S603, S607, T201 - a program that prints and runs programs

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "tests" / "interop"


def main() -> int:
    """Start an engine, let the programs work, stop the engine; 0 if all went well."""
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
            codes = [
                subprocess.run(["node", PROGRAMS / name, url], check=False).returncode
                for name in ("interop.js", "service.js")
            ]
            engine.terminate()
        print("the engine ended with", engine.returncode)
    return max(*codes, engine.returncode)


if __name__ == "__main__":
    sys.exit(main())
