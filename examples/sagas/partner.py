"""The world outside: a chain, exchanges, a payment provider and services, over HTTP."""

from __future__ import annotations

import json
import threading
from collections import Counter
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

state: dict[str, Any] = {"volatility": 0.01, "volume": 2_000_000, "down": set()}
"""How the world is; who runs it may change it."""
looks: Counter[str] = Counter()
"""How often each path was asked for."""


class Partner(BaseHTTPRequestHandler):
    """Each look at a transaction finds one confirmation more; cards named `empty` pay nothing."""

    def do_GET(self) -> None:
        """Answer what there is at a path."""
        looks[self.path] += 1
        kind, _, name = self.path.removeprefix("/").partition("/")
        if name in state["down"]:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"{name} is down"})
        elif kind == "tx":
            self._answer(HTTPStatus.OK, {"confirmations": looks[self.path]})
        elif kind == "price":
            self._answer(HTTPStatus.OK, {"price": 100 + len(name)})
        else:
            self._answer(HTTPStatus.OK, {name: state[name] for name in ("volatility", "volume")})

    def do_POST(self) -> None:
        """Take a payment, or answer that the provider cannot."""
        looks[self.path] += 1
        told = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
        if told["card"] == "empty":
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "not now"})
        else:
            self._answer(HTTPStatus.OK, {"paid": told["amount"]})

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Requests are not worth a line."""


@cache
def partner_url() -> str:
    """The address of the partner, which starts when it is first asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
    threading.Thread(target=server.serve_forever, name="partner", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
