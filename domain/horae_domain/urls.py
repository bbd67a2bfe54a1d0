"""URLs that may be called: one reading of each, and nothing that two programs read differently."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_URL = 2048
"""Characters."""
PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!$-;=?-\[\]_a-z~]*)?",
    re.IGNORECASE,
)


class Url(NamedTuple):
    """The parts of a URL; the host of an IPv6 address is without its brackets."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as they are sent."""

    @property
    def authority(self) -> str:
        """What the header `host` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str) -> Url:
    """Take a URL apart.

    Ports below 1024 are those of other protocols, but for 80 and 443.

    Raises:
        ValueError: why it is refused, as a sentence.
    """
    if len(text) > MAX_URL:
        raise ValueError(f"a URL has at most {MAX_URL} characters")
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError(_reason(text))
    scheme = found["scheme"].lower()
    port = int(found["port"] or PORTS[scheme])
    if port not in PORTS.values() and not 1024 <= port <= 65535:  # noqa: PLR2004 - as said
        raise ValueError("a port is 80, 443, or 1024 to 65535")
    target = found["target"] or "/"
    return Url(
        scheme,
        found["host"].strip("[]").lower(),
        port,
        target if target.startswith("/") else f"/{target}",
    )


def _reason(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in PORTS:
        return "a URL that begins with http:// or https:// is needed"
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        return "a URL has no user and no password; a header can carry them"
    if "#" in rest:
        return "a URL that is called has no fragment"
    return (
        "a host, perhaps a port, and a path are needed, in ASCII:"
        " names of other scripts in Punycode, other characters percent-encoded"
    )
