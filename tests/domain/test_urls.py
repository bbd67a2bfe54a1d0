"""URLs that may be called."""

from __future__ import annotations

import pytest
from histories import definition
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.definition import parse_definition
from horae_domain.errors import InvalidField
from horae_domain.urls import MAX_URL, Url, parse_url


@pytest.mark.parametrize(
    ("text", "url", "authority"),
    [
        ("https://example.com", Url("https", "example.com", 443, "/"), "example.com"),
        ("HTTP://Example.com/A", Url("http", "example.com", 80, "/A"), "example.com"),
        ("https://e.org:8443/a/b?c=d&e=%20", Url("https", "e.org", 8443, "/a/b?c=d&e=%20"), "e.org:8443"),
        ("https://e.org?x=1", Url("https", "e.org", 443, "/?x=1"), "e.org"),
        ("http://[2606:4700::1111]:8080/", Url("http", "2606:4700::1111", 8080, "/"), "[2606:4700::1111]:8080"),
        ("http://e.org:1024", Url("http", "e.org", 1024, "/"), "e.org:1024"),
        ("http://e.org:65535", Url("http", "e.org", 65535, "/"), "e.org:65535"),
        ("http://e.org/me@home", Url("http", "e.org", 80, "/me@home"), "e.org"),
    ],
)  # fmt: skip
def test_url_is_taken_apart(text, url, authority):
    assert parse_url(text) == url
    assert parse_url(text).authority == authority


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://example.com/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("example.com", "http:// or https://"),
        ("", "http:// or https://"),
        ("https://user:secret@example.com/", "no user"),
        ("https://user@example.com/", "no user"),
        ("https://example.com@127.0.0.1/", "no user"),
        ("https://example.com/#part", "no fragment"),
        ("https://example.com:22/", "a port"),
        ("https://example.com:25/", "a port"),
        ("https://example.com:1023/", "a port"),
        ("https://example.com:0/", "a port"),
        ("https://example.com:65536/", "a port"),
        ("https://example.com:/", "ASCII"),
        ("https:///path", "ASCII"),
        ("https://exämple.com/", "Punycode"),
        ("https://example.com/ä", "percent-encoded"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com/a\r\nhost: x", "percent-encoded"),
        ("https://example.com\\@127.0.0.1/", "no user"),
        ("https://example.com/\\", "percent-encoded"),
        ("https://[fe80::1%25eth0]/", "ASCII"),
        ("https://example.com/" + "a" * MAX_URL, "at most"),
    ],
)
def test_url_that_could_be_read_in_two_ways_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_url(text)


@given(st.text(max_size=60).map(lambda text: "http://" + text))
def test_any_text_is_read_or_refused(text):
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert url.target.startswith("/")
    assert url.host == url.host.strip("[]@ ")


def action(**told):
    return parse_definition(
        {"id": "i", "trigger": {"type": "manual"}, "action": {"type": "http", **told}}
    ).action


def test_call_has_its_defaults():
    call = action(url="https://example.com/")
    assert (call.method, call.headers, call.secret) == ("POST", {}, None)
    assert call.timeout.total_seconds() == 15
    assert call.connect_timeout.total_seconds() == 5


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"url": "ftp://x"}, "action.url"),
        ({"url": "https://x", "method": "TRACE"}, "action.method"),
        ({"url": "https://x", "timeout": "31 minutes"}, "action.timeout"),
        ({"url": "https://x", "timeout": 0}, "action.timeout"),
        ({"url": "https://x", "connect_timeout": "2 minutes"}, "action.connect_timeout"),
        ({"url": "https://x", "headers": {"Host": "y"}}, "action.headers.Host"),
        ({"url": "https://x", "headers": {"Webhook-Id": "y"}}, "action.headers.Webhook-Id"),
        ({"url": "https://x", "headers": {"content-length": "5"}}, "action.headers.content-length"),
        ({"url": "https://x", "headers": {"a b": "y"}}, "action.headers.a b"),
        ({"url": "https://x", "headers": {"a": "x\r\nb: c"}}, "action.headers.a"),
        ({"url": "https://x", "secret": "not a name"}, "action.secret"),
        ({"url": "https://x", "follow": True}, "action.follow"),
        ({}, "action.url"),
    ],
)
def test_call_that_breaks_a_rule_is_refused_by_its_field(told, field):
    with pytest.raises(InvalidField) as refused:
        action(**told)
    assert refused.value.field.startswith(field)


def test_a_definition_keeps_its_url_as_it_was_written():
    written = "https://Example.com:443/a?b=c"
    found = definition(action={"type": "http", "url": written})
    assert found.canonical()["action"]["url"] == written
