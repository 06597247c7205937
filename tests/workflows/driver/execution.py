"""One execution of a workflow on the emulator, with all that the emulator lacks put in from outside.

In: a workflow file, its argument, a cloud. Out: the result or the error, and what it took: steps, API calls, memory.

The emulator's files stay as they are; `prepare` replaces names in its modules, each for a reason said where the
replacement is: expressions and assignments (`expressions`), the standard library (`stdlib`), connectors (`connectors`),
`parallel` (`parallel`), and here the counters. The emulator's own are the steps and their order: switch, next, for, try,
except, retry, raise, return, calls of subworkflows and their parameters.
"""

import copy
import logging
import re
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import yaml
from workflows_emulator import main as emulator
from workflows_emulator.utils import STEP_NOT_FOUND, WorkflowError, load_package_config

from driver import connectors, current, expressions, limits, parallel, stdlib

if TYPE_CHECKING:
    from driver.cloud import Cloud

PROJECT = "fake-project"
LOCATION = "europe-west1"
WORKFLOWS = Path(__file__).parents[3] / "packaging" / "workflows"

_get_step, _execute_subworkflow = emulator.get_step, emulator.execute_subworkflow
_execute_step = emulator.execute_step


@dataclass
class Execution:
    cloud: "Cloud"
    workflow_id: str = "run-job"
    folder: Path = WORKFLOWS
    # The name under which it is deployed; the file's, unless another is given.
    name: str = ""
    measure_memory: bool = True
    execution_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # Every step that has a name; so a `try` and what is in it are more than one.
    steps: int = 0
    polls: int = 0
    api_calls: int = 0
    callback_waits: int = 0
    peak_bytes: int = 0
    log: list[Any] = field(default_factory=list)
    # The frames of each branch (`parallel`) that is under way.
    stacks: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    # The bytes of each of these frames.
    sizes: dict[int, int] = field(default_factory=dict)
    # Ends the execution in the middle, as `executions.cancel` does, when it returns true.
    cancel: Any = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GOOGLE_CLOUD_PROJECT_ID": PROJECT,
            "GOOGLE_CLOUD_LOCATION": LOCATION,
            "GOOGLE_CLOUD_WORKFLOW_ID": self.name or self.workflow_id,
            "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": self.execution_id,
        }

    def run(self, argument: Any) -> Any:
        """The result. An error that the workflow did not catch is a `WorkflowError` with its map in `payload`."""
        limits.check_argument(argument)
        with current.entered(self, []):
            try:
                return emulator.execute_workflow(load(self.folder / f"{self.workflow_id}.yaml"), {"args": argument})
            finally:
                self.cloud.end_execution(self.execution_id)

    def request(self, verb: str, url: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
        self.api_calls += 1
        return self.cloud.request(verb, url, query, body)

    def http(self, verb: str, url: str, query: dict[str, Any] | None = None, body: Any = None, **more: Any) -> dict[str, Any]:
        status, answer = self.request(verb, url, query or {}, body)
        if status >= 300:
            raise connectors.http_error(status, answer)
        if isinstance(answer, bytes):
            start, end = re.fullmatch(r"bytes=(\d+)-(\d+)", more.get("headers", {}).get("Range", "bytes=0-99999999")).groups()
            if int(start) >= len(answer):
                raise connectors.http_error(416, "Requested range not satisfiable")
            answer = answer[int(start) : int(end) + 1]
            if limits.size(answer) > limits.STRING_BYTES:
                raise limits.ResourceLimitError(f"an answer of {len(answer)} bytes")
        return {"code": status, "headers": {}, "body": answer}

    def create_endpoint(self, method: str) -> str:
        return self.cloud.create_endpoint(self.execution_id, method)

    def await_callback(self, url: str, timeout: float) -> dict[str, Any]:
        self.callback_waits += 1
        body = self.cloud.await_callback(url, timeout)
        if body is None:
            raise WorkflowError(message="timed out waiting for the callback", tags=["TimeoutError"])
        return {"http_request": {"method": "POST", "body": body, "headers": {}, "query": {}}, "type": "HTTP"}

    def ended_at(self) -> float:
        return self.cloud.clock.now()

    def count(self) -> None:
        self.steps += 1
        if self.cancel and self.cancel():
            raise Cancelled
        if self.steps > limits.STEPS:
            raise limits.ResourceLimitError(f"{self.steps} steps")

    def weigh(self, context: dict[str, Any]) -> None:
        if self.measure_memory:
            # Those of all branches: the frames of this one, of which in a loop `context` is a copy that takes the place of the
            # innermost, and those of the others as they were at their own last steps.
            own = current.frames()
            self.sizes |= {id(frame): variables_size(frame) for frame in own[:-1]} | {id(own[-1]): variables_size(context)}
            living = {id(frame) for stack in list(self.stacks.values()) for frame in stack}
            self.sizes = {frame: size for frame, size in self.sizes.items() if frame in living}
            self.peak_bytes = max(self.peak_bytes, sum(self.sizes.values()))
            if self.peak_bytes > limits.VARIABLES_BYTES:
                raise limits.ResourceLimitError(f"variables of {self.peak_bytes} bytes")


class Cancelled(BaseException):
    """The execution was cancelled: nothing in the workflow is run any more."""


def variables_size(context: dict[str, Any]) -> int:
    """Of a frame's variables; a branch has those of its parent only to read."""
    read = context.parent if isinstance(context, parallel.Branch) else {}
    own = [value for name, value in dict.items(context) if name not in read and not is_subworkflow(value)]
    return sum(8 + weighed(value) for value in own)


_weights: dict[int, tuple[Any, int]] = {}


def weighed(value: Any) -> int:
    """The size of a value; that of a list or a map, which is never changed in place, is counted once."""
    if not isinstance(value, (dict, list)):
        return limits.size(value)
    known = _weights.get(id(value))
    if known is None or known[0] is not value:
        if len(_weights) > 1000:
            _weights.clear()
        known = _weights[id(value)] = (value, limits.size(value))
    return known[1]


def is_subworkflow(value: Any) -> bool:
    return isinstance(value, dict) and "steps" in value


def load(file: Path) -> dict[str, Any]:
    """A workflow file, valid by Google's schema. A copy, as the emulator takes `main` out of it."""
    return dict(checked(file))


@lru_cache
def checked(file: Path) -> dict[str, Any]:
    workflow = yaml.safe_load(file.read_text())
    jsonschema.validate(workflow, schema())
    return workflow


def schema() -> dict[str, Any]:
    """The JSON schema of workflow files, from the emulator. It takes only numbers for `timeout`, where Google takes any
    expression (as for every argument), so that is put right."""
    whole = copy.deepcopy(load_package_config("workflow-schema.json"))
    timeout = whole["definitions"]["args"]["properties"]["timeout"]
    whole["definitions"]["args"]["properties"]["timeout"] = {"anyOf": [timeout, {"type": "string", "pattern": r"^\$\{.+\}$"}]}
    return whole


def counted_step(steps: Any, step_id: Any) -> Any:
    """The emulator looks up each step that it is about to run, once."""
    found = _get_step(steps, step_id)
    if found[1] != STEP_NOT_FOUND:
        current.execution().count()
    return found


def weighed_step(step_id: Any, config: Any, context: Any) -> Any:
    current.execution().weigh(context)
    return _execute_step(step_id, config, context)


def framed_subworkflow(workflow: Any, params: Any, context: Any) -> Any:
    frames = current.frames()
    if len(frames) > limits.CALL_DEPTH:
        raise limits.ResourceLimitError("calls too deep")
    unknown = set(params or {}) - {next(iter(p)) if isinstance(p, dict) else p for p in workflow.get("params", [])}
    if unknown:
        raise TypeError(f"a subworkflow takes no {unknown}")
    frames.append(context)
    try:
        return _execute_subworkflow(workflow, params or {}, context)
    finally:
        frames.pop()


def standard_call(code: str, context: dict[str, Any]) -> Any:
    """Takes the place of the emulator's `run_code`, by which it calls the standard library: `NAME(**_args)`."""
    return stdlib.CALLS[code.partition("(")[0]](**context["_args"])


def prepare() -> None:
    """Puts into the emulator what it lacks. Once a process."""
    logging.getLogger("workflows").setLevel(logging.CRITICAL)
    emulator.render_config = expressions.render
    emulator.assign_var = expressions.assign
    emulator.run_code = standard_call
    emulator.get_step = counted_step
    emulator.execute_step = weighed_step
    emulator.execute_subworkflow = framed_subworkflow
    emulator.StepCall.execute_connector = staticmethod(connectors.call)
    emulator.StepAssign = parallel.Assign
    emulator.StepParallel = parallel.Parallel
    emulator.sleep = stdlib.sleep


prepare()
