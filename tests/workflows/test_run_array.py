"""run-array.yaml on the engine: its tasks are executions of run-job.yaml, each in a pretended cloud of its own."""

import json
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from conftest import JOB
from driver import limits, stdlib
from driver.array import LEFT, PARENT, RUN_JOB, Array, failed_with_many_words, succeeded
from driver.execution import LOCATION, PROJECT
from driver.executions import error


def failing(*indexes: int) -> Any:
    return lambda index: failed_with_many_words(index) if index in indexes else succeeded(index)


def test_of_a_hundred_tasks_five_fail_and_the_result_says_which() -> None:
    array = Array(None, failing=(0, 20, 40, 60, 99))
    result = array.run(tasks=100)
    assert {key: result[key] for key in ("state", "tasks", "succeeded", "failed", "skipped", "rows_omitted")} == {
        "state": "FAILED",
        "tasks": 100,
        "succeeded": 95,
        "failed": 5,
        "skipped": 0,
        "rows_omitted": 0,
    }
    rows = {row["index"]: row for row in result["rows"]}
    assert {index: row["state"] for index, row in rows.items()} == dict.fromkeys((0, 20, 40, 60, 99), "FAILED")
    assert (rows[20]["cause"], rows[20]["exit_code"], rows[20]["message"]) == ("EXIT_CODE", 3, "the job exited with 3")
    specs = [json.loads(task.instance.attributes()["job-spec"]) for task in array.tasks]
    assert {(spec["task_index"], spec["task_count"]) for spec in specs} == {(index, 100) for index in range(100)}
    assert array.most_at_once() == limits.CONCURRENT_BRANCHES


def test_each_row_is_in_cloud_logging_with_its_array_and_its_execution() -> None:
    array = Array(lambda index: {**failing(1)(index), "warnings": [LEFT] if index == 2 else []})
    array.run(tasks=4)
    assert {entry["index"]: severity for severity, entry in array.log()} == {0: "INFO", 1: "ERROR", 2: "WARNING", 3: "INFO"}
    of_array = {entry["vmjob_array"] for _, entry in array.log()}
    assert of_array == {array.arrays[0].execution_id}
    names = {
        index: next(r.id for r in array.executions.records.values() if r.labels.get("vmjob-task") == str(index))
        for index in range(4)
    }
    assert {entry["index"]: entry["execution"] for _, entry in array.log()} == names


def test_a_row_that_cannot_be_logged_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise WorkflowError(message="PERMISSION_DENIED: logging.logEntries.create", tags=["SystemError"])

    monkeypatch.setitem(stdlib.CALLS, "sys.log", refused)
    result = Array(failing(2)).run(tasks=4)
    assert ([row["index"] for row in result["rows"]], result["succeeded"]) == ([2], 3)


def test_fail_fast_starts_no_task_after_a_failure_and_is_an_error() -> None:
    array = Array(failing(3))
    result = array.run(tasks=100, policy="fail_fast")
    started = len(array.tasks)
    assert started < 2 * limits.CONCURRENT_BRANCHES
    assert array.error["tags"] == ["ArrayFailed"]
    assert array.error["message"] == f"1 of 100 tasks failed; {100 - started} were not started"
    assert (result["succeeded"], result["failed"], result["skipped"]) == (started - 1, 1, 100 - started)
    assert sorted(row["index"] for row in result["rows"]) == [3, *range(started, 100)]
    assert {severity for severity, entry in array.log() if entry["state"] == "SKIPPED"} == {"NOTICE"}


def test_max_failures_stops_after_so_many_and_leaves_the_verdict_to_the_policy() -> None:
    array = Array(failing(*range(0, 1000, 10)), seconds=lambda index: 100.0 + index % 7)
    result = array.run(tasks=120, max_failures=5)
    assert not array.error
    assert result["state"] == "FAILED"
    assert 5 <= result["failed"] <= 5 + limits.CONCURRENT_BRANCHES
    assert result["skipped"] > 30
    array = Array(failing(*range(0, 1000, 10)))
    array.run(tasks=120, max_failures=5, policy="fail_fast")
    assert array.error["tags"] == ["ArrayFailed"]


