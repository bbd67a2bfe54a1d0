"""`horae` and `python -m horae`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from horae.cli.main import run
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit("The command line needs more packages: pip install 'horae[cli]'")
    run()


if __name__ == "__main__":
    main()
