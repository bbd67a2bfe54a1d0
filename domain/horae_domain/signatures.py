"""Signatures of webhooks: Standard Webhooks, made and verified; those of GitHub and Stripe, verified.

A secret is rotated by having several at a time: what is sent is signed with each, what comes is
verified with any. A signature counts while its timestamp is recent, so that it cannot be sent again
later; GitHub's has none, and its deliveries have to be told apart by their ids.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from horae_domain.errors import HoraeError

TOLERANCE = 300
"""Seconds between the clocks of sender and receiver, either way."""
PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class SignatureInvalid(HoraeError):
    """A message that is not signed as it has to be; why is in the message."""

    code = "signature_invalid"
    status = 401


class SecretInvalid(HoraeError):
    """A secret that nothing can be signed with."""

    code = "secret_invalid"


def sign(secrets: Sequence[str], id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that sign a message by Standard Webhooks.

    Args:
        secrets: Base64, perhaps after `whsec_`; the message is signed with each.
        id_: of the message, the same each time that it is sent.
        timestamp: now, in whole seconds since 1970.
        body: as it is sent.

    Raises:
        SecretInvalid: there is none, or one is not Base64.
    """
    content = _content(id_, str(timestamp), body)
    signatures = [f"v1,{b64encode(_mac(key, content)).decode()}" for key in _keys(secrets)]
    return {ID: id_, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(signatures)}


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Accept a message by Standard Webhooks.

    Args:
        secrets: any of which may have signed it.
        headers: with names in lower case.
        body: as it came.
        now: seconds since 1970.
        tolerance: seconds that the message may be old, or ahead.

    Raises:
        SignatureInvalid: it is not signed with any of them, or not recent.
        SecretInvalid: there is none, or one is not Base64.
    """
    keys = _keys(secrets)
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not headers.get(name)]
    if missing:
        raise SignatureInvalid(f"the header {missing[0]} is missing", field=missing[0])
    _recent(headers[TIMESTAMP], now, tolerance)
    content = _content(headers[ID], headers[TIMESTAMP], body)
    given = [
        each.removeprefix("v1,") for each in headers[SIGNATURE].split() if each.startswith("v1,")
    ]
    _one_of([b64encode(_mac(key, content)).decode() for key in keys], given)


def verify_stripe(
    secrets: Sequence[str],
    header: str,
    body: bytes,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> None:
    """Accept a message by its header `stripe-signature`; see `verify`.

    Raises:
        SignatureInvalid: it is not signed with any of the secrets, or not recent.
    """
    parts = [each.partition("=") for each in header.split(",")]
    timestamps = [value for name, _, value in parts if name == "t"]
    if len(timestamps) != 1:
        raise SignatureInvalid("the signature has no timestamp")
    _recent(timestamps[0], now, tolerance)
    content = timestamps[0].encode() + b"." + body
    given = [value for name, _, value in parts if name == "v1"]
    _one_of([_mac(each.encode(), content).hex() for each in secrets], given)


def verify_github(secrets: Sequence[str], header: str, body: bytes) -> None:
    """Accept a message by its header `x-hub-signature-256`; it says nothing of its age.

    Raises:
        SignatureInvalid: it is not signed with any of the secrets.
    """
    scheme, _, given = header.partition("=")
    if scheme != "sha256":
        raise SignatureInvalid("the signature is not of the scheme sha256")
    _one_of([_mac(each.encode(), body).hex() for each in secrets], [given])


def _keys(secrets: Sequence[str]) -> list[bytes]:
    keys = [_key(each) for each in secrets]
    if not keys:
        raise SecretInvalid("a secret is needed")
    return keys


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(PREFIX)
    encoded += "=" * (-len(encoded) % 4)
    try:
        key = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SecretInvalid("a secret is Base64, perhaps after `whsec_`")
    return key


def _content(id_: str, timestamp: str, body: bytes) -> bytes:
    return f"{id_}.{timestamp}.".encode() + body


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _recent(timestamp: str, now: float, tolerance: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):  # noqa: PLR2004
        raise SignatureInvalid("the timestamp is no number of seconds")
    if abs(now - int(timestamp)) > tolerance:
        raise SignatureInvalid("the timestamp is too old, or ahead of this clock")


def _one_of(expected: Sequence[str], given: Sequence[str]) -> None:
    """Compare all with all, so that the time taken says nothing of what is expected."""
    equal = [hmac.compare_digest(a.encode(), b.encode()) for a in expected for b in given]
    if not any(equal):
        raise SignatureInvalid("no signature is that of a secret known here")
