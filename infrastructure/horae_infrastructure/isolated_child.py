"""Call one function in a fresh interpreter: the program that `isolated.run_isolated` starts.

Standard input holds a line of JSON, `{"target", "path", "main"}`, then the argument as JSON. The
answer goes to the descriptor that is named on the command line: `=` and the result as JSON, or `!`
and `{"type", "message", "stack"}`, and a newline, without which it is not complete.

What only some calls need is imported when they need it, because every call waits for the start.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from collections.abc import Callable
from operator import attrgetter
from typing import Any


def main(answer: int) -> None:
    """Read the request, call, answer, and end without waiting for threads that still run."""
    os.set_inheritable(answer, False)
    with open(0, "rb", closefd=False) as file:
        request, argument = json.loads(file.readline()), json.loads(file.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        sys.path[:] = request["path"]
        result = found(request["target"], request["main"])(argument)
        if hasattr(result, "__await__"):
            import asyncio  # noqa: PLC0415

            result = asyncio.run(finish(result))
        reply = b"=" + encoded(result)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        reply = b"!" + json.dumps(described(error)).encode()
    with open(answer, "wb") as pipe:
        pipe.write(reply + b"\n")
    sys.stdout.flush()
    sys.stderr.flush()
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    os._exit(0)


async def finish(awaitable: Any) -> Any:
    """The result of anything that can be awaited."""
    return await awaitable


def found(target: str, main: dict[str, str] | None) -> Callable[[Any], Any]:
    """The function; of a program that was run as `__main__`, its module under another name."""
    module, _, qualname = target.partition(":")
    if main is None:
        space: object = importlib.import_module(module)
    else:
        import runpy  # noqa: PLC0415

        runs = runpy.run_path(main["file"], run_name="__horae_main__")
        sys.modules["__main__"] = sys.modules["__horae_main__"] = types.ModuleType("__main__")
        vars(sys.modules["__main__"]).update(runs)
        space = sys.modules["__main__"]
    function: Callable[[Any], Any] = attrgetter(qualname)(space)
    return function


def encoded(result: Any) -> bytes:
    """The result as JSON, with the types that results may have."""
    try:
        return json.dumps(result, allow_nan=False).encode()
    except (TypeError, ValueError):
        import msgspec  # noqa: PLC0415

        return msgspec.json.encode(result, enc_hook=plain)


def plain(value: Any) -> Any:
    """A pydantic model as JSON values."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


def described(error: BaseException) -> dict[str, str]:
    """What the parent is told of an error."""
    import traceback  # noqa: PLC0415

    from horae_domain.errors import reason_of  # noqa: PLC0415

    return {
        "type": type(error).__name__,
        "message": reason_of(error),
        "stack": "".join(traceback.format_exception(error)),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
