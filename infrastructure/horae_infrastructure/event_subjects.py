"""The subjects on which external events travel."""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT_TENANT = "default"
"""Whose events travel on subjects without a tenant."""
_PARTS = {"{tenant}": r"(?P<tenant>[A-Za-z0-9_-]{1,64})", "*": r"[^.]+"}


class Pattern(NamedTuple):
    """A kind of subjects, such as `horae.{tenant}.events.{type}`."""

    filter: str
    """The same with wildcards, as a stream captures them."""
    expression: re.Pattern[str]

    def read(self, subject: str) -> tuple[str, str] | None:
        """The tenant and the type that a subject names."""
        found = self.expression.fullmatch(subject)
        if found is None:
            return None
        named = found.groupdict()
        return named.get("tenant", DEFAULT_TENANT), named["type"]


def pattern(text: str) -> Pattern:
    """Read a pattern: `{type}` is the rest of the subject, or one token if more follows.

    Raises:
        ValueError: it has no `{type}`, or a token that is none.
    """
    tokens = text.split(".")
    if "{type}" not in tokens:
        raise ValueError(f"{text!r} does not say where the type stands: {{type}}")
    filters, parts = [], []
    for index, token in enumerate(tokens):
        if token == "{type}":  # noqa: S105 - a token of a subject
            last = index == len(tokens) - 1
            filters.append(">" if last else "*")
            parts.append(f"(?P<type>{'.+' if last else '[^.]+'})")
        elif token in _PARTS:
            filters.append("*")
            parts.append(_PARTS[token])
        elif re.fullmatch(r"[^\s.*>{}]+", token):
            filters.append(token)
            parts.append(re.escape(token))
        else:
            raise ValueError(f"{token!r} is no token of a subject")
    return Pattern(".".join(filters), re.compile(r"\.".join(parts)))
