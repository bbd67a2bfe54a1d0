"""The application's own commands and queries (A5): models in, answers out, in this process.

A function takes one pydantic model, and the context of the run before it if it wants. The model's
class names the command unless the application does.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_type_hints

import msgspec
from pydantic import BaseModel, ValidationError

from horae_application.log import get_logger
from horae_domain.complaints import translate
from horae_domain.errors import HoraeError, InvalidField, UnknownCommand

NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
Function = Callable[..., Any]
Kind = Literal["command", "query"]

_log = get_logger("horae.handler")


class Answer(msgspec.Struct, frozen=True):
    """What became of a command or a query: its data, or the error (`type`, `message`, …)."""

    success: bool
    data: Any = None
    error: dict[str, Any] | None = None


class Taker(NamedTuple):
    """A function that takes the commands, or answers the queries, of one type."""

    name: str
    model: type[BaseModel]
    function: Function
    asynchronous: bool
    wants_context: bool

    def call(self, context: Any, message: BaseModel) -> Any:
        """Call it; what comes back may be awaitable."""
        return self.function(context, message) if self.wants_context else self.function(message)


class Cqrs:
    """Commands and queries of one application, each type taken by one function."""

    def __init__(self) -> None:
        self._takers: dict[Kind, dict[str, Taker]] = {"command": {}, "query": {}}
        self._named: dict[tuple[Kind, type[BaseModel]], str] = {}

    def add(self, kind: Kind, function: Function, name: str | None = None) -> Taker:
        """Let a function take the commands, or answer the queries, of its model's type.

        Raises:
            TypeError: the function does not take one pydantic model, after the context or alone.
            ValueError: another function takes them already, or no type is called so.
        """
        taker = taker_of(function, name)
        if NAME.fullmatch(taker.name) is None:
            raise ValueError(f"a {kind} is called by 1 to 128 of A-Z a-z 0-9 _ . : / -")
        known = self._takers[kind].get(taker.name)
        if known is not None and known.function is not function:
            raise ValueError(f"the {kind} {taker.name!r} has a handler already")
        self._takers[kind][taker.name] = taker
        self._named[kind, taker.model] = taker.name
        return taker

    def names(self, kind: Kind) -> Sequence[str]:
        """The types that are taken, sorted."""
        return sorted(self._takers[kind])

    def name_of(self, model: type[BaseModel], kind: Kind = "command") -> str:
        """What a command or query of a class is called; its class's name unless told."""
        return self._named.get((kind, model), model.__name__)

    def restore(self, name: str, data: Any) -> Any:
        """The command of its JSON value; that value where its type is not known here, or differs."""
        taker = self._takers["command"].get(name)
        if taker is None:
            return data
        try:
            return read_model(taker.model, data)
        except ValidationError:
            return data

    async def execute(
        self, kind: Kind, type_: str | BaseModel, data: Any, context: Any = None
    ) -> Answer:
        """Call the handler of a type with a validated model; errors are in the answer."""
        name = self.name_of(type(type_), kind) if isinstance(type_, BaseModel) else type_
        try:
            taker = self._takers[kind].get(name)
            if taker is None:
                raise unknown(kind, name, self.names(kind))  # noqa: TRY301 - it is answered
            message = type_ if isinstance(type_, BaseModel) else _validated(taker.model, data)
            if taker.asynchronous:
                return Answer(True, await taker.call(context, message))
            value = await asyncio.to_thread(taker.call, context, message)
            return Answer(True, await value if inspect.isawaitable(value) else value)
        except HoraeError as error:
            return Answer(False, error=described(error))
        except Exception as error:  # noqa: BLE001 - the caller is told
            _log.warning("handler failed", kind=kind, type=name, exc_info=True)
            return Answer(False, error=described(error))


def unknown(kind: Kind, name: str, known: Sequence[str]) -> UnknownCommand:
    """The error of a type that nobody takes."""
    there = ", ".join(known) or "none"
    return UnknownCommand(
        f"no handler takes the {kind} {name!r}; there are: {there}",
        field=kind,
        value=name,
        known=list(known),
    )


def described(error: Exception) -> dict[str, Any]:
    """An error as an answer has it; one of Horae's with its code and field."""
    told = error.to_json() if isinstance(error, HoraeError) else {"message": str(error)}
    return {"type": type(error).__name__, **told}


def read_model(model: type[BaseModel], data: Any) -> BaseModel:
    """A model of its JSON value.

    Raises:
        ValidationError: it does not fit.
    """
    return model.model_validate_json(msgspec.json.encode(data))


def _validated(model: type[BaseModel], data: Any) -> BaseModel:
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise translate(error, "data") from error


def dump(message: BaseModel) -> Any:
    """The JSON value of a model, from which it comes back as it was.

    Raises:
        InvalidField: it would not come back; the field that stands in the way is named.
    """
    data = message.model_dump(mode="json", by_alias=True, round_trip=True)
    try:
        read_model(type(message), data)
    except ValidationError as error:
        raise translate(error, "data") from error
    except (msgspec.MsgspecError, TypeError, RecursionError) as error:
        raise InvalidField(f"not JSON: {error}", field="data") from error
    return data


def taker_of(function: Function, name: str | None = None) -> Taker:
    """How to call a function, by its annotations.

    Raises:
        TypeError: it does not take one pydantic model, after the context or alone.
    """
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise TypeError(f"{function!r}: an annotation cannot be resolved: {error}") from error
    taken = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]
    model = hints.get(taken[-1]) if taken else None
    if len(taken) not in {1, 2} or not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(
            f"{function!r} takes a pydantic model, which is annotated, after the context or alone"
        )
    asynchronous = inspect.iscoroutinefunction(function)
    return Taker(name or model.__name__, model, function, asynchronous, len(taken) > 1)
