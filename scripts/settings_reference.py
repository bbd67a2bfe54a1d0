"""Write `docs/reference/settings.md` from the model.

python scripts/settings_reference.py
"""

from pathlib import Path
from typing import Any

from horae_infrastructure.settings import Settings, bounds, live
from horae_infrastructure.settings_sources import variable

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "settings.md"
INTRODUCTION = """\
# Settings

Written by `scripts/settings_reference.py` from the model.

Each setting is told by the first of these that says it; an empty variable says nothing:

1. an option of the command line, or an argument in Python,
2. its variable in the environment, such as `HORAE_CONCURRENCY=32`,
3. its variable with `_FILE`, whose value is the name of a file that holds the value, as secrets are handed to
   containers: `HORAE_STORE_URL_FILE=/run/secrets/store_url`,
4. a TOML file, `--config FILE` or `HORAE_CONFIG=FILE`, with the settings' names as keys: `concurrency = 32`,
5. the default.

A value out of its bounds ends the start with exit code 1 and the setting, the value, the bounds and who said it. So does
a key in the file that is no setting. A variable `HORAE_…` that is none is named in a warning, with the nearest one that
is: platforms put variables of their own into every process. `horae config` prints all of this without starting anything.

Client commands (`horae schedule …`) take `nats_url`, `tenant` and `data_dir` from the same places.

## While the process runs

On SIGHUP, `horae dev` and `horae serve` read the same sources again. Those that are live below change at once: work that
runs goes on, a lower `concurrency` is reached as it ends. The others are named in the log as needing a restart. If any
value is out of its bounds, nothing changes and the log says which. In a terminal, SIGHUP means that the terminal has
closed, and ends the process in order.

## All settings

| setting | default | bounds | live | meaning |
| --- | --- | --- | --- | --- |
"""


def main() -> None:
    """Write the file."""
    TARGET.write_text(reference())


def reference() -> str:
    """The whole document."""
    rows = [
        f"| `{variable(name)}` | {_shown(field.default)} | {bounds(field)} |"
        f" {'yes' if live(field) else ''} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return INTRODUCTION + "".join(rows)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    main()