def test_max_failures_is_shared_by_the_shards() -> None:
    array = Array(failed_with_many_words)
    result = array.run(tasks=120, shards=4, max_failures=8)
    # Each stops after two; the tasks that run then go on to their ends.
    started = len(array.tasks)
    assert 4 * limits.CONCURRENT_BRANCHES <= started <= 4 * (limits.CONCURRENT_BRANCHES + 2)
    assert (result["failed"], result["skipped"]) == (started, 120 - started)


@pytest.mark.parametrize(("tasks", "shards"), [(100, 3), (5, 4), (2, 7), (1, 2)])
def test_shards_share_the_tasks_without_a_gap(tasks: int, shards: int) -> None:
    array = Array()
    result = array.run(tasks=tasks, shards=shards)
    assert array.indexes() == list(range(tasks))
    assert (result["state"], result["tasks"], result["succeeded"], result["rows"]) == ("SUCCEEDED", tasks, tasks, [])


def test_a_shard_that_fails_fast_makes_the_whole_an_error() -> None:
    array = Array(failed_with_many_words)
    result = array.run(tasks=90, shards=3, policy="fail_fast")
    assert array.error["tags"] == ["ArrayFailed"]
    assert result["tasks"] == len(result["rows"]) == 90


def test_only_the_tasks_of_indexes_are_run_under_their_own_numbers() -> None:
    for shards in (1, 3):
        array = Array(failing(17))
        result = array.run(tasks=100, indexes=[17, 3, 99, 17], shards=shards)
        assert array.indexes() == [3, 17, 99]
        assert {task.argument["task_count"] for task in array.tasks} == {100}
        assert (result["tasks"], result["succeeded"], [row["index"] for row in result["rows"]]) == (3, 2, [17])


def test_a_task_whose_execution_fails_is_a_row_and_ends_no_other() -> None:
    def broken(index: int) -> dict[str, Any]:
        if index == 1:
            raise WorkflowError(message="no capacity in any of [...]", tags=["NoCapacity"], attempts=[{"vm": "a"}])
        return succeeded(index)

    result = Array(broken).run(tasks=3)
    (row,) = result["rows"]
    assert (row["index"], row["state"], row["cause"], row["attempts"]) == (1, "FAILED", "WORKFLOW_ERROR", 1)
    assert row["message"] == "no capacity in any of [...]"
    assert result["succeeded"] == 2


def test_a_task_whose_execution_is_cancelled_is_a_row_that_says_so() -> None:
    array = Array()
    array.run(tasks=1)
    array = Array(seconds=lambda _index: 10_000.0)
    create = array.executions.create

    def cancelled(*args: Any) -> Any:
        answer = create(*args)
        array.executions.records[answer[1]["name"].rsplit("/", 1)[1]].cancelled_at = args[3].now() + 500
        return answer

    array.executions.create = cancelled  # type: ignore[method-assign]
    result = array.run(tasks=2)
    assert {(row["state"], row["cause"], row["message"]) for row in result["rows"]} == {
        ("CANCELLED", "WORKFLOW_ERROR", "its execution was cancelled")
    }
    assert (result["state"], result["failed"]) == ("FAILED", 2)


