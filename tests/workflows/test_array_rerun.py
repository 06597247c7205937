"""`rerun_of`: an array that runs again what did not succeed in another."""

import json
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from driver import limits
from driver.array import LEFT, PARENT, RUN_JOB, Array, failed_with_many_words, succeeded
from driver.executions import error

ITEMS = [{"n": number} for number in range(60)]


def failing(*indexes: int) -> Any:
    return lambda index: failed_with_many_words(index) if index in indexes else succeeded(index)


def again(array: Array, **args: Any) -> dict[str, Any]:
    """Runs the failed ones of the last execution once more; now all succeed, unless `row` has been changed."""
    array.tasks.clear()
    array.cloud.clock.sleep(60)
    return array.start({"rerun_of": array.record.id, **args})


def without_result(array: Array) -> None:
    """As after `gcloud workflows executions cancel`: the tasks that run go on, and no more are started."""
    array.record.cancelled_at, array.record.ended_at = array.cloud.clock.now(), float("inf")


@pytest.mark.parametrize("shards", [1, 3])
def test_what_failed_is_run_again_with_the_arguments_of_old(shards: int) -> None:
    array = Array(failing(3, 17, 40))
    array.run(items=ITEMS, shards=shards)
    array.row = succeeded
    result = again(array)
    assert (array.error, result["state"], result["tasks"]) == ({}, "SUCCEEDED", 3)
    assert {task.index: task.argument["item"] for task in array.tasks} == {index: ITEMS[index] for index in (3, 17, 40)}
    assert {task.argument["task_count"] for task in array.tasks} == {60}
    assert {task.argument["job"]["id"] for task in array.tasks} == {RUN_JOB["job"]["id"]}  # type: ignore[index]


def test_what_was_skipped_is_run_too_and_what_succeeded_with_a_warning_is_not() -> None:
    array = Array(lambda index: {**failing(2)(index), "warnings": [LEFT] if index == 1 else []})
    old = array.run(tasks=50, policy="fail_fast")
    assert array.error["tags"] == ["ArrayFailed"]
    array.row = succeeded
    result = again(array)
    assert (result["state"], result["tasks"]) == ("SUCCEEDED", old["skipped"] + 1)
    assert array.indexes() == sorted(row["index"] for row in old["rows"] if row["state"] != "SUCCEEDED")


def test_an_array_whose_tasks_all_succeeded_has_none_to_run_again() -> None:
    array = Array()
    array.run(tasks=5)
    assert again(array) == {
        **{"state": "SUCCEEDED", "tasks": 0, "succeeded": 0, "failed": 0, "skipped": 0},
        **{"rows": [], "rows_omitted": 0},
    }
    without_result(array)
    array.run(tasks=5)
    without_result(array)
    assert again(array)["tasks"] == 0


def test_arguments_that_are_given_take_the_place_of_the_old_ones() -> None:
    array = Array(failing(1, 2))
    array.parent()
    array.run(tasks=5, parents=[PARENT], policy="fail_fast")
    array.row = failing(1)
    result = again(array, policy="continue", run_job={**RUN_JOB, "machine_type": "n2-standard-8"})
    assert (array.error, result["failed"]) == ({}, 1)
    assert {task.argument["machine_type"] for task in array.tasks} == {"n2-standard-8"}
    # The executions above the old one are not above this one.
    assert {len(task.argument["parents"]) for task in array.tasks} == {1}


def test_a_rerun_of_a_rerun_runs_what_is_still_left() -> None:
    array = Array(failing(3, 17, 40))
    array.run(items=ITEMS)
    array.row = failing(17, 40)
    again(array)
    array.row = failing(40)
    again(array)
    assert array.indexes() == [17, 40]
    without_result(array)
    result = again(array)
    assert (array.indexes(), result["tasks"]) == ([40], 1)
    assert array.tasks[0].argument["item"] == ITEMS[40]


@pytest.mark.parametrize("shards", [1, 3])
def test_where_the_old_one_has_no_result_the_labels_of_its_executions_tell(shards: int) -> None:
    array = Array(failing(3, 17))
    array.run(tasks=250, shards=shards, indexes=[*range(0, 250, 2), 3, 17])
    without_result(array)
    other = Array(name="run-array")  # executions of others are no concern of it
    other.run(tasks=9)
    array.executions.records |= {record.id: record for record in other.executions.records.values() if record.labels}
    array.row = succeeded
    assert again(array)["tasks"] == 2
    assert array.indexes() == [3, 17]


