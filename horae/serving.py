"""Who serves what, as far as this process knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from horae_application.registry import Registry


class Serving:
    """Which handlers somebody serves: this process's registry, and what others announce."""

    def __init__(
        self,
        registry: Registry | None,
        announced: Any = None,
        *,
        processes: bool = False,
        calls: bool = False,
        find: Callable[[str, str], Awaitable[bool]] | None = None,
        find_check: Callable[[str, str], Awaitable[bool]] | None = None,
    ) -> None:
        self._registry = registry
        self._announced = announced
        self._processes = processes
        self._calls = calls
        self._find = find
        self._find_check = find_check

    def serves(self, name: str) -> bool:
        """True if an executor has it."""
        here = self._registry is not None and self._registry.get(name) is not None
        return here or (self._announced is not None and self._announced.serves(name))

    def names(self) -> Iterable[str]:
        """All names."""
        here = set(self._registry.names()) if self._registry is not None else set()
        return here | set(self._announced.handlers() if self._announced is not None else ())

    def processes(self) -> bool:
        """True if an executor runs command lines."""
        return self._processes or (
            self._announced is not None
            and any(each.processes for each in self._announced.executors())
        )

    async def checks(self, tenant: str, name: str) -> bool:
        """True if this process or another one answers whether a condition is met."""
        if name in self.check_names(tenant):
            return True
        return self._find_check is not None and await self._find_check(tenant, name)

    def check_names(self, tenant: str) -> Iterable[str]:
        """Those of this process, and those that others announce."""
        here = set(self._registry.checks.names()) if self._registry is not None else set()
        return here | set(self._announced.checks(tenant) if self._announced is not None else ())

    def calls(self) -> bool:
        """True if an executor makes HTTP calls."""
        return self._calls or (
            self._announced is not None and any(each.calls for each in self._announced.executors())
        )

    async def answers(self, tenant: str, name: str) -> bool:
        """True if a service of this process or elsewhere answers a command."""
        if name in self.commands(tenant):
            return True
        return self._find is not None and await self._find(tenant, name)

    def commands(self, tenant: str) -> Iterable[str]:
        """Those of this process, and those that others announce."""
        here = set(self._registry.commands.names()) if self._registry is not None else set()
        return here | set(self._announced.commands(tenant) if self._announced is not None else ())
