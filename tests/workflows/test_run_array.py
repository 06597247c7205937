"""run-array.yaml on the engine: its tasks are executions of run-job.yaml, each in a pretended cloud of its own."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from conftest import JOB, World
from driver import expressions, limits
from driver.clock import VirtualClock
from driver.cloud import Cloud
from driver.execution import Execution

RUN_JOB = {"job": JOB, "baked": True}
# What a task's execution of run-job.yaml answers, when only the array is looked at.
Row = Callable[[int], dict[str, Any]]


class Array:
    """An execution of run-array.yaml, and those that it starts."""

    def __init__(self, failing: set[int], row: Row | None = None) -> None:
        self.cloud = Cloud(VirtualClock(), lambda _: None)  # type: ignore[arg-type, return-value]
        self.cloud.child = self.child
        self.failing, self.row = failing, row
        self.execution = Execution(self.cloud, "run-array")
        self.specs: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.error: dict[str, Any] = {}

    def child(self, workflow_id: str, _parent: Execution) -> Any:
        if workflow_id == "run-array":
            return Execution(self.cloud, workflow_id)
        assert workflow_id == "run-job"
        return Task(self)

    def run(self, **args: Any) -> dict[str, Any]:
        try:
            return self.execution.run({"run_job": RUN_JOB, **args})
        except WorkflowError as error:
            self.error = expressions.plain(error.payload)
            return self.error.get("result", {})


class Task:
    def __init__(self, array: Array) -> None:
        self.array = array

    def run(self, argument: dict[str, Any]) -> Any:
        array, index = self.array, argument["task_index"]
        with array.lock:
            array.at_once += 1
            array.most_at_once = max(array.most_at_once, array.at_once)
        try:
            if array.row:
                limits.check_argument(argument)
                return array.row(index)
            failed = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3"}
            world = World.new({"outcome": failed if index in array.failing else {}})
            row = world.execution.run(argument)
            (instance,) = world.cloud.compute.history
            array.specs.append(json.loads(instance.attributes()["job-spec"]))
            world.assert_no_vm_is_left()
            return row
        finally:
            with array.lock:
                array.at_once -= 1


def succeeded(_index: int) -> dict[str, Any]:
    """A row as run-job.yaml returns it."""
    execution = "01234567-89ab-cdef-0123-456789abcdef"
    return {"state": "SUCCEEDED", "cause": "NONE", "exit_code": 0, "message": "", "attempts": 1, "execution": execution}


def failed_with_many_words(index: int) -> dict[str, Any]:
    return {**succeeded(index), "state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "x" * 120}


def test_of_a_hundred_tasks_five_fail_and_the_result_says_which() -> None:
    array = Array(failing={0, 20, 40, 60, 99})
    result = array.run(tasks=100)
    assert {key: result[key] for key in ("state", "tasks", "succeeded", "failed", "skipped")} == {
        "state": "FAILED",
        "tasks": 100,
        "succeeded": 95,
        "failed": 5,
        "skipped": 0,
    }
    rows = {row["index"]: row for row in result["rows"]}
    assert len(rows) == 100
    assert {index for index, row in rows.items() if row["state"] == "FAILED"} == {0, 20, 40, 60, 99}
    assert (rows[20]["cause"], rows[20]["exit_code"], rows[20]["message"]) == ("EXIT_CODE", 3, "the job exited with 3")
    assert {(spec["task_index"], spec["task_count"]) for spec in array.specs} == {(index, 100) for index in range(100)}
    assert array.most_at_once <= limits.CONCURRENT_BRANCHES


def test_fail_fast_starts_no_task_after_a_failure_and_is_an_error() -> None:
    array = Array(set(), row=lambda index: failed_with_many_words(index) if index == 3 else succeeded(index))
    result = array.run(tasks=200, policy="fail_fast")
    assert array.error["tags"] == ["ArrayFailed"]
    assert result["failed"] == 1
    assert result["skipped"] >= 200 - 3 * limits.CONCURRENT_BRANCHES
    assert result["succeeded"] + result["failed"] + result["skipped"] == len(result["rows"]) == 200


@pytest.mark.parametrize(("tasks", "shards"), [(100, 3), (5, 4), (2, 7), (1, 2)])
def test_shards_share_the_tasks_without_a_gap(tasks: int, shards: int) -> None:
    array = Array(set(), row=succeeded)
    result = array.run(tasks=tasks, shards=shards)
    assert sorted(row["index"] for row in result["rows"]) == list(range(tasks))
    assert (result["state"], result["tasks"], result["succeeded"]) == ("SUCCEEDED", tasks, tasks)


def test_a_shard_that_fails_fast_makes_the_whole_an_error() -> None:
    array = Array(set(), row=failed_with_many_words)
    result = array.run(tasks=300, shards=3, policy="fail_fast")
    assert array.error["tags"] == ["ArrayFailed"]
    assert result["tasks"] == len(result["rows"]) == 300


def test_a_task_whose_execution_breaks_is_a_row_and_ends_no_other() -> None:
    def broken(index: int) -> dict[str, Any]:
        if index == 1:
            raise WorkflowError(message="no capacity in any of [...]", tags=["NoCapacity"])
        return succeeded(index)

    array = Array(set(), row=broken)
    rows = {row["index"]: row for row in array.run(tasks=3)["rows"]}
    assert (rows[1]["state"], rows[1]["cause"]) == ("FAILED", "WORKFLOW_ERROR")
    assert "no capacity" in rows[1]["message"]
    assert rows[0]["state"] == rows[2]["state"] == "SUCCEEDED"


def test_a_thousand_tasks_fit_the_memory_and_the_steps_even_when_all_fail() -> None:
    large = {**RUN_JOB, "job": {**JOB, "container": {"image": "a", "env": {"DATA": "x" * 20_000}}}}
    array = Array(set(), row=failed_with_many_words)
    result = array.run(tasks=1000, run_job=large)
    assert len(result["rows"]) == 1000
    assert limits.size(result) < 400_000
    assert array.execution.peak_bytes < limits.VARIABLES_BYTES
    assert array.execution.steps < 10_000
    print(f"1000 tasks: result {limits.size(result)} bytes, {array.execution.peak_bytes} at most, {array.execution.steps} steps")


@pytest.mark.parametrize(
    "args", [{"tasks": 0}, {"tasks": 10_001}, {"tasks": 1, "shards": 21}, {"tasks": 1, "policy": "carry_on"}, {}]
)
def test_a_wrong_argument_is_an_error(args: dict[str, Any]) -> None:
    array = Array(set(), row=succeeded)
    array.run(**args)
    assert array.error["tags"] == ["InvalidArgument"]
