"""Handlers that ship with Horae, against servers that are there and that are not."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import apprise.plugins.custom_json
import pytest

from horae import Context, Horae, manual, testing
from horae.client import Client
from horae_infrastructure.settings import Settings

NO_RETRY = {"max_attempts": 1}


class Site:
    """A web site that answers as the path says: `/503` with that status."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(int(self.path.split("?", maxsplit=1)[0].strip("/") or 200))
                self.end_headers()

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                site.posted.append(json.loads(self.rfile.read(size)))
                self.do_GET()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"127.0.0.1:{self.port}"


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


async def run(name: str, payload: Any, networks: str = "127.0.0.0/8") -> dict[str, Any]:
    """The execution of a handler of Horae's, once it has ended."""
    async with testing.engine(Horae("app"), http_networks=networks) as engine:
        await engine.create_schedule("s", manual(), name, payload=payload, retry=NO_RETRY)
        id_ = (await engine.trigger_schedule("s"))["execution_id"]
        await engine.settle()
        return await engine.get_execution(id_)


# --- notify ---------------------------------------------------------------------------------------


async def test_message_is_sent_to_every_url(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORAE_NOTIFY_OPS", f"json://user:token@{site.url}/200")
    found = await run(
        "horae.notify",
        {
            "urls": [f"json://{site.url}/200", "env:HORAE_NOTIFY_OPS"],
            "title": "Night",
            "body": "The report is late",
            "type": "warning",
        },
    )
    assert found["status"] == "succeeded", found
    assert found["result"] == {"delivered": 2}
    assert [each["title"] for each in site.posted] == ["Night", "Night"]
    assert {each["type"] for each in site.posted} == {"warning"}


async def test_message_that_does_not_arrive_fails_the_attempt_and_tells_no_secret(
    site: Site,
    closed: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HORAE_NOTIFY_BAD", "nonsense://geheim4")
    urls = [
        f"json://{site.url}/200",
        f"json://u:geheim1@{closed}/geheim2",
        "slack://geheim3",
        "env:HORAE_NOTIFY_BAD",
        "env:HORAE_NOTIFY_UNSET",
    ]
    found = await run("horae.notify", {"urls": urls, "body": "x"})
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "NotDelivered"
    assert attempt["error"]["message"] == (
        "4 of 5: 2 (JSON): the service did not take it, 3 (?): no URL that apprise knows, "
        "4 (?): no URL that apprise knows, 5 (?): HORAE_NOTIFY_UNSET is not set"
    )
    assert len(site.posted) == 1
    for said in (json.dumps(found), caplog.text, *capfd.readouterr()):
        assert "geheim" not in said


async def test_what_a_service_of_apprise_raises_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(self: Any, **_: Any) -> bool:
        raise LookupError(self.url())

    monkeypatch.setattr(apprise.plugins.custom_json.NotifyJSON, "send", fails)
    found = await run("horae.notify", {"urls": ["json://u:geheim@h/geheim"], "body": "x"})
    (attempt,) = found["attempts"]
    assert attempt["error"]["message"] == "1 of 1: 1 (JSON): LookupError"
    assert "geheim" not in json.dumps(found)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({"urls": [], "body": "x"}, "urls"),
        ({"urls": ["slack://***"], "body": "x"}, "without its secrets"),
        ({"urls": ["mail me"], "body": "x"}, "neither a URL nor"),
        ({"urls": ["env:HOME"], "body": "x"}, "neither a URL nor"),
        ({"urls": ["json://h"], "body": ""}, "body"),
        ({"urls": ["json://geheim"], "body": "x", "colour": "red"}, "colour"),
        ({"urls": "json://geheim", "body": "x"}, "urls"),
        (None, "Notification"),
    ],
)
async def test_notification_that_is_none_is_not_tried_again(payload: Any, complaint: str) -> None:
    found = await run("horae.notify", payload)
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "PayloadInvalid"
    assert complaint in attempt["error"]["message"]
    assert "geheim" not in json.dumps(attempt)


async def test_queries_show_payloads_of_shipped_handlers_without_their_secrets() -> None:
    targets = [{"type": "http", "url": "https://u:secret@example.com/a?key=secret"}, 5]
    urls = ["slack://secret/secret", "env:HORAE_NOTIFY_OPS", "secret", 7]
    async with testing.engine(Horae("app")) as engine:
        for id_, name, payload in (
            ("n", "horae.notify", {"urls": urls, "body": "x"}),
            ("h", "horae.health_check", {"targets": targets}),
        ):
            await engine.create_schedule(id_, manual(), name, payload=payload, retry=NO_RETRY)
            run_id = (await engine.trigger_schedule(id_, payload=payload))["execution_id"]
            shown = [
                (await engine.get_schedule(id_))["payload"],
                (await engine.list_schedules(name_contains=id_))["schedules"][0]["payload"],
                (await engine.get_execution(run_id))["payload"],
            ]
            assert "secret" not in json.dumps(shown)
            assert shown[0] == shown[1] == shown[2]
    assert shown[0]["targets"] == [{"type": "http", "url": "https://***@example.com/a?***"}, 5]


