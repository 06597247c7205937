"""The workflow of examples/workflow-in-yours, on the engine, with run-job.yaml as its step."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from conftest import World
from driver.execution import WORKFLOWS, Execution

EXAMPLE = WORKFLOWS.parents[1] / "examples" / "workflow-in-yours"
NewWorld = Callable[..., World]


def run(world: World) -> Any:
    started: list[str] = []

    def child(workflow_id: str, _parent: Execution) -> Execution:
        started.append(workflow_id)
        return Execution(world.cloud, "run-job", name=workflow_id)

    world.cloud.child = child
    job = json.loads((EXAMPLE / "job.json").read_text())
    try:
        return Execution(world.cloud, "workflow", EXAMPLE, name="count").run({"job": job, "vmjob": {"baked": True}})
    finally:
        assert started == ["vmjob-run-job"]
        world.assert_no_vm_is_left()


def test_it_goes_on_with_the_result(world: NewWorld) -> None:
    expected = json.loads((EXAMPLE / "report.json").read_text())
    assert run(world({"outcome": expected})) == "there are 3 rows"


def test_it_reads_why_a_job_failed(world: NewWorld) -> None:
    failed = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3"}
    assert run(world({"outcome": failed})) == "counting failed with exit code 3"
    gone = {"outcome": {**failed, "cause": "SIGNAL", "exit_code": 139}}
    with pytest.raises(WorkflowError) as error:
        run(world(gone))
    assert error.value.payload["tags"] == ["JobFailed", "SIGNAL"]
