"""Google's side of an execution: the APIs by their URLs, the callback endpoints, the objects of Cloud Storage.

Callback endpoints: <https://cloud.google.com/workflows/docs/creating-callback-endpoints>. Payloads are queued, one at a
time; 404 once the execution is over.
"""

import secrets
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from driver.clock import Clock
from driver.compute import Compute, Instance, Machine
from driver.execution import LOCATION, PROJECT, Execution

COMPUTE = "https://compute.googleapis.com/compute/v1/"
STORAGE = "https://storage.googleapis.com/storage/v1/b/"


@dataclass
class Endpoint:
    execution_id: str
    method: str
    queue: list[Any] = field(default_factory=list)
    ended: bool = False


@dataclass
class Cloud:
    clock: Clock
    boot: Callable[[Instance], Machine]
    # Objects of Cloud Storage: what `alt=media` answers, parsed where its type is JSON.
    objects: dict[str, Any] = field(default_factory=dict)
    # Answers instead of those, while there are some.
    storage_answers: list[tuple[int, Any]] = field(default_factory=list)
    # Where callback endpoints are; another one where they are served for real (`endpoints.py`).
    base_url: str = "https://workflowexecutions.googleapis.com"
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    # How an execution that another one starts is made.
    child: Callable[[str, Execution], Execution] = field(init=False)
    compute: Compute = field(init=False)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.compute = Compute(self.clock, self.boot)
        self.child = lambda workflow_id, _parent: Execution(self, workflow_id)

    def request(self, verb: str, url: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
        with self.lock:
            if url.startswith(COMPUTE):
                return self.compute.request(verb, url.removeprefix(COMPUTE), query, body)
            if url.startswith(STORAGE) and query.get("alt") == "media":
                if self.storage_answers:
                    return self.storage_answers.pop(0)
                bucket, _, name = url.removeprefix(STORAGE).partition("/o/")
                key = f"gs://{bucket}/{urllib.parse.unquote(name)}"
                return (200, self.objects[key]) if key in self.objects else (404, "No such object")
        raise LookupError(f"no such URL here: {verb} {url}")

    def create_endpoint(self, execution_id: str, method: str) -> str:
        execution = f"projects/{PROJECT}/locations/{LOCATION}/workflows/w/executions/{execution_id}"
        path = f"/v1/{execution}/callbacks/{secrets.token_hex(16)}"
        self.endpoints[path] = Endpoint(execution_id, method)
        return self.base_url + path

    def end_execution(self, execution_id: str) -> None:
        for endpoint in self.endpoints.values():
            endpoint.ended |= endpoint.execution_id == execution_id

    def post(self, path: str, payload: Any, method: str = "POST") -> int:
        """A callback, and the status that answers it."""
        endpoint = self.endpoints.get(urllib.parse.urlsplit(path).path)
        if endpoint is None or endpoint.ended:
            return 404
        if endpoint.method != method:
            return 405
        if endpoint.queue:
            return 429
        endpoint.queue.append(payload)
        return 200

    def await_callback(self, url: str, timeout: float) -> Any:
        """The payload, or None when none came."""
        endpoint = self.endpoints[urllib.parse.urlsplit(url).path]
        self.clock.wait(lambda: bool(endpoint.queue), timeout)
        return endpoint.queue.pop(0) if endpoint.queue else None
