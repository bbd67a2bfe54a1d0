"""The world outside of an example: a service over HTTP that answers with JSON."""

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[HTTPStatus, dict[str, Any]]


class Outside(BaseHTTPRequestHandler):
    """Carries what a service says to `asked` and `told`."""

    def asked(self) -> Answer:
        """What a GET of `path` is answered; a service that has nothing to ask for refuses it."""
        return HTTPStatus.METHOD_NOT_ALLOWED, {}

    def told(self, body: Any) -> Answer:  # noqa: ARG002 - for those that take something
        """What a POST to `path` is answered; a service that takes nothing refuses it."""
        return HTTPStatus.METHOD_NOT_ALLOWED, {}

    def do_GET(self) -> None:
        """Answer it."""
        self._send(*self.asked())

    def do_POST(self) -> None:
        """Answer it; no body is None."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._send(*self.told(json.loads(body) if body else None))

    def _send(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Requests are not worth a line."""


def serve(service: type[Outside]) -> str:
    """Start a service in a thread; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), service)
    threading.Thread(target=server.serve_forever, name=service.__name__, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
