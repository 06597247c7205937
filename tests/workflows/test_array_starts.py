"""How run-array.yaml starts its executions: what a quota, a lost answer or a refusal means."""

from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from driver import limits
from driver.array import RUN_JOB, Array
from driver.executions import QUOTA, error


def test_an_execution_that_cannot_be_started_for_a_quota_is_started_later() -> None:
    array = Array()
    array.executions.answers["create"] = [QUOTA, QUOTA, error(503, "UNAVAILABLE", "try again")]
    result = array.run(tasks=5)
    assert (result["state"], len(array.tasks)) == ("SUCCEEDED", 5)
    array = Array()
    array.executions.answers["create"] = [QUOTA] * 1000
    result = array.run(tasks=5)
    assert {row["message"].partition(";")[0] for row in result["rows"]} == {"its execution could not be started"}
    assert "quota exceeded" in result["rows"][0]["message"]
    assert 1800 <= array.cloud.clock.now() - 1_800_000_000 < 2400


def test_a_workflow_that_is_not_there_ends_the_array_at_once() -> None:
    array = Array()
    array.executions.answers["create"] = [error(404, "NOT_FOUND", "workflow run-job does not exist")] * 1000
    result = array.run(tasks=100)
    assert (result["failed"], result["skipped"]) == (1, 99)
    (row,) = [row for row in result["rows"] if row["state"] == "FAILED"]
    assert row["message"] == "its execution could not be started; HTTP 404, workflow run-job does not exist"
    array.executions.answers["create"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.create")] * 1000
    assert "grant the workflow's service account the role of role.yaml" in array.run(tasks=1)["rows"][0]["message"]


def test_arguments_that_run_job_refuses_end_the_array() -> None:
    array = Array(None)
    result = array.run(tasks=60, run_job={**RUN_JOB, "machine": "e2-standard-2"})
    (words,) = {row["message"].partition(";")[0] for row in result["rows"] if row["state"] == "FAILED"}
    assert words == "unknown argument `machine`"
    assert result["failed"] == len(array.tasks) < 2 * limits.CONCURRENT_BRANCHES
    assert result["skipped"] == 60 - len(array.tasks)


def test_a_start_whose_answer_is_lost_is_found_by_its_labels_and_not_repeated() -> None:
    array = Array()
    create = array.executions.create
    lost = iter(
        [error(500, "INTERNAL", "x"), WorkflowError(message="reset", tags=["ConnectionError"]), error(503, "UNAVAILABLE", "x")]
    )

    def unheard(*args: Any) -> Any:
        answer = create(*args)
        problem = next(lost, answer)
        if isinstance(problem, BaseException):
            raise problem
        return problem

    array.executions.create = unheard  # type: ignore[method-assign]
    result = array.run(tasks=150)
    assert (result["state"], array.indexes()) == ("SUCCEEDED", list(range(150)))


@pytest.mark.parametrize("arrives", [True, False])
def test_a_shard_whose_start_is_not_answered_runs_once(arrives: bool) -> None:
    array = Array()
    create = array.executions.create
    refusals = iter([QUOTA, error(503, "UNAVAILABLE", "x")])

    def unheard(match: Any, query: Any, body: Any, clock: Any) -> Any:
        problem = next(refusals, None) if body["labels"].get("vmjob-shard") == "1" else None
        if problem is None:
            return create(match, query, body, clock)
        if arrives and problem is not QUOTA:
            create(match, query, body, clock)
        return problem

    array.executions.create = unheard  # type: ignore[method-assign]
    result = array.run(tasks=9, shards=3)
    assert (result["state"], array.indexes(), len(array.arrays)) == ("SUCCEEDED", list(range(9)), 4)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("answer", [(408, ""), (200, "<html>sign in</html>"), (200, {}), (200, None), (200, [])], ids=repr)
@pytest.mark.parametrize("arrives", [True, False])
def test_an_answer_without_a_name_tells_as_little_as_none(answer: Any, arrives: bool, shards: int) -> None:
    array = Array()
    create = array.executions.create
    odd = iter([answer] * 2)

    def answered(*args: Any) -> Any:
        problem = next(odd, None)
        return create(*args) if problem is None else (arrives and create(*args) and None) or problem

    array.executions.create = answered  # type: ignore[method-assign]
    # A list that is none is no proof that it did not arrive.
    array.executions.answers["list"] = [(200, "<html>sign in</html>")] if arrives else []
    result = array.run(tasks=6, shards=shards)
    assert len(array.indexes()) == len(set(array.indexes())), "no task runs twice"
    if not arrives:
        assert (result["state"], array.indexes()) == ("SUCCEEDED", list(range(6)))
    else:
        assert all(row["message"].startswith("nothing is known of its execution") for row in result["rows"])
        assert result["succeeded"] + result["failed"] == 6


def test_a_start_that_did_not_arrive_is_made_again_once_that_is_certain() -> None:
    array = Array()
    array.executions.answers["create"] = [
        error(503, "UNAVAILABLE", "x"),
        WorkflowError(message="reset", tags=["ConnectionError"]),
    ]
    result = array.run(tasks=3)
    assert (result["state"], array.indexes()) == ("SUCCEEDED", [0, 1, 2])


def test_a_start_of_which_nothing_can_be_known_is_not_repeated() -> None:
    array = Array()
    array.executions.answers["list"] = [error(403, "PERMISSION_DENIED", "no workflows.executions.list")] * 9
    array.executions.answers["create"] = [
        error(500, "INTERNAL", "internal"),
        WorkflowError(message="reset", tags=["ConnectionError"]),
    ]
    result = array.run(tasks=3)
    assert [row["message"].partition(";")[0] for row in result["rows"]] == [
        "nothing is known of its execution, which may still run"
    ] * 2
    assert (len(array.tasks), result["succeeded"]) == (1, 1)
