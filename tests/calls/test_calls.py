"""HTTP calls: what is sent, where they may go, and what an answer means."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trustme
from web_target import Target, answer, target

from horae_application.result import Result
from horae_application.work import Work
from horae_domain.addresses import parse_networks
from horae_domain.signatures import verify
from horae_infrastructure.http.calls import MAX_BODY, HttpCalls

NOW = datetime(2026, 1, 5, 8, 0, 1, tzinfo=UTC)
HERE = parse_networks("127.0.0.0/8")
SECRETS = {
    "partner": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
}


def work(url: str, *, payload: Any = None, traceparent: str | None = None, **action: Any) -> Work:
    return Work(
        execution_id="0a000000-0000-0000-0000-000000000001",
        schedule_id="job",
        tenant="default",
        attempt=2,
        lease="2.1",
        due=datetime(2026, 1, 5, 8, 0, tzinfo=UTC),
        action={"type": "http", "url": url, **action},
        payload=payload,
        traceparent=traceparent,
    )


async def call(told: Work, calls: HttpCalls | None = None) -> Result:
    return await (calls or HttpCalls(HERE, SECRETS)).call(told, NOW)


def error(result: Result) -> dict[str, Any]:
    assert result.outcome == "failed"
    assert result.error is not None
    return result.error


# --- what is sent ---------------------------------------------------------------------------------


async def test_payload_is_sent_as_json_and_says_whose_attempt_it_is(server: Target) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = work(server.url("/a?b=c"), payload={"n": [1, "ä"]}, traceparent=parent)
    told = msgspec.structs.replace(told, carried={"tracestate": "a=1", "baggage": "desk=a"})
    assert (await call(told)).outcome == "succeeded"
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/a?b=c")
    assert json.loads(asked.body) == {"n": [1, "ä"]}
    assert asked.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-type": "application/json",
        "content-length": str(len(asked.body)),
        "accept-encoding": "identity",
        "user-agent": "horae/0.1.0",
        "idempotency-key": told.execution_id,
        "horae-execution-id": told.execution_id,
        "horae-schedule-id": "job",
        "horae-attempt": "2",
        "horae-due": "2026-01-05T08:00:00Z",
        "traceparent": parent,
        "tracestate": "a=1",
        "baggage": "desk=a",
    }


async def test_body_and_headers_of_the_action_are_sent_instead(server: Target) -> None:
    headers = {"Content-Type": "text/csv", "Authorization": "Bearer x"}
    told = work(server.url(), payload={"n": 1}, body="a;b\n", method="PUT", headers=headers)
    await call(told)
    (asked,) = server.asked
    assert (asked.method, asked.body) == ("PUT", b"a;b\n")
    assert asked.headers["content-type"] == "text/csv"
    assert asked.headers["authorization"] == "Bearer x"


async def test_call_without_payload_has_no_body(server: Target) -> None:
    await call(work(server.url(), method="GET"))
    (asked,) = server.asked
    assert asked.body == b""
    assert "content-type" not in asked.headers


async def test_signature_is_verified_by_each_secret_while_one_is_rotated(server: Target) -> None:
    await call(work(server.url(), payload={"n": 1}, secret="partner"))
    (asked,) = server.asked
    assert asked.headers["webhook-id"] == asked.headers["horae-execution-id"]
    for secret in SECRETS["partner"].split():
        verify([secret], asked.headers, asked.body, now=NOW.timestamp())


async def test_secret_that_this_executor_has_not_is_retried_and_nothing_is_sent(server) -> None:
    refused = error(await call(work(server.url(), secret="other")))
    assert refused["type"] == "SecretUnknown"
    assert "partner" in refused["message"]
    assert not refused.get("final")
    assert server.connections == 0


# --- what an answer means -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (answer(200, b'{"a": [1.5]}', "application/json; charset=utf-8"), {"a": [1.5]}),
        (answer(201, b"text"), "text"),
        (answer(200, b"{broken", "application/json"), "{broken"),
        (answer(200, b"\xff\xfe", "application/octet-stream"), "��"),
        (answer(204), None),
        (answer(200, b"[" * 300 + b"]" * 300, "application/json"), "[" * 300 + "]" * 300),
    ],
)
async def test_status_of_the_200_class_is_success_whatever_the_body_is(server, raw, body) -> None:
    server.answers = [raw]
    result = await call(work(server.url()))
    assert result.outcome == "succeeded"
    assert result.value["body"] == body


@pytest.mark.parametrize(
    "body", [b"x" * (MAX_BODY + 1), b"\x00" * MAX_BODY], ids=["long", "long when escaped"]
)
async def test_body_beyond_its_bound_is_cut_and_the_call_has_succeeded(server, body) -> None:
    server.answers = [answer(200, body)]
    result = await call(work(server.url()))
    assert result.outcome == "succeeded"
    assert result.value["truncated"]
    assert len(result.value["body"]) == 2000


async def test_body_without_end_is_read_to_its_bound_alone(server: Target) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n"
    server.answers = [head + b"x" * (MAX_BODY + 100_000)]
    assert (await call(work(server.url()))).value["truncated"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_status_that_may_be_better_later_is_retried(server: Target, status: int) -> None:
    server.answers = [answer(status, b"busy")]
    failed = error(await call(work(server.url())))
    assert failed == {"type": f"Http{status}", "message": f"HTTP {status}: busy"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422])
async def test_status_that_stays_is_final(server: Target, status: int) -> None:
    server.answers = [answer(status, retry_after="5")]
    failed = error(await call(work(server.url())))
    assert failed["final"]
    assert "retry_after" not in failed


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("Mon, 05 Jan 2026 08:02:01 GMT", 120),
        ("Mon, 05 Jan 2026 07:00:00 GMT", 0),
        ("99999999999999999999", 86400),
        ("Mon, 05 Jan 2099 08:02:01 GMT", 86400),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
async def test_delay_that_the_server_asks_for_is_the_one_before_the_next_attempt(
    server: Target, told: str, seconds: int | None
) -> None:
    server.answers = [answer(503, retry_after=told)]
    assert error(await call(work(server.url()))).get("retry_after") == seconds


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_refused_and_not_followed(server: Target, status: int) -> None:
    server.answers = [answer(status, location="/elsewhere")]
    failed = error(await call(work(server.url())))
    assert failed["final"]
    assert "redirects" in failed["message"]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "RemoteProtocolError"),
        (b"no HTTP at all\r\n\r\n", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
)
async def test_answer_that_is_broken_is_retried(server: Target, raw: bytes, kind: str) -> None:
    server.answers = [raw]
    failed = error(await call(work(server.url())))
    assert failed["type"] == kind
    assert not failed.get("final")


async def test_silence_ends_at_the_timeout_of_the_whole_call(server: Target) -> None:
    server.answers = [None]
    failed = error(await call(work(server.url(), timeout="200ms")))
    assert failed == {"type": "CallTimeout", "message": "no answer in 0.2 s"}


async def test_port_that_nobody_listens_on_is_retried(server: Target) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        failed = error(await call(work(f"http://127.0.0.1:{port}/")))
    assert failed["type"] == "ConnectError"
    assert not failed.get("final")


# --- where calls may go ---------------------------------------------------------------------------


class Resolver:
    """Answers each question by the next list; the last one goes on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fe80::1]",
        "224.0.0.1",
    ],
)
async def test_private_host_is_refused_however_it_is_written(server: Target, host: str) -> None:
    failed = error(await call(work(server.url(host=host)), HttpCalls()))
    assert failed["type"] in {"AddressRefused", "NameNotResolved"}
    assert server.connections == 0


