"""Google's side of an execution: the APIs by their URLs, the callback endpoints, the objects of Cloud Storage.

Callback endpoints: <https://cloud.google.com/workflows/docs/creating-callback-endpoints>. Payloads are queued, one at a
time; 404 once the execution is over.
"""

import copy
import secrets
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from driver.clock import Clock, RealClock, VirtualClock
from driver.compute import Compute, Instance, Machine
from driver.execution import LOCATION, PROJECT, Execution
from driver.executions import Executions

EXECUTIONS = "https://workflowexecutions.googleapis.com/v1/"
COMPUTE = "https://compute.googleapis.com/compute/v1/"
STORAGE = "https://storage.googleapis.com/storage/v1/b/"
GENERATION = "1700000000000001"


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
    # Objects of Cloud Storage: what `alt=media` answers, parsed where its type is JSON; bytes where it is not known.
    objects: dict[str, Any] = field(default_factory=dict)
    content_types: dict[str, str] = field(default_factory=dict)
    # Answers instead of those, while there are some.
    storage_answers: list[tuple[int, Any]] = field(default_factory=list)
    # Where callback endpoints are; another one where they are served for real (`endpoints.py`).
    base_url: str = "https://workflowexecutions.googleapis.com"
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    executions: Executions = field(init=False)
    compute: Compute = field(init=False)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.compute = Compute(self.clock, self.boot)
        self.executions = Executions(self.clock, lambda workflow_id, now: Execution(self.at(now), workflow_id))

    def at(self, now: float) -> "Cloud":
        """This cloud for an execution that begins now: in virtual time it has a clock of its own."""
        if isinstance(self.clock, RealClock):
            return self
        twin = copy.copy(self)
        twin.clock = VirtualClock(now)
        return twin

    def request(self, verb: str, url: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
        if url.startswith(EXECUTIONS):
            return self.executions.request(verb, url.removeprefix(EXECUTIONS), query, body, self.clock)
        with self.lock:
            if url.startswith(COMPUTE):
                return self.compute.request(verb, url.removeprefix(COMPUTE), query, body)
            if url.startswith(STORAGE):
                if self.storage_answers:
                    return self.storage_answers.pop(0)
                bucket, _, name = url.removeprefix(STORAGE).partition("/o/")
                key = f"gs://{bucket}/{urllib.parse.unquote(name)}"
                if key not in self.objects or query.get("generation", GENERATION) != GENERATION:
                    return 404, f"No such object: {bucket}/{name}"
                if query.get("alt") == "media":
                    return 200, self.objects[key]
                size = len(self.objects[key]) if isinstance(self.objects[key], bytes) else 0
                kind = self.content_types.get(key, "application/octet-stream")
                return 200, {"size": str(size), "generation": GENERATION, "contentType": kind}
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
