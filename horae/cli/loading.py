"""`APP`: the application object of a module, as uvicorn names it."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from horae.app import Horae
from horae.cli.errors import AppNotFound
from horae_domain.errors import reason_of


def load_app(name: str | None) -> Horae:
    """The `Horae` object that `module:attribute` or `path/file.py:attribute` names.

    The attribute is `app` unless told; modules are looked for in the working directory first. None
    is an application without handlers.

    Raises:
        AppNotFound: the module cannot be imported, or has no such object.
    """
    if name is None:
        return Horae("horae")
    module_name, _, attribute = name.partition(":")
    module = _import(_from_path(module_name, name), name)
    found: object = module
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Horae):
        raise AppNotFound(
            f"{module_name} has no Horae object {attribute or 'app'!r}", field="APP", value=name
        )
    return found


def _from_path(module_name: str, name: str) -> str:
    """The module's name, with the folder it is found from on `sys.path`."""
    if not module_name.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return module_name
    path = Path(module_name).resolve()
    if not path.is_file():
        raise AppNotFound(f"there is no file {module_name}", field="APP", value=name)
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    return ".".join(parts)


def _import(module_name: str, name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        at = f" ({last.filename}, line {last.lineno})" if "importlib" not in last.filename else ""
        raise AppNotFound(
            f"cannot import {module_name}: {type(error).__name__}: {reason_of(error)}{at}",
            field="APP",
            value=name,
        ) from error
