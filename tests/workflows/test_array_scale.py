"""10,000 tasks in 20 shards: memory, steps, API calls, and how quickly VMs are asked for."""

import json
from collections import Counter
from typing import Any

from driver import limits
from driver.array import LEFT, Array, failed_with_many_words, succeeded
from driver.execution import Execution

MEMORY = 400_000
# Compute Engine's quota "Queries" (compute.googleapis.com/default): requests that make or delete something, by project and
# minute. Source: <https://cloud.google.com/compute/api-quota>.
QUERIES_A_MINUTE = 1_500
STARTS_A_MINUTE = 300
# Of the executions API, by location and minute. Source: <https://cloud.google.com/workflows/quotas>.
GETS_A_MINUTE, WRITES_A_MINUTE = 6_000, 6_000


def busiest_minute(moments: list[float]) -> int:
    return max(Counter(int(moment // 60) for moment in moments).values())


def busiest(moments: list[float], seconds: float = 60.0) -> int:
    """However the time lies."""
    moments, most, first = sorted(moments), 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def lines(count: int) -> bytes:
    return b"".join(b'{"input": "gs://data/in/%05d.csv", "seed": %d}\n' % (number, number) for number in range(count))


def test_ten_thousand_tasks_in_twenty_shards() -> None:
    def row(index: int) -> dict[str, Any]:
        return {**failed_with_many_words(index), "message": "ä" * 120, "warnings": [LEFT]} if index % 3 else succeeded(index)

    # Long enough at first that all branches are in use; then as short as those of which none finds room.
    array = Array(row, seconds=lambda index: 600.0 if index % 500 < 40 else 20.0 + index % 30)
    array.cloud.objects["gs://data/items.jsonl"] = lines(10_000)
    result = array.run(items="gs://data/items.jsonl", shards=20)
    assert not array.error
    assert (result["tasks"], result["succeeded"], result["failed"], result["skipped"]) == (10_000, 3_334, 6_666, 0)
    assert len(result["rows"]) + result["rows_omitted"] == 6_666
    assert 150 < len(result["rows"]) <= 500
    assert array.indexes() == list(range(10_000))
    assert len(array.log()) == 10_000
    assert all(execution.peak_bytes < MEMORY for execution in array.arrays)
    assert all(execution.steps < limits.STEPS for execution in array.arrays)
    assert array.most_at_once() == 400
    creates = [moment for method, moment in array.executions.requests if method == "create"]
    gets = [moment for method, moment in array.executions.requests if method == "get"]
    assert busiest([task.began for task in array.tasks]) <= STARTS_A_MINUTE + 20
    # Two for each VM, and as many again for zones without room.
    assert 4 * busiest([task.began for task in array.tasks]) <= QUERIES_A_MINUTE
    assert busiest_minute(gets) < GETS_A_MINUTE
    assert busiest_minute(creates) < WRITES_A_MINUTE
    tell("10,000 tasks in 20 shards", array.arrays)
    print(
        f"starts a minute: {busiest([task.began for task in array.tasks])} at most; "
        f"gets a minute: {busiest_minute(gets)} at most; result {limits.size(result)} bytes"
    )


def test_starts_are_a_fifth_of_a_second_apart_over_all_shards() -> None:
    array = Array(seconds=lambda _index: 1.0)
    array.run(tasks=80, shards=2)
    moments = sorted(task.began for task in array.tasks)
    assert busiest(moments, 2.0) <= 11
    assert moments[39] - moments[0] < 9


def test_rows_have_a_bound_in_number_and_in_bytes() -> None:
    array = Array(failed_with_many_words)
    result = array.run(tasks=560, policy="fail_fast")
    assert (len(result["rows"]), result["rows_omitted"]) == (500, 60)
    array = Array(lambda index: {**failed_with_many_words(index), "message": "ä" * 400})
    result = array.run(tasks=200)
    assert 100 < len(result["rows"]) < 200
    assert len(result["rows"]) + result["rows_omitted"] == result["failed"] == 200
    assert len(json.dumps(result["rows"], ensure_ascii=False, separators=(",", ":")).encode()) <= 120_500


def test_many_long_tasks_stay_under_the_steps_of_an_execution() -> None:
    day = 86_400.0
    for tasks, seconds in ((1_000, day), (500, 7 * day), (20, 300 * day)):
        array = Array(seconds=lambda _index, seconds=seconds: seconds)  # type: ignore[misc]
        assert array.run(tasks=tasks)["state"] == "SUCCEEDED"
        (execution,) = array.arrays
        assert execution.steps < limits.STEPS
        tell(f"{tasks} tasks of {seconds / day:.0f} days", array.arrays)


def tell(what: str, executions: list[Execution]) -> None:
    whole, *shards = executions
    steps = [execution.steps for execution in shards] or [0]
    print(
        f"{what}: {whole.steps} steps in the whole, {max(steps)} in a shard at most, {whole.steps + sum(steps)} in all; "
        f"{sum(execution.api_calls for execution in executions)} API calls; "
        f"{max(execution.peak_bytes for execution in executions)} bytes at most"
    )
