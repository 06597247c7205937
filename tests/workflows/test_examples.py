"""The workflow of examples/workflow-in-yours, on the engine, with run-job.yaml as its step."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflows_emulator.main import StepCall
from workflows_emulator.utils import WorkflowError

from conftest import JOB, World
from driver import expressions
from driver.array import Array
from driver.execution import WORKFLOWS, Execution

RUN = "googleapis.workflowexecutions.v1.projects.locations.workflows.executions.run"
EXAMPLE = WORKFLOWS.parents[1] / "examples" / "workflow-in-yours"
NewWorld = Callable[..., World]


def run(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The connector `executions.run`: the child's result, or an `OperationError` with the child's error as JSON."""
    started: list[str] = []

    def connector(step: dict[str, Any]) -> Any:
        if step["call"] != RUN:
            return usual(step)
        args = step["args"]
        started.append(args["workflow_id"])
        assert args["connector_params"]["timeout"] == 365 * 86400, "half an hour, without it"
        try:
            return Execution(world.cloud, "run-job", name=args["workflow_id"]).run(args["argument"])
        except WorkflowError as error:
            operation = {"error": {"payload": json.dumps(expressions.plain(error.payload))}}
            raise WorkflowError(message="Execution failed or cancelled.", tags=["OperationError"], operation=operation) from error

    usual = StepCall.execute_connector
    monkeypatch.setattr(StepCall, "execute_connector", staticmethod(connector))
    job = json.loads((EXAMPLE / "job.json").read_text())
    try:
        return Execution(world.cloud, "workflow", EXAMPLE, name="count").run({"job": job, "vmjob": {"baked": True}})
    finally:
        assert started == ["vmjob-run-job"]
        world.assert_no_vm_is_left()


def test_it_goes_on_with_the_result(world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = json.loads((EXAMPLE / "report.json").read_text())
    assert run(world({"outcome": expected}), monkeypatch) == "there are 3 rows"


def test_it_reads_why_a_job_failed(world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3"}
    assert run(world({"outcome": failed}), monkeypatch) == "counting failed with exit code 3"
    gone = {"outcome": {**failed, "cause": "SIGNAL", "exit_code": 139}}
    with pytest.raises(WorkflowError) as error:
        run(world(gone), monkeypatch)
    assert error.value.payload["tags"] == ["JobFailed", "SIGNAL"]


def test_the_array_has_a_task_for_each_line_and_the_result_that_it_promises() -> None:
    folder = EXAMPLE.parent / "ffmpeg-array"
    lines = (folder / "items.jsonl").read_bytes()
    array = Array()
    array.cloud.objects["gs://my-bucket/items.jsonl"] = lines
    result = array.run(**dict(calls_of(folder / "README.md"))["vmjob-run-array"])
    expected = json.loads((folder / "report.json").read_text())
    assert {key: result[key] for key in expected} == expected
    assert [task.argument["item"] for task in array.tasks] == [json.loads(line) for line in lines.splitlines()]
    (words,) = array.tasks[0].argument["job"]["container"]["args"]
    assert set(re.findall(r"JOB_ITEM_(\w+)", words)) == set(json.loads(lines.splitlines()[0]))


ROOT = WORKFLOWS.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]


def calls_of(page: Path) -> list[tuple[str, dict[str, Any]]]:
    """The workflows that a page calls, and the data, with the job beside it and what the set-up gives put in."""
    found = []
    pattern = r"gcloud workflows run (\S+)[^']*? --data='(\{.*?\})'\n"
    for workflow, data in re.findall(pattern, page.read_text().replace("\\\n", " "), re.DOTALL):
        job = page.parent / "job.json"
        data = data.replace("""'"$(cat job.json)"'""", job.read_text() if job.exists() else json.dumps(JOB))
        data = data.replace("""'"$ARGS"'""", '"baked": true')
        found.append((workflow, json.loads(re.sub(r"'\"?\$\w+\"?'", "x", data))))
    return found


def of_run_job(page: Path) -> list[dict[str, Any]]:
    found = []
    for workflow, data in calls_of(page):
        if workflow == "vmjob-run-job":
            found.append(data)
        elif "run_job" in data:
            found.append(data["run_job"])
        elif "vmjob" in data:
            found.append({"job": data["job"], **data["vmjob"]})
    return found


def settings(page: Path) -> list[dict[str, Any]]:
    """Arguments without a job, as a page shows them."""
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]
    others = {"container", "process", "docker_command", "version", "items", "tasks"}
    return [block for block in blocks if not others & set(block)]


ARGUMENTS = [
    pytest.param(arguments, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, arguments in enumerate([*of_run_job(page), *settings(page)])
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_of_the_pages_are_taken(world: NewWorld, arguments: dict[str, Any]) -> None:
    w = world()
    w.cloud.compute.regions = {name: [f"{name}-a", f"{name}-b"] for name in ("us-central1", "europe-west1")}
    w.cloud.objects["gs://my-bucket/jobs/train-42.json"] = JOB
    assert w.run(**arguments)["state"] == "SUCCEEDED", w.error


def test_the_pages_have_arguments() -> None:
    assert len(ARGUMENTS) > 12
