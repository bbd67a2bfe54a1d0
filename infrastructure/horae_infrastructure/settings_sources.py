"""Where settings are told: the environment, files that hold one value, and one TOML file.

It imports little, so that client commands can look here without waiting.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from horae_domain.errors import InvalidField

PREFIX = "HORAE_"
CONFIG = "HORAE_CONFIG"
"""Names the TOML file; it is no setting itself."""
TO_COMMANDS = {"HORAE_EXECUTION_ID", "HORAE_SCHEDULE_ID", "HORAE_DUE", "HORAE_ATTEMPT"}
"""What commands run by an executor are told; no settings either."""
FROM_FILE = "_FILE"
"""After a setting's variable: the value is the content of the file named, as for secrets."""


class Told(NamedTuple):
    """A value as it was told, and by whom."""

    value: Any
    source: str


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def told(
    names: Collection[str], environment: Mapping[str, str], config: Path | None = None
) -> dict[str, Told]:
    """What is told of the settings named; the environment wins over the TOML file.

    Args:
        names: of all settings there are.
        environment: variables; an empty one counts as not set.
        config: the TOML file, instead of the one that `HORAE_CONFIG` names.

    Raises:
        InvalidField: a file cannot be read, has a key that is no setting, or a setting is told by
            a variable and by a file of its own.
    """
    content, source = _content_of(config, environment)
    for key in content.keys() - set(names):
        near = difflib.get_close_matches(key, names, 1)
        hint = f"did you mean {near[0]}" if near else f"there are: {', '.join(names)}"
        raise InvalidField(f"there is no such setting in {source}; {hint}", field=key)
    found = {key: Told(value, source) for key, value in content.items()}
    return found | _of_environment(names, environment)


def look(name: str, environment: Mapping[str, str]) -> str | None:
    """What is told of one setting; nothing else is looked at, and its bounds are not.

    Raises:
        InvalidField: the file that tells it cannot be read.
    """
    found = _of_environment([name], environment).get(name)
    value = _content_of(None, environment)[0].get(name) if found is None else found.value
    return None if value is None else str(value)


def unknown_variables(names: Collection[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables `HORAE_…` that are no setting, each with the nearest that is one, or nothing."""
    known = (
        {CONFIG} | TO_COMMANDS | {variable(name) + end for name in names for end in ("", FROM_FILE)}
    )
    strange = sorted(name for name in environment.keys() - known if name.startswith(PREFIX))
    return {each: next(iter(difflib.get_close_matches(each, known, 1)), "") for each in strange}


def _of_environment(names: Collection[str], environment: Mapping[str, str]) -> dict[str, Told]:
    found = {}
    for name in names:
        direct = variable(name)
        value, path = environment.get(direct), environment.get(direct + FROM_FILE)
        if value and path:
            raise InvalidField(
                f"{direct} and {direct + FROM_FILE} are both set; one of them is needed", field=name
            )
        if value:
            found[name] = Told(value, direct)
        elif path:
            found[name] = Told(_content(Path(path), name), f"{direct + FROM_FILE} {path}")
    return found


def _content(path: Path, name: str) -> str:
    """The one value of a file, without the space around it."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField(
            f"the file cannot be read: {_reason(error)}", field=name, value=path
        ) from error


def _content_of(config: Path | None, environment: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """What the TOML file says, and its name; nothing where there is none."""
    if config is None and environment.get(CONFIG):
        config = Path(environment[CONFIG])
    if config is None:
        return {}, ""
    try:
        return tomllib.loads(config.read_text()), str(config)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidField(
            f"the settings' file cannot be read: {_reason(error)}", field="config", value=config
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
