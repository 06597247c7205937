"""A second opinion on the requests of the workflow files, by Google's current descriptions of its APIs.

Every request that the files make in these runs, those of connectors too, is held against the discovery documents that
google-api-python-client carries, which are newer than those of the engine: path, query parameters, the mask in `fields`, the
body, and what IAM wants for the method.
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import JOB, World
from driver import discovery
from driver.array import Array, failed_with_many_words
from driver.cloud import Cloud
from driver.execution import WORKFLOWS
from driver.real_world import skip_or_fail
from test_reap import Project
from test_syntax_pages import FILES, walk, workflow

APIS = {
    "compute.googleapis.com": "compute.v1",
    "storage.googleapis.com": "storage.v1",
    "workflowexecutions.googleapis.com": "workflowexecutions.v1",
}
# By method. Source: the section on IAM of each method's page. What the body of an insert needs is in test_role.py.
PERMISSIONS = {
    "compute.images.getFromFamily": {"compute.images.getFromFamily"},
    "compute.instances.aggregatedList": {"compute.instances.list"},
    "compute.instances.delete": {"compute.instances.delete"},
    "compute.instances.get": {"compute.instances.get"},
    "compute.instances.getGuestAttributes": {"compute.instances.getGuestAttributes"},
    "compute.instances.getSerialPortOutput": {"compute.instances.getSerialPortOutput"},
    "compute.instances.insert": {"compute.instances.create"},
    "compute.instances.setLabels": {"compute.instances.setLabels"},
    "compute.regions.get": {"compute.regions.get"},
    "compute.zoneOperations.get": {"compute.zoneOperations.get"},
    "workflowexecutions.projects.locations.workflows.executions.create": {"workflows.executions.create"},
    "workflowexecutions.projects.locations.workflows.executions.get": {"workflows.executions.get"},
    "workflowexecutions.projects.locations.workflows.executions.list": {"workflows.executions.list"},
    # Of the bucket: roles/storage.objectViewer, which the files ask for.
    "storage.objects.get": set(),
}
Request = tuple[str, str, dict[str, Any], Any]


@cache
def document(api: str) -> dict[str, Any]:
    found = importlib.util.find_spec("googleapiclient")
    if found is None or found.origin is None:
        skip_or_fail("no google-api-python-client: tests/workflows/third-party.sh target/third-party fetches it")
    assert found
    assert found.origin
    return json.loads((Path(found.origin).parent / f"discovery_cache/documents/{api}.json").read_text())


def methods(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from resource.get("methods", {}).values()
    for below in resource.get("resources", {}).values():
        yield from methods(below)


@cache
def patterns(api: str) -> list[tuple[dict[str, Any], re.Pattern[str]]]:
    """Each method of an API, and what its paths look like."""
    base = document(api)["servicePath"]
    return [
        (method, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(base + method.get("flatPath", method["path"])))))
        for method in methods(document(api))
    ]


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """What the three files ask for in runs that go through each of their calls."""
    found: dict[str, Request] = {}
    request = Cloud.request

    def noted(self: Cloud, verb: str, url: str, query: dict[str, Any], body: Any) -> Any:
        found[json.dumps([verb, re.sub(r"[0-9a-f-]{36}", "ID", url), sorted(query), body is None])] = (verb, url, query, body)
        return request(self, verb, url, query, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cloud, "request", noted)
        preempted = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True}
        world = World.new({"outcome": preempted}, {"outcome": None, "silent_after_s": 60}, {})
        world.cloud.objects["gs://jobs/job.json"] = JOB
        world.cloud.compute.regions = {"us-a1": ["us-a1-a", "us-a1-b"]}
        gpu = {"type": "nvidia-l4", "count": 1}
        world.run(
            job="gs://jobs/job.json", region="us-a1", spot=True, gpu=gpu, max_attempts=2, disk={"type": "pd-ssd"}, timeout="1h"
        )
        world = World.new({"outcome": {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "exited with 3"}})
        world.run(keep_vm_on_failure="2h")
        array = Array(failed_with_many_words)
        array.parent()
        array.cloud.objects["gs://data/items.jsonl"] = b'{"a": 1}\n' * 30
        array.run(items="gs://data/items.jsonl", shards=2)
        array.record.cancelled_at, array.record.ended_at = array.cloud.clock.now(), float("inf")
        array.start({"rerun_of": array.record.id})
        project = Project()
        for _ in range(120):
            project.vm(project.execution())
        project.reap()
    return list(found.values())


def method_of(verb: str, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The API and its method."""
    host, _, path = url.removeprefix("https://").partition("/")
    fitting = [method for method, pattern in patterns(APIS[host]) if method["httpMethod"] == verb and pattern.fullmatch(path)]
    assert len(fitting) == 1, f"{verb} {url}: {[method['id'] for method in fitting]}"
    return document(APIS[host]), fitting[0]


