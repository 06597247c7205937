"""The callback endpoints served over HTTP, for agents that are real: who may call, and what is answered.

Needed is an access token of a VM's service account, the method that the endpoint was made for, JSON. What the rules are is
told by `tests/fakecloud/src/callback.rs`, which has more of them; here are those that a healthy agent meets.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from driver.clock import RealClock
from driver.cloud import Cloud

MAX_BODY_BYTES = 2 * 1024 * 1024


class Endpoints:
    """A server on loopback, from `with` to its end."""

    def __init__(self, cloud: Cloud, is_token: Callable[[str], bool]) -> None:
        self.cloud, self.is_token = cloud, is_token
        self.statuses: list[int] = []
        self.permitted = True
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        cloud.base_url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Endpoints":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> int:
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer" or not self.is_token(token):
            return 401
        if not self.permitted:
            return 403
        status = self.cloud.post(path, json.loads(body), method)
        if isinstance(self.cloud.clock, RealClock):
            self.cloud.clock.notify()
        return status

    def handler(self) -> type[BaseHTTPRequestHandler]:
        endpoints = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length", 0)), MAX_BODY_BYTES)
                body = self.rfile.read(length)
                status = endpoints.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                endpoints.statuses.append(status)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        return Handler
