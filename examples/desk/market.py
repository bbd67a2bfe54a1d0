"""The world outside the desk: a price service over HTTP, which is down now and then."""

import json
import random
import threading
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OUTAGES = 0.3
"""The share of settlements that are refused."""


class Market(BaseHTTPRequestHandler):
    """GET /price answers the price, POST /settle takes an order or is not available."""

    def do_GET(self) -> None:
        """Answer a price that wanders around 100."""
        self._answer(HTTPStatus.OK, {"symbol": "ACME", "price": round(random.gauss(100, 2), 2)})

    def do_POST(self) -> None:
        """Settle, unless there is an outage."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if random.random() < OUTAGES:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again later"})
        else:
            self._answer(HTTPStatus.OK, {"settled": True})

    def _answer(self, status: HTTPStatus, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Requests are not worth a line."""


@cache
def market_url() -> str:
    """The address of the service, which starts when it is first asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Market)
    threading.Thread(target=server.serve_forever, name="market", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
