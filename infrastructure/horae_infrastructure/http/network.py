"""Connections to hosts that may be reached, and to no others.

A name is looked up once for a connection, every address that it has is checked, and the connection
goes to an address that was checked: a name that says something else a moment later (DNS rebinding)
changes nothing. TLS goes on to verify the name.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

from horae_domain.addresses import Address, Network, may_reach, parse_address
from horae_domain.errors import HoraeError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as texts; an OSError if it has none."""


class AddressRefused(HoraeError):
    """A host has an address that is neither public nor in a network that is allowed."""

    code = "address_refused"
    status = 403


class NameNotResolved(HoraeError):
    """A host has no address, or nobody could say."""

    code = "name_not_resolved"
    status = 503


async def resolve(host: str, port: int) -> Sequence[str]:
    """As the system resolves it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """A network backend of httpcore that checks where it connects to.

    Args:
        allowed: networks that may be reached though they are not public.
        resolve: looks hosts up.
    """

    def __init__(self, allowed: Iterable[Network] = (), *, resolve: Resolve = resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers.

        Raises:
            AddressRefused: one of them may not be reached; none is tried.
            NameNotResolved: it has none.
            httpcore.ConnectError, httpcore.ConnectTimeout: none answers.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._first(
                    await self._addresses(host, port), port, local_address, socket_options
                )
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection to {host} in {timeout:g} s") from error

    async def _first(
        self, addresses: Sequence[Address], port: int, *told: Any
    ) -> httpcore.AsyncNetworkStream:
        failed: list[httpcore.ConnectError] = []
        for address in addresses:
            try:
                return await self._network.connect_tcp(str(address), port, None, *told)
            except httpcore.ConnectError as error:
                failed.append(error)
        raise failed[0]

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise NameNotResolved(f"{host} cannot be looked up: {error}", value=host) from error
        addresses = [self._checked(host, each) for each in dict.fromkeys(found)]
        if not addresses:
            raise NameNotResolved(f"{host} has no address", value=host)
        return addresses

    def _checked(self, host: str, text: str) -> Address:
        try:
            address = parse_address(text)
        except ValueError as error:
            raise AddressRefused(f"{host} has the address {text}", value=host) from error
        if not may_reach(address, self._allowed):
            raise AddressRefused(
                f"{host} has the address {text}, which is not public;"
                " HORAE_HTTP_NETWORKS allows networks of your own",
                value=host,
            )
        return address