def test_tasks_that_were_never_started_are_run_and_those_that_still_run_are_not() -> None:
    array = Array(failing(7))
    array.run(tasks=30)
    records = [record for record in array.executions.records.values() if record.labels]
    by_task = {int(record.labels["vmjob-task"]): record for record in records}
    del array.executions.records[by_task[11].id]
    by_task[12].ended_at = by_task[7].ended_at = array.cloud.clock.now() + 10_000
    by_task[13].cancelled_at = by_task[13].created_at + 5
    without_result(array)
    array.row = succeeded
    assert again(array)["tasks"] == 2
    assert array.indexes() == [11, 13]
    assert (
        "WARNING",
        f"2 tasks of {next(iter(array.executions.records))} are left out, as their executions still run",
    ) in array.log()


def test_a_row_that_does_not_know_its_execution_is_looked_up() -> None:
    """An answer that was lost: the task runs, or has run."""
    array = Array()
    create = array.executions.create

    def lost(*args: Any) -> Any:
        answer = create(*args)
        if args[2]["labels"].get("vmjob-task") == "4":
            raise WorkflowError(message="reset", tags=["ConnectionError"])
        return answer

    array.executions.create = lost  # type: ignore[method-assign]
    array.executions.answers["list"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.list")]
    result = array.run(tasks=9)
    assert "which may still run" in result["rows"][0]["message"]
    array.executions.create = create  # type: ignore[method-assign]
    assert again(array)["tasks"] == 0


def test_more_failures_than_there_are_rows_are_all_run_again() -> None:
    array = Array(lambda index: {**failed_with_many_words(index), "message": "x" * 400})
    old = array.run(tasks=260)
    assert old["rows_omitted"] > 0
    array.row = succeeded
    result = again(array)
    assert (result["tasks"], result["state"]) == (260, "SUCCEEDED")
    assert array.arrays[-1].peak_bytes < 400_000
    assert array.arrays[-1].steps < limits.STEPS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing-there", "failed to read the execution nothing-there of run-array: HTTP 404"),
        ("projects/p/locations/l/workflows/run-job/executions/e", "`rerun_of` is an execution of run-array"),
        ("https://x/e", "`rerun_of` is an execution of run-array"),
        ("", "`rerun_of` is an execution of run-array"),
        (7, "`rerun_of` is of type integer; it takes: string"),
    ],
)
def test_what_is_no_array_is_an_error(name: Any, words: str) -> None:
    array = Array()
    array.start({"rerun_of": name})
    assert array.error["tags"] == ["InvalidArgument"]
    assert words in array.error["message"]


def test_an_array_that_still_runs_a_shard_and_both_at_once_are_errors() -> None:
    array = Array(failing(1))
    array.run(tasks=4, shards=2)
    assert again(array, indexes=[1]) == {}
    assert array.error["message"] == "say `indexes` or `rerun_of`, not both"
    old = array.record
    shard = next(record for record in array.executions.records.values() if "vmjob-shard" in record.labels)
    array.start({"rerun_of": shard.name})
    assert array.error["message"] == f"the execution {shard.id} is a shard; name the array, {shard.labels['vmjob-array']}"
    old.ended_at = float("inf")
    array.start({"rerun_of": old.name})
    assert array.error["message"] == f"the execution {old.id} still runs; cancel it first, or wait for its end"
    assert array.error["tags"] == ["InvalidArgument"]


def test_executions_that_may_not_be_read_or_listed_are_an_error() -> None:
    array = Array(failing(1))
    array.run(tasks=4)
    array.executions.answers["get"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.get")]
    again(array)
    assert array.error["tags"] == ["RequestFailed"]
    array = Array(failing(1))
    array.run(tasks=4)
    without_result(array)
    array.executions.answers["list"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.list")]
    again(array)
    assert array.error["tags"] == ["RequestFailed"]
    assert array.error["message"].startswith(
        "failed to list the executions of run-job: HTTP 403, no workflows.executions.list; grant"
    )
    assert json.loads(array.record.argument)["rerun_of"]
