"""Write `docs/reference/cli.md` from the commands' own help.

python scripts/cli_reference.py
"""

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from horae.cli.main import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# Command line

Written by `scripts/cli_reference.py` from the commands' own help.

- Exit codes: 0 done, 1 refused or failed, 2 wrong usage. The reason of a refusal is one line on standard error, with its
  code and the field: `horae: invalid_trigger (trigger.expression): …`.
- `--json` prints one JSON document on standard output, the wire's answer; a refusal is a document too:
  `{"ok": false, "error": {"code": …, "message": …, "field": …}}`. (`replay` prints one JSON object a line.)
- Tables fit the terminal; in a pipe each row is one whole line without escape codes, unless COLUMNS says how wide.
- Client commands reach the engine at `--nats`, else `HORAE_NATS_URL`, else that of the `horae dev` that runs with the data
  directory `HORAE_DATA_DIR` (`.horae`), which leaves its URLs in `dev.json` there and holds a lock on it while it lives.
- `dev` and `serve` end in order at the first SIGINT or SIGTERM: no new work, and what runs may end. All of it has
  `HORAE_STOP_LIMIT` seconds (20), the handlers 5 less; work that takes longer is handed back and done again elsewhere or at the
  next start. A second signal ends the process at once. Either way its servers and child processes end.
- `import crontab` names each schedule by the crontab and the line's text: the same file again changes nothing, a changed
  line is a new schedule and the former one is reported as gone, a changed environment above a line changes its schedule.
"""
WIDTH = 80


def main() -> None:
    """Write the file."""
    TARGET.write_text(reference())


def reference() -> str:
    """The whole document."""
    parts = [INTRODUCTION]
    command = typer.main.get_command(app)
    for path in commands(command, ()):
        with redirect_stdout(StringIO()) as heard:
            command.main(
                [*path, "--help"],
                prog_name="horae",
                standalone_mode=False,
                terminal_width=WIDTH,
            )
        said = heard.getvalue()
        said = re.sub(r"^ +-h, --help .*\n", "", said.strip() + "\n", flags=re.MULTILINE)
        parts.append(f"\n## horae {' '.join(path)}\n\n```text\n{said}```\n")
    return "".join(parts)


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of all commands below one, in the order of the help."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, child in command.commands.items():
        yield from commands(child, (*path, name))


if __name__ == "__main__":
    main()
