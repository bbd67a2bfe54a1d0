"""Signatures of webhooks, by the cases of the projects that defined them."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from horae_domain.signatures import (
    SecretInvalid,
    SignatureInvalid,
    sign,
    verify,
    verify_github,
    verify_stripe,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "webhook_signatures.json").read_text())[
    "cases"
]
NEVER_BOUND = "stripe-no_tolerance_old_ts"
"""It accepts a message of any age, as the library of its source does unless told; here none is."""
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def of(scheme: str) -> list:
    return [
        pytest.param(each, id=each["id"])
        for each in CASES
        if each["scheme"] == scheme and each["id"] != NEVER_BOUND
    ]


def judged(call, case) -> None:
    if case["expected"] == "valid":
        call()
        return
    error = SecretInvalid if case["expected"] == "error" else SignatureInvalid
    with pytest.raises(error):
        call()


@pytest.mark.parametrize("case", of("standard-webhooks"))
def test_standard_webhooks_are_judged_as_their_libraries_do(case):
    judged(
        lambda: verify(
            [case["secret"]],
            {name.lower(): value for name, value in case["headers"].items()},
            case["payload"].encode(),
            now=case["now"],
            tolerance=case["tolerance_s"],
        ),
        case,
    )


@pytest.mark.parametrize("case", of("github-sha256"))
def test_signatures_of_github_are_judged_as_its_library_does(case):
    secrets = [case["secret"], *case.get("fallback_secrets", [])]
    judged(lambda: verify_github(secrets, case["signature"], case["payload"].encode()), case)


@pytest.mark.parametrize("case", of("stripe-v1"))
def test_signatures_of_stripe_are_judged_as_its_library_does(case):
    judged(
        lambda: verify_stripe(
            [case["secret"]],
            case["header"],
            case["payload"].encode(),
            now=case["now"],
            tolerance=case["tolerance_s"],
        ),
        case,
    )


def test_what_is_signed_is_the_literal_signature_of_the_cases():
    literal = [each for each in CASES if each["id"] in {"sw-sign_vector", "sw-prefixed_secret"}]
    assert len(literal) == 2
    for case in literal:
        headers = case["headers"]
        timestamp = int(headers["webhook-timestamp"])
        body = case["payload"].encode()
        assert sign([case["secret"]], headers["webhook-id"], timestamp, body) == headers


def test_message_signed_while_a_secret_is_rotated_is_accepted_by_either_secret():
    headers = sign([SECRET, OTHER], "msg-1", 1000, b"{}")
    assert len(headers["webhook-signature"].split()) == 2
    verify([SECRET], headers, b"{}", now=1000)
    verify([OTHER], headers, b"{}", now=1000)
    verify(["whsec_AAAA", OTHER], headers, b"{}", now=1000)
    with pytest.raises(SignatureInvalid):
        verify(["whsec_AAAA"], headers, b"{}", now=1000)


@pytest.mark.parametrize("change", ["body", "id", "timestamp", "old", "ahead"])
def test_message_that_is_not_as_it_was_signed_or_not_recent_is_refused(change):
    headers, body, now = sign([SECRET], "msg-1", 1000, b"{}"), b"{}", 1000.0
    match change:
        case "body":
            body = b"[]"
        case "id":
            headers["webhook-id"] = "msg-2"
        case "timestamp":
            headers["webhook-timestamp"] = "1001"
        case "old":
            now = 1301
        case "ahead":
            now = 699
    with pytest.raises(SignatureInvalid):
        verify([SECRET], headers, body, now=now)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_header_that_is_missing_is_named(name):
    headers = sign([SECRET], "msg-1", 1000, b"{}")
    later = [each for each in headers if list(headers).index(each) > list(headers).index(name)]
    for absent in ([name], [name, *later]):
        left = {each: text for each, text in headers.items() if each not in absent}
        with pytest.raises(SignatureInvalid, match=name) as caught:
            verify([SECRET], left, b"{}", now=1000)
        assert caught.value.field == name


@pytest.mark.parametrize(
    "timestamp", ["-1000", "1e3", "1000.0", "\u0661\u0660\u0660", "9" * 5000, " 1000"]
)
def test_timestamp_that_is_no_whole_number_of_seconds_is_refused(timestamp):
    headers = sign([SECRET], "msg-1", 1000, b"{}") | {"webhook-timestamp": timestamp}
    with pytest.raises(SignatureInvalid):
        verify([SECRET], headers, b"{}", now=1000)


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "ä"])
def test_secret_that_nothing_can_be_signed_with_is_refused(secret):
    with pytest.raises(SecretInvalid):
        sign([secret], "msg-1", 1000, b"{}")


def test_no_secret_at_all_is_refused():
    with pytest.raises(SecretInvalid):
        sign([], "msg-1", 1000, b"{}")


@pytest.mark.parametrize("length", range(1, 9))
def test_secret_may_leave_out_its_padding(length):
    whole = b64encode(bytes(range(length))).decode()
    assert sign([whole.rstrip("=")], "m", 1, b"") == sign([whole], "m", 1, b"")