async def test_name_with_one_private_address_is_refused_though_others_are_public(server) -> None:
    calls = HttpCalls(resolve=Resolver(["8.8.8.8", "10.0.0.1"]))
    failed = error(await call(work(server.url(host="two.example")), calls))
    assert failed["type"] == "AddressRefused"
    assert failed["final"]
    assert "10.0.0.1" in failed["message"]


async def test_connection_goes_to_the_address_that_was_checked(server: Target) -> None:
    # The second answer would be refused, or go elsewhere: nobody asks for it.
    resolver = Resolver(["127.0.0.1"], ["169.254.169.254"])
    calls = HttpCalls(HERE, resolve=resolver)
    assert (await call(work(server.url(host="name.example")), calls)).outcome == "succeeded"
    assert resolver.asked == 1
    assert server.asked[0].headers["host"] == f"name.example:{server.port}"


async def test_name_that_turns_private_between_attempts_is_refused_then(server: Target) -> None:
    calls = HttpCalls(HERE, resolve=Resolver(["127.0.0.1"], ["169.254.169.254"]))
    told = work(server.url(host="rebind.example"))
    assert (await call(told, calls)).outcome == "succeeded"
    assert error(await call(told, calls))["type"] == "AddressRefused"
    assert server.connections == 1


async def test_next_address_is_tried_where_one_does_not_answer(server: Target) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", server.port))  # taken, and nobody listens
        calls = HttpCalls(HERE, resolve=Resolver(["127.0.0.2", "127.0.0.1"]))
        result = await call(work(server.url(host="two.example")), calls)
    assert result.outcome == "succeeded"


async def test_name_without_address_is_retried() -> None:
    failed = error(await call(work("http://no.invalid/")))
    assert failed["type"] == "NameNotResolved"
    assert not failed.get("final")
    empty = error(await call(work("http://a.example/"), HttpCalls(resolve=Resolver([]))))
    assert empty["type"] == "NameNotResolved"


async def test_lookup_that_hangs_ends_at_the_timeout_of_the_connection() -> None:
    async def hangs(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    told = work("http://slow.example/", connect_timeout="100ms")
    assert error(await call(told, HttpCalls(resolve=hangs)))["type"] == "ConnectTimeout"


async def test_proxies_of_the_environment_are_not_asked(server: Target, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await call(work(server.url()))).outcome == "succeeded"


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server with these names, and of a client that trusts the authority."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(serving)
    calling = ssl.create_default_context()
    authority.configure_trust(calling)
    return serving, calling


async def test_certificate_is_that_of_the_name_though_an_address_is_connected_to(authority):
    serving, calling = contexts(authority, "partner.example")
    async with target(serving) as served:
        resolver = Resolver(["127.0.0.1"])
        url = served.url(host="partner.example", scheme="https")
        calls = HttpCalls(HERE, resolve=resolver, tls=calling)
        assert (await call(work(url), calls)).outcome == "succeeded"


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificate_of_another_name_or_of_nobody_known_is_refused(authority, trusted):
    serving, calling = contexts(authority, "other.example" if trusted else "partner.example")
    async with target(serving) as served:
        url = served.url(host="partner.example", scheme="https")
        tls = calling if trusted else None
        calls = HttpCalls(HERE, resolve=Resolver(["127.0.0.1"]), tls=tls)
        failed = error(await call(work(url), calls))
        assert failed["type"] == "ConnectError"
        assert "CERTIFICATE_VERIFY_FAILED" in failed["message"]
        assert not served.asked