def test_a_look_that_fails_is_no_end_of_a_task() -> None:
    array = Array()
    array.executions.answers["get"] = [
        error(503, "UNAVAILABLE", "x"),
        error(403, "PERMISSION_DENIED", "x"),
        error(404, "NOT_FOUND", "x"),
    ] * 3
    assert array.run(tasks=1)["state"] == "SUCCEEDED"
    array.executions.answers["get"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.get")] * 1000
    result = array.run(tasks=1)
    assert result["rows"][0]["message"].startswith(
        "its execution may still run, but its state cannot be read; HTTP 403, no workflows"
    )
    assert array.cloud.clock.now() - 1_800_000_000 > 3600


def test_a_result_that_is_too_large_or_no_row_is_a_row_of_its_own() -> None:
    array = Array()
    array.executions.answers["get"] = [
        WorkflowError(message="memory usage limit exceeded", tags=["ResourceLimitError", "MemoryLimitExceededError"])
    ]
    (row,) = array.run(tasks=1)["rows"]
    assert (row["state"], row["cause"]) == ("FAILED", "WORKFLOW_ERROR")
    assert "memory usage limit exceeded" in row["message"]
    for odd in (
        {"x": "y" * 3000},
        "done",
        7,
        [],
        {"state": 1},
        {"state": "SUCCEEDED", "message": 3},
        {"state": "SUCCEEDED", "warnings": "w"},
    ):
        result = Array(lambda _index, odd=odd: odd).run(tasks=2)  # type: ignore[misc]
        assert {row["message"].partition(";")[0] for row in result["rows"]} == {
            "the result of its execution is no row of run-job.yaml"
        }
        assert limits.size(result) < 2000
    more = {**succeeded(0), "tags": "x", "attempts": "many", "exit_code": [0], "extra": {"y": "z" * 3000}}
    assert Array(lambda _index: more).run(tasks=2)["state"] == "SUCCEEDED"


def test_the_executions_above_are_named_to_each_task_through_every_level() -> None:
    array = Array()
    array.parent()
    array.run(tasks=4, shards=2, parents=[PARENT])
    whole = f"projects/{PROJECT}/locations/{LOCATION}/workflows/run-array/executions/{array.arrays[0].execution_id}"
    shards = {record.name for record in array.executions.records.values() if "vmjob-shard" in record.labels}
    assert len(shards) == 2
    for task in array.tasks:
        assert task.argument["parents"][:2] == [PARENT, whole]
        assert len(task.argument["parents"]) == 3
    labels = [record.labels for record in array.executions.records.values() if record.labels]
    assert {label["vmjob-array"] for label in labels} == {array.arrays[0].execution_id}
    assert sorted(label["vmjob-task"] for label in labels if "vmjob-task" in label) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("shards", [1, 2])
def test_no_task_is_started_once_an_execution_above_was_cancelled(shards: int) -> None:
    array = Array(seconds=lambda _index: 600.0)
    array.parent(cancelled_at=array.cloud.clock.now() + 900)
    result = array.run(tasks=100, shards=shards, parents=[PARENT])
    assert max(task.began for task in array.tasks) <= 1_800_000_000 + 900 + 60 + 60
    assert len(array.tasks) <= shards * 2 * limits.CONCURRENT_BRANCHES
    assert result["skipped"] == 100 - len(array.tasks) > 0


def test_every_row_carries_the_warnings_of_its_task_also_of_one_that_broke() -> None:
    def row(index: int) -> dict[str, Any]:
        if index == 1:
            raise WorkflowError(message="no capacity in any of [...]", tags=["NoCapacity"], warnings=[LEFT])
        return {**succeeded(index), "warnings": [LEFT] if index == 2 else []}

    rows = {row["index"]: row for row in Array(row).run(tasks=4)["rows"]}
    assert {index: (row["state"], row["warnings"]) for index, row in rows.items()} == {
        1: ("FAILED", [LEFT]),
        2: ("SUCCEEDED", [LEFT]),
    }
    assert rows[1]["message"] == "no capacity in any of [...]"


def test_a_shard_whose_execution_breaks_is_a_row_and_costs_no_other_its_rows() -> None:
    array = Array(failing(0, 8))
    create = array.executions.create

    def refused(match: Any, query: Any, body: Any, clock: Any) -> Any:
        second = body["labels"].get("vmjob-shard") == "1"
        return error(400, "INVALID_ARGUMENT", "argument too large") if second else create(match, query, body, clock)

    array.executions.create = refused  # type: ignore[method-assign]
    result = array.run(tasks=9, shards=3)
    (broken,) = [row for row in result["rows"] if "last" in row]
    assert (result["state"], result["succeeded"], result["failed"], len(result["rows"])) == ("FAILED", 4, 5, 3)
    assert (broken["index"], broken["last"]) == (3, 5)
    assert broken["cause"] == "WORKFLOW_ERROR"
    assert "argument too large" in broken["message"]


def test_two_copies_of_the_workflows_do_not_run_each_others_tasks() -> None:
    array = Array(name="team-a-run-array")
    assert array.run(tasks=4, shards=2)["state"] == "SUCCEEDED"
    assert {task.workflow for task in array.tasks} == {"team-a-run-job"}
    assert len(array.arrays) == 3
    array = Array()
    array.run(tasks=2, workflow="another")
    assert {task.workflow for task in array.tasks} == {"another"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"tasks": 0}, "there are 1 to 10000 tasks"),
        ({"tasks": 10_001}, "there are 1 to 10000 tasks"),
        ({"tasks": 1, "shards": 21}, "1 to 20 shards"),
        ({"tasks": 1, "shards": 0}, "1 to 20 shards"),
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
        ({"tasks": 1, "max_failures": 0}, "`max_failures` is 1 or more"),
        ({"tasks": 1, "max_failures": "2"}, "`max_failures` is of type string; it takes: integer"),
        ({"tasks": 1001}, "an execution takes 1000 tasks at most, and here would be 1001 in each of 1; say `shards: 2`"),
        ({"tasks": 10_000, "shards": 3}, "say `shards: 10`"),
        ({"tasks": 5, "indexes": []}, "`indexes` is a list of one or more numbers"),
        ({"tasks": 5, "indexes": ["3"]}, "`indexes` is a list of one or more numbers"),
        ({"tasks": 5, "indexes": [-1]}, "`indexes` is a list of one or more numbers"),
        ({"tasks": 5, "indexes": [1.5]}, "`indexes` is a list of one or more numbers"),
        ({"tasks": 5, "indexes": [2, 5]}, "`indexes` names task 5; there are 0 to 4"),
        ({"tasks": 5, "indexes": 3}, "`indexes` is of type integer; it takes: list"),
        ({"tasks": 1, "parents": ["x"]}, "`parents` is a list of full names"),
        ({"tasks": 1, "parents": [PARENT + "," + PARENT]}, "`parents` is a list of full names"),
        ({"tasks": 1, "parents": PARENT}, "`parents` is of type string; it takes: list"),
        ({"tasks": 1, "part": {}}, "`part` is what this file gives to its shards"),
        (
            {"tasks": 1, "part": {"array": "a", "first": 0, "last": "9", "total": 1}},
            "`part` is what this file gives to its shards",
        ),
        ({"tasks": 1, "run_job": {**RUN_JOB, "task_index": 3}}, "`run_job.task_index` is for run-array.yaml to say"),
        ({"tasks": 1, "run_job": {**RUN_JOB, "item": {}}}, "`run_job.item` is for run-array.yaml to say"),
        ({"tasks": 1, "run_job": {"job": {**JOB, "id": "x" * 28_000}}}, "`run_job` would have 28"),
        ({"tasks": 2, "shards": 2, "run_job": {"job": {**JOB, "id": "ä" * 14_000}}}, "those of a shard would have 28"),
    ],
)
def test_a_wrong_argument_is_an_error(args: dict[str, Any], words: str) -> None:
    array = Array()
    array.run(**args)
    assert array.error["tags"] == ["InvalidArgument"]
    assert words in array.error["message"]
    assert not array.tasks


@pytest.mark.parametrize("argument", [None, [], "3", 7])
def test_arguments_that_are_no_map_are_an_error(argument: Any) -> None:
    array = Array()
    array.start(argument)
    assert array.error["tags"] == ["InvalidArgument"]


def test_a_vm_knows_its_item_and_the_executions_above_it() -> None:
    array = Array(None)
    array.parent()
    assert array.run(items=[{"lr": "0.1"}, {"lr": "0.2"}], shards=2, parents=[PARENT])["state"] == "SUCCEEDED"
    for task in array.tasks:
        attributes = task.instance.attributes()
        assert json.loads(attributes["job-context"])["item"] == {"lr": f"0.{task.index + 1}"}
        assert attributes["execution-parents"].split(",") == task.argument["parents"]
        assert attributes["execution-parents"].startswith(
            f"{PARENT},projects/{PROJECT}/locations/{LOCATION}/workflows/run-array/"
        )