async def test_other_payloads_are_shown_as_they_are() -> None:
    app = Horae("app")
    payload = {"urls": ["slack://a"], "targets": [{"url": "https://u:p@h"}]}

    @app.schedule("mine", manual(), payload=payload)
    async def mine(ctx: Context) -> None: ...

    async with testing.engine(app) as engine:
        assert (await engine.get_schedule("mine"))["payload"] == payload
        id_ = (await engine.trigger_schedule("mine", payload=payload))["execution_id"]
        assert (await engine.get_execution(id_))["payload"] == payload


# --- health_check ---------------------------------------------------------------------------------


async def test_targets_that_are_there_are_up(site: Site) -> None:
    found = await run(
        "horae.health_check",
        {
            "targets": [
                {"type": "http", "url": f"http://u:p@{site.url}/200?q=1"},
                {"type": "http", "url": f"http://{site.url}/503", "expect": 503, "name": "odd"},
                {"type": "tcp", "host": "127.0.0.1", "port": site.port},
            ]
        },
    )
    result = found["result"]
    assert result["status"] == "up"
    assert [each["name"] for each in result["targets"]] == [f"http://{site.url}", "odd", site.url]
    assert all(each["up"] and each["latency_ms"] > 0 for each in result["targets"])


async def test_critical_target_that_is_down_fails_the_attempt(site: Site, closed: str) -> None:
    host, port = closed.split(":")
    found = await run(
        "horae.health_check",
        {
            "targets": [
                {"type": "http", "url": f"http://{site.url}/500", "name": "site"},
                {"type": "tcp", "host": host, "port": int(port), "name": "port"},
                {"type": "http", "url": f"http://{closed}", "critical": False},
                {"type": "service", "service": "nobody", "name": "service"},
                {"type": "http", "url": "http://[x", "name": "no url"},
            ]
        },
    )
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "TargetsDown"
    message = attempt["error"]["message"]
    assert message.startswith("site: status 500; port: ")
    assert "service: no such service answers" in message
    assert "no url: " in message
    assert f"http://{closed}" not in message
    assert len(found["logs"]) == 5


async def test_target_in_a_network_that_is_not_allowed_is_never_asked(site: Site) -> None:
    targets = [
        {"type": "http", "url": f"http://{site.url}/200", "name": "site"},
        {"type": "tcp", "host": "127.0.0.1", "port": site.port, "name": "port"},
    ]
    found = await run("horae.health_check", {"targets": targets}, networks="")
    message = found["attempts"][0]["error"]["message"]
    assert message.count("HORAE_HTTP_NETWORKS allows networks of your own") == 2


async def test_target_that_is_not_critical_degrades(closed: str) -> None:
    host, port = closed.split(":")
    target = {"type": "tcp", "host": host, "port": int(port), "critical": False}
    found = await run("horae.health_check", {"targets": [target]})
    assert found["status"] == "succeeded"
    assert found["result"]["status"] == "degraded"
    (one,) = found["result"]["targets"]
    assert not one["up"]
    assert one["error"]


async def test_target_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        targets = [{"type": "http", "url": url, "timeout": "100ms"}]
        found = await run("horae.health_check", {"targets": targets})
    error = found["attempts"][0]["error"]["message"]
    assert error == f"{url}: no answer within 0.1 s"


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        ([], "targets"),
        ([{"type": "http", "url": "file:///geheim"}], "url"),
        ([{"type": "tcp", "host": "h", "port": 0}], "port"),
        ([{"type": "smoke"}], "smoke"),
        ([{"type": "service", "service": "a.b"}], "service"),
        ([{"type": "tcp", "host": "h", "port": 1}] * 2, "h:1 is there twice"),
    ],
)
async def test_check_that_is_none_is_not_tried_again(targets: list[Any], complaint: str) -> None:
    found = await run("horae.health_check", {"targets": targets})
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "PayloadInvalid"
    assert complaint in attempt["error"]["message"]
    assert "geheim" not in json.dumps(attempt)


async def test_service_is_pinged_over_nats(nats_url: str, tmp_path: Path) -> None:
    app = Horae("app")
    name = f"trading-{uuid.uuid4().hex[:8]}"
    app.service(name).command("Rebalance")(lambda: None)
    told = Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant="pinged",
        data_dir=tmp_path,
        events=False,
    )
    async with app.serve(told) as runtime:
        client = runtime.client()
        for service in (name, "nobody"):
            targets = [{"type": "service", "service": service}]
            await client.create_schedule(
                service,
                manual(),
                "horae.health_check",
                payload={"targets": targets},
                retry=NO_RETRY,
            )
            await client.trigger_schedule(service)
        assert (await ended(client, name))["status"] == "succeeded"
        assert (await ended(client, "nobody"))["status"] == "failed"


async def ended(client: Client, schedule_id: str) -> dict[str, Any]:
    while True:
        page = await client.list_executions(schedule_id=schedule_id)
        if page["executions"] and page["executions"][0]["status"] in {"succeeded", "failed"}:
            found: dict[str, Any] = page["executions"][0]
            return found
        await asyncio.sleep(0.02)


# --- names ----------------------------------------------------------------------------------------


def test_names_of_horae_are_not_an_applications() -> None:
    app = Horae("app")
    with pytest.raises(ValueError, match=r"horae\."):
        app.handler("horae.notify")(print)
    with pytest.raises(ValueError, match=r"horae\."):
        app.schedule("horae.mine", manual())(print)
    assert "horae.mine" not in app.schedules
