"""Connectors as Google has them: arguments held against the discovery document, retries, and long-running operations that
are waited for. The emulator makes one request, drops query parameters, and waits for nothing.

Source: <https://cloud.google.com/workflows/docs/connectors>.
"""

import re
from typing import Any

from workflows_emulator.utils import WorkflowError

from driver import current, discovery

RETRIED = {"GET": {429, 502, 503, 504}}
RETRIED_NON_IDEMPOTENT = {429, 503}
MAX_RETRIES = 5


def http_error(status: int, body: Any) -> WorkflowError:
    return WorkflowError(
        message=f"HTTP server responded with error code {status}", code=status, body=body, headers={}, tags=["HttpError"]
    )


def call(step: dict[str, Any]) -> Any:
    """Takes the place of the emulator's `StepCall.execute_connector`."""
    name, args = step["call"], dict(step.get("args", {}))
    options = args.pop("connector_params", {})
    document, method = discovery.method(name)
    body = args.pop("body", None)
    check(name, method, args, body, document)
    path = re.sub(r"\{\+?(\w+)\}", lambda match: str(args[match[1]]), method["path"])
    query = {key: value for key, value in args.items() if method["parameters"][key]["location"] == "query"}
    url = document["rootUrl"] + document["servicePath"] + path
    answer = request(method["httpMethod"], url, query, body)
    if method["response"].get("$ref") != "Operation" or options.get("skip_polling"):
        return answer
    return wait(answer, options, args)


def check(name: str, method: dict[str, Any], args: dict[str, Any], body: Any, document: dict[str, Any]) -> None:
    unknown = [key for key in args if key not in method["parameters"]]
    missing = [key for key, parameter in method["parameters"].items() if parameter.get("required") and key not in args]
    if unknown or missing:
        raise SyntaxError(f"{name}: unknown arguments {unknown}, missing arguments {missing}")
    for key, value in args.items():
        if method["parameters"][key]["type"] == "string" and not isinstance(value, (str, int)):
            raise TypeError(f"{name}: {key} is {value!r}")
    if "request" in method:
        found = discovery.problems(body, method["request"], document["schemas"])
        if found:
            raise http_error(400, {"error": {"code": 400, "message": "; ".join(found)}})


def request(verb: str, url: str, query: dict[str, Any], body: Any) -> Any:
    """One request with the connectors' own retries."""
    execution = current.execution()
    delay = 1.0
    for retries in range(MAX_RETRIES + 1):
        status, answer = execution.request(verb, url, query, body)
        if status < 300:
            return answer
        if status not in RETRIED.get(verb, RETRIED_NON_IDEMPOTENT) or retries == MAX_RETRIES:
            raise http_error(status, answer)
        execution.cloud.clock.sleep(delay)
        delay = min(60.0, delay * 1.25)
    raise AssertionError("unreachable")


def wait(operation: dict[str, Any], options: dict[str, Any], args: dict[str, Any]) -> Any:
    """Polls as Google does: after 1 s, 1.25 times as long each time, 60 s at most. Each poll is a step that is billed."""
    execution = current.execution()
    policy = options.get("polling_policy", {})
    delay = policy.get("initial_delay", 1.0)
    deadline = execution.cloud.clock.now() + options.get("timeout", 1800)
    url = "https://compute.googleapis.com/compute/v1/projects/{project}/zones/{zone}/operations/".format(**args)
    while operation["status"] != "DONE":
        if execution.cloud.clock.now() > deadline:
            raise WorkflowError(message="the operation takes too long", tags=["TimeoutError"], operation=operation)
        execution.cloud.clock.sleep(delay)
        delay = min(policy.get("max_delay", 60.0), delay * policy.get("multiplier", 1.25))
        operation = request("GET", url + operation["name"], {}, None)
        execution.polls += 1
    if "error" in operation:
        raise WorkflowError(
            message="Long running operation returned error",
            tags=["OperationError"],
            operation=operation,
            error=operation["error"],
        )
    return operation
