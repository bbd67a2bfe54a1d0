"""What client commands take from the settings' file where no option and no variable says it."""

from __future__ import annotations

import os
import re
from typing import Any

import typer

TOLD = {"nats": "nats_url", "tenant": "tenant"}
"""Options by the setting that they stand for."""
OWN = {"dev", "serve", "config", "replay"}
"""Commands that read all settings themselves."""


def defaults(app: typer.Typer) -> dict[str, Any]:
    """Defaults of options by command, as click takes them; empty where no file is named.

    Raises:
        InvalidField: a file that is named cannot be read.
    """
    if not any(re.fullmatch("HORAE_(CONFIG|.*_FILE)", name) for name in os.environ):
        return {}
    from horae_infrastructure.settings_sources import look

    found = {option: look(setting, os.environ) for option, setting in TOLD.items()}
    told = {option: value for option, value in found.items() if value is not None}
    return _below(typer.main.get_command(app), told)


def _below(command: Any, told: dict[str, str]) -> dict[str, Any]:
    """The same defaults for every command of a group."""
    below = getattr(command, "commands", None)
    if below is None:
        return dict(told)
    return {name: _below(child, told) for name, child in below.items() if name not in OWN}