def mask_problems(fields: str, schema: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    """Names of a mask that an answer does not have. Source: <https://developers.google.com/workspace/drive/api/guides/fields-parameter>."""
    found = []
    for name, below, inner in re.findall(r"([^,/()]+)((?:/[^,/()]+)*)(?:\(([^()]*)\))?", fields):
        schema_of = resolved(schema, schemas)
        for part in [name, *filter(None, below.split("/"))]:
            known = schema_of.get("properties", {}).get(part, schema_of.get("additionalProperties") if part == "*" else None)
            if known is None:
                found.append(f"{part} of {fields}")
                break
            schema_of = resolved(known, schemas)
        else:
            found += mask_problems(inner, schema_of, schemas) if inner else []
    return found


def resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, and of a list that of its items."""
    while "$ref" in schema or schema.get("type") == "array":
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema["items"]
    return schema


def test_the_runs_make_every_request_that_the_files_have(requests: list[Request]) -> None:
    seen = {method_of(verb, url)[1]["id"] for verb, url, _, _ in requests}
    assert seen == set(PERMISSIONS)


def test_paths_and_query_parameters_are_those_of_the_current_apis(requests: list[Request]) -> None:
    for verb, url, query, _ in requests:
        api, method = method_of(verb, url)
        known = {**api["parameters"], **{k: v for k, v in method["parameters"].items() if v["location"] == "query"}}
        for key, value in query.items():
            assert key in known, f"{method['id']}: {key}"
            kind = {"integer": int, "boolean": bool}.get(known[key]["type"], (str, int))
            assert isinstance(value, kind), f"{method['id']}: {key}={value!r}"
            assert value in known[key].get("enum", [value]), f"{method['id']}: {key}={value!r}"
            if known[key]["type"] == "integer":
                assert int(known[key].get("minimum", 0)) <= value <= int(known[key].get("maximum", 10**9)), (
                    f"{method['id']}: {key}"
                )


def test_masks_name_what_the_answers_have(requests: list[Request]) -> None:
    masked = 0
    for verb, url, query, _ in requests:
        api, method = method_of(verb, url)
        if "fields" in query:
            masked += 1
            assert not mask_problems(query["fields"], api["schemas"][method["response"]["$ref"]], api["schemas"]), method["id"]
    assert masked >= 7


def test_bodies_are_of_the_current_schemas(requests: list[Request]) -> None:
    bodies = 0
    for verb, url, _, body in requests:
        api, method = method_of(verb, url)
        assert (body is not None) == ("request" in method), method["id"]
        if body is not None:
            bodies += 1
            assert not discovery.problems(body, method["request"], api["schemas"]), method["id"]
    assert bodies >= 2


@pytest.mark.parametrize("file", FILES)
def test_connectors_take_the_arguments_that_they_are_given(file: str) -> None:
    for name, step in (found for part in workflow(file).values() for found in walk(part["steps"])):
        for call in (step, step.get("try", {})):
            if not call.get("call", "").startswith("googleapis."):
                continue
            _, service, version, *_ = call["call"].split(".")
            path = call["call"].removeprefix(f"googleapis.{service}.{version}.")
            (method,) = [m for m in methods(document(f"{service}.{version}")) if m["id"] == f"{service}.{path}"]
            required = {key for key, parameter in method["parameters"].items() if parameter.get("required")}
            given = set(call["args"]) - {"connector_params"}
            assert required <= given <= {*method["parameters"], *(["body"] if "request" in method else [])}, name
            options = call["args"].get("connector_params", {})
            assert set(options) <= {"timeout", "polling_policy", "skip_polling", "scopes"}, name
            assert set(options.get("polling_policy", {})) <= {"initial_delay", "multiplier", "max_delay"}, name


def test_the_role_permits_each_method(requests: list[Request]) -> None:
    role = set(yaml.safe_load((WORKFLOWS / "role.yaml").read_text())["includedPermissions"])
    for verb, url, _, _ in requests:
        assert PERMISSIONS[method_of(verb, url)[1]["id"]] <= role, url
