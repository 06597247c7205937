"""The Executions API as the workflows call it: executions of other workflows, their labels, states and results.

In the time of a `VirtualClock` a child runs to its end when it is created, on a clock of its own, and is seen to run until
that end has come for those who look. In real time it runs in a thread.
Source: <https://cloud.google.com/workflows/docs/reference/executions/rest/v1/projects.locations.workflows.executions>.
"""

import datetime
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from workflows_emulator.utils import WorkflowError

from driver import expressions, limits
from driver.clock import Clock, RealClock

NAME = re.compile(r"(projects/[^/]+/locations/[^/]+/workflows/([^/]+))/executions(?:/([^/]+))?")
LABEL_KEY, LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
PAGE = {"FULL": 100, "BASIC": 1000}

Answer = tuple[int, Any]


class Child(Protocol):
    """An execution that another one starts."""

    def run(self, argument: Any) -> Any: ...

    def ended_at(self) -> float: ...


@dataclass
class Record:
    name: str
    argument: str
    labels: dict[str, str]
    created_at: float
    ended_at: float = float("inf")
    result: str | None = None
    payload: str | None = None
    cancelled_at: float = float("inf")

    @property
    def id(self) -> str:
        return self.name.rsplit("/", 1)[1]

    def shown(self, now: float) -> dict[str, Any]:
        whole: dict[str, Any] = {"name": self.name, "argument": self.argument, "labels": self.labels}
        whole["createTime"] = datetime.datetime.fromtimestamp(self.created_at, datetime.UTC).isoformat().replace("+00:00", "Z")
        if min(self.ended_at, self.cancelled_at) > now:
            return {**whole, "state": "ACTIVE"}
        ended = datetime.datetime.fromtimestamp(min(self.ended_at, self.cancelled_at), datetime.UTC)
        whole["endTime"] = ended.isoformat().replace("+00:00", "Z")
        if self.cancelled_at <= self.ended_at:
            return {**whole, "state": "CANCELLED", "error": {"payload": "execution was cancelled", "context": ""}}
        if self.payload is not None:
            return {**whole, "state": "FAILED", "error": {"payload": self.payload, "context": "in step ..."}}
        return {**whole, "state": "SUCCEEDED", "result": self.result}


def error(code: int, status: str, message: str) -> Answer:
    return code, {"error": {"code": code, "message": message, "status": status}}


# Source: <https://cloud.google.com/workflows/quotas>.
QUOTA = error(429, "RESOURCE_EXHAUSTED", "Resource exhausted: concurrent executions quota exceeded")


@dataclass
class Executions:
    clock: Clock
    child: Callable[[str, float], Child]
    records: dict[str, Record] = field(default_factory=dict)
    # Answers instead of the usual ones, by method, while there are some.
    answers: dict[str, list[Answer | BaseException | None]] = field(default_factory=dict)
    requests: list[tuple[str, float]] = field(default_factory=list)

    def request(self, verb: str, path: str, query: dict[str, Any], body: Any, clock: Clock) -> Answer:
        """`path` from `projects/` on; `clock` is that of the execution that asks."""
        match = NAME.fullmatch(path)
        if not match:
            raise LookupError(f"no such method here: {verb} {path}")
        method = {"POST": "create", "GET": "get" if match[3] else "list"}[verb]
        self.requests.append((method, clock.now()))
        scripted = self.answers.get(method)
        answer = scripted.pop(0) if scripted else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            answer = getattr(self, method)(match, query, body, clock)
        if answer[0] == 200 and "fields" in query and isinstance(answer[1], dict):
            return 200, masked(answer[1], query["fields"])
        return answer

    def create(self, match: re.Match[str], _query: dict[str, Any], body: dict[str, Any], clock: Clock) -> Answer:
        argument, labels = json.loads(body["argument"]), body.get("labels", {})
        try:
            limits.check_argument(argument)
        except limits.ResourceLimitError as problem:
            return error(400, "INVALID_ARGUMENT", str(problem))
        if len(labels) > 64 or not all(LABEL_KEY.fullmatch(k) and LABEL_VALUE.fullmatch(v) for k, v in labels.items()):
            return error(400, "INVALID_ARGUMENT", f"bad labels {labels}")
        record = self.add(match[1], body["argument"], labels, clock.now())
        if isinstance(clock, RealClock):
            threading.Thread(target=self.run, args=(record, match[2], argument, clock.now()), daemon=True).start()
        else:
            self.run(record, match[2], argument, clock.now())
        return 200, record.shown(clock.now())

    def add(self, workflow: str, argument: str, labels: dict[str, str], now: float, execution_id: str = "") -> Record:
        record = Record(f"{workflow}/executions/{execution_id or uuid.uuid4()}", argument, labels, now)
        self.records[record.id] = record
        return record

    def run(self, record: Record, workflow: str, argument: Any, now: float) -> None:
        child = self.child(workflow, now)
        try:
            record.result = json.dumps(child.run(argument))
        except WorkflowError as problem:
            record.payload = json.dumps(expressions.plain(problem.payload))
        record.ended_at = child.ended_at()

    def get(self, match: re.Match[str], _query: dict[str, Any], _body: Any, clock: Clock) -> Answer:
        record = self.records.get(match[3])
        if record is None or not record.name.startswith(match[1] + "/"):
            return error(404, "NOT_FOUND", f"Requested entity was not found: {match[0]}")
        return 200, record.shown(clock.now())

    def list(self, match: re.Match[str], query: dict[str, Any], _body: Any, clock: Clock) -> Answer:
        found = [record for record in self.records.values() if record.name.startswith(match[1] + "/")]
        since = re.fullmatch(r'createTime>="([^"]+)"', query.get("filter", 'createTime>="1970-01-01T00:00:00Z"'))
        if not since:
            return error(400, "INVALID_ARGUMENT", f"a filter that is not known here: {query['filter']}")
        shown = [record.shown(clock.now()) for record in sorted(found, key=lambda record: -record.created_at)]
        moment = datetime.datetime.fromisoformat(since[1])
        shown = [one for one in shown if datetime.datetime.fromisoformat(one["createTime"]) >= moment]
        view = query.get("view", "BASIC")
        size, start = min(int(query.get("pageSize", 100)), PAGE[view]), int(query.get("pageToken", 0))
        basic = ("name", "createTime", "endTime", "state")
        page = shown[start : start + size]
        if view == "BASIC":
            page = [{key: one[key] for key in basic if key in one} for one in page]
        token = {"nextPageToken": str(start + size)} if len(shown) > start + size else {}
        return 200, {"executions": page, **token}


def masked(answer: dict[str, Any], fields: str) -> dict[str, Any]:
    """What the query parameter `fields` leaves of an answer: names, with those below one in brackets."""
    kept: dict[str, Any] = {}
    for name, below in re.findall(r"(\w+)(?:\(([^)]*)\))?", fields):
        if name in answer:
            value = answer[name]
            kept[name] = [masked(item, below) for item in value] if below else value
    return kept
