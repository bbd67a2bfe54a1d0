"""Which addresses of the internet anybody may reach, and which belong to networks of somebody's own.

`ipaddress.is_global` says yes to multicast, to site-local addresses and to addresses that a gateway
translates into private ones; here only what is assigned for global unicast is public, and an address
that carries another one is judged by that one, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_RESERVED = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_RELAYS = IPv4Network("192.88.99.0/24")


def parse_address(text: str) -> Address:
    """An address of its text; one that only wraps an IPv4 address (`::ffff:…`) is that one.

    Raises:
        ValueError: it is none, or is bound to an interface of this machine.
    """
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        raise ValueError(f"{text!r} is bound to an interface")
    return address.ipv4_mapped or address


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks divided by commas, such as `10.0.0.0/8,fd00::/8`.

    Raises:
        ValueError: one of them is none, or has bits beyond its length.
    """
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def is_public(address: Address) -> bool:
    """True for global unicast alone."""
    if isinstance(address, IPv4Address):
        special = address.is_multicast or address.is_reserved or address in _RELAYS
        return address.is_global and not special
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _UNICAST and not any(address in each for each in _RESERVED)


def may_reach(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """True if an address is public, or lies in a network that is allowed."""
    return is_public(address) or any(address in each for each in allowed)
