"""The child's side of a handler with isolation `process`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from horae_application.context import Context
from horae_application.registry import inspect_handler
from horae_application.result import outcome_of
from horae_application.work import Work
from horae_infrastructure.isolated_child import found


def call(argument: dict[str, Any]) -> dict[str, Any]:
    """Run the handler and make up the body of its report."""
    function = found(argument["target"], argument["main"])
    handler = inspect_handler(argument["target"], function)
    context = Context(msgspec.convert(argument["work"], Work))
    value = function(*handler.call_arguments(context))
    if handler.asynchronous:
        value = asyncio.run(value)
    body: dict[str, Any] = to_jsonable_python(outcome_of(value) | {"logs": context.logs})
    return body
