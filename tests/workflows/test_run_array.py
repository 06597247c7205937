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

    def __init__(self, failing: set[int], row: Row | None = None, name: str = "run-array") -> None:
        self.cloud = Cloud(VirtualClock(), lambda _: None)  # type: ignore[arg-type, return-value]
        self.cloud.child = self.child
        self.failing, self.row = failing, row
        self.execution = Execution(self.cloud, "run-array", name=name)
        self.children: set[str] = set()
        self.specs: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.error: dict[str, Any] = {}

    def child(self, workflow_id: str, _parent: Execution) -> Any:
        self.children.add(workflow_id)
        if workflow_id == self.execution.name:
            return Execution(self.cloud, "run-array", name=workflow_id)
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
    row = {"state": "SUCCEEDED", "cause": "NONE", "exit_code": 0, "message": "", "attempts": 1, "execution": execution}
    return {**row, "warnings": []}


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


LEFT = "the VM vmjob-x in us-a1-a could not be deleted (gcloud compute instances delete vmjob-x): forbidden, no"


def test_every_row_carries_the_warnings_of_its_task_also_of_one_that_broke() -> None:
    def row(index: int) -> dict[str, Any]:
        if index == 1:
            raise WorkflowError(message="no capacity in any of [...]", tags=["NoCapacity"], warnings=[LEFT])
        return {**succeeded(index), "warnings": [LEFT] if index == 2 else []}

    array = Array(set(), row=row)
    rows = {row["index"]: row for row in array.run(tasks=4)["rows"]}
    assert [rows[index]["warnings"] for index in range(4)] == [[], [LEFT], [LEFT], []]
    assert rows[1]["message"] == "no capacity in any of [...]"


def test_a_thousand_tasks_that_all_leave_a_vm_behind_fit_the_memory() -> None:
    array = Array(set(), row=lambda index: {**failed_with_many_words(index), "warnings": [LEFT, LEFT]})
    result = array.run(tasks=1000)
    assert len(result["rows"]) == 1000
    assert sum(row["warnings"] == [LEFT, LEFT] for row in result["rows"]) >= 100
    assert all(row["warnings"] for row in result["rows"])
    assert array.execution.peak_bytes < limits.VARIABLES_BYTES


def test_a_shard_whose_execution_breaks_is_a_row_and_costs_no_other_its_rows() -> None:
    array = Array(set(), row=succeeded)
    child = array.cloud.child
    shards: list[int] = []

    def breaking(workflow_id: str, parent: Execution) -> Any:
        if workflow_id == "run-array":
            shards.append(1)
            if len(shards) == 2:
                raise WorkflowError(message="HTTP server responded with error code 403", code=403, tags=["HttpError"])
        return child(workflow_id, parent)

    array.cloud.child = breaking
    result = array.run(tasks=9, shards=3)
    (broken,) = [row for row in result["rows"] if row["state"] == "FAILED"]
    assert (result["state"], result["succeeded"], result["failed"]) == ("FAILED", 6, 3)
    assert broken["last"] - broken["index"] == 2
    assert broken["cause"] == "WORKFLOW_ERROR"


def test_two_copies_of_the_workflows_do_not_run_each_others_tasks() -> None:
    array = Array(set(), row=succeeded, name="team-a-run-array")
    assert array.run(tasks=4, shards=2)["state"] == "SUCCEEDED"
    assert array.children == {"team-a-run-array", "team-a-run-job"}
    array = Array(set(), row=succeeded)
    array.run(tasks=2, workflow="another")
    assert array.children == {"another"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"tasks": 0}, "there are 1 to 10000 tasks"),
        ({"tasks": 10_001}, "there are 1 to 10000 tasks"),
        ({"tasks": 1, "shards": 21}, "1 to 20 shards"),
        ({"tasks": 1, "policy": "carry_on"}, '`policy` is "continue" or "fail_fast"'),
        ({}, "say what to run"),
        ({"tasks": None}, "say what to run"),
        ({"tasks": 1, "run_job": None}, "say what to run"),
        ({"tasks": "3"}, "`tasks` is of type string; it takes: integer"),
        ({"tasks": 1.5}, "`tasks` is of type double; it takes: integer"),
        ({"tasks": 1, "run_job": "docker run busybox"}, "`run_job` is of type string; it takes: map"),
        ({"tasks": 1, "shards": "2"}, "`shards` is of type string; it takes: integer"),
        ({"tasks": 1, "shard": 2}, "unknown argument `shard`"),
        ({"tasks": 1, "workflow": 7}, "`workflow` is of type integer; it takes: string"),
    ],
)
def test_a_wrong_argument_is_an_error(args: dict[str, Any], words: str) -> None:
    array = Array(set(), row=succeeded)
    array.run(**args)
    assert array.error["tags"] == ["InvalidArgument"]
    assert words in array.error["message"]


@pytest.mark.parametrize("argument", [None, [], "3", 7])
def test_arguments_that_are_no_map_are_an_error(argument: Any) -> None:
    with pytest.raises(WorkflowError) as error:
        Array(set(), row=succeeded).execution.run(argument)
    assert error.value.payload["tags"] == ["InvalidArgument"]
