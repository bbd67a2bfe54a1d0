"""The functions that an application serves, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, get_type_hints

from pydantic import TypeAdapter, ValidationError

from horae_application.cqrs import Cqrs, Kind, read_model
from horae_application.errands import Externals
from horae_application.hooks import Hooks
from horae_domain.events import COMMAND

Function = Callable[..., Any]


class Told(Protocol):
    """What a function is told first: a run's context, or a service's call."""

    @property
    def payload(self) -> Any:
        """A JSON value."""
        ...


class PayloadInvalid(Exception):
    """The payload does not fit the type that the handler is annotated with; it is not retried."""


class Handler(NamedTuple):
    """A function and how to call it."""

    name: str
    function: Function
    asynchronous: bool
    arguments: int
    read: Callable[[Any], Any] | None
    """Validates the payload into the annotated type; None takes it as it is."""

    def call_arguments(self, context: Told) -> tuple[Any, ...]:
        """The positional arguments of a call.

        Raises:
            PayloadInvalid: the payload is not of the annotated type.
        """
        if self.arguments == 0:
            return ()
        if self.arguments == 1:
            return (context,)
        if self.read is None:
            return (context, context.payload)
        try:
            return (context, self.read(context.payload))
        except ValidationError as error:
            raise PayloadInvalid(str(error)) from error


class Functions:
    """Functions of one application by explicit, unique names."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self.listeners: list[Callable[[], object]] = []
        """Called when there is one more, in the thread that has added it."""

    def add(self, name: str, function: Function) -> None:
        """Serve `name` by a function of (context) or (context, payload).

        Raises:
            ValueError: the name is taken by another function.
            TypeError: the function takes more arguments.
        """
        if name in self._handlers and self._handlers[name].function is not function:
            raise ValueError(f"a handler named {name!r} is registered already")
        self._put(inspect_handler(name, function))

    def _put(self, handler: Handler) -> None:
        self._handlers[handler.name] = handler
        for listener in list(self.listeners):
            listener()

    def get(self, name: str) -> Handler | None:
        """The handler of a name."""
        return self._handlers.get(name)

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        return sorted(self._handlers)


class Registry(Functions):
    """What one application serves: handlers, its own commands and queries, and its services'."""

    def __init__(self) -> None:
        super().__init__()
        self.commands = Functions()
        """By service and command, such as `trading.Rebalance`."""
        self.hooks = Hooks()
        """What is told of what it does."""
        self.externals: Externals | None = None
        """Services outside that its handlers call."""
        self.checks = Functions()
        """Conditions and checks."""
        self.cqrs = Cqrs()
        """Its own commands and queries."""

    def add(self, name: str, function: Function) -> None:
        """The same; names that begin with `command:` are those of its own commands."""
        if name.startswith(COMMAND):
            raise ValueError(f"names that begin with {COMMAND!r} are those of commands")
        super().add(name, function)

    def take(self, kind: Kind, function: Function, name: str | None = None) -> None:
        """Let a function take the application's commands, or answer its queries, of one type.

        Raises:
            ValueError: another function does so already.
            TypeError: the function does not take one pydantic model, after the context or alone.
        """
        taker = self.cqrs.add(kind, function, name)
        if kind == "command":
            read = partial(read_model, taker.model)
            handled = COMMAND + taker.name
            self._put(Handler(handled, taker.call, taker.asynchronous, 2, read))


@contextmanager
def listening(functions: Functions, listener: Callable[[], object]) -> Iterator[None]:
    """Hear of functions that are added meanwhile."""
    functions.listeners.append(listener)
    try:
        yield
    finally:
        functions.listeners.remove(listener)


def inspect_handler(name: str, function: Function) -> Handler:
    """How to call a function.

    Raises:
        TypeError: it takes more than a context and a payload.
    """
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]
    if len(parameters) > 2:  # noqa: PLR2004 - context and payload
        raise TypeError(f"handler {name!r} takes the context and, if it wants, the payload")
    read = None
    if len(parameters) == 2:  # noqa: PLR2004
        annotation = _hints(function).get(parameters[1].name, Any)
        if annotation is not Any:
            read = TypeAdapter(annotation).validate_python
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may be asynchronous
    asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
    return Handler(name, function, asynchronous, len(parameters), read)


def _hints(function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError as error:
        raise TypeError(f"{function!r}: an annotation cannot be resolved: {error}") from error
