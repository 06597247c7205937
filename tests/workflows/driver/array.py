"""An array in a pretended cloud: an execution of run-array.yaml, and those that it starts."""

import json
from collections.abc import Callable
from typing import Any

from workflows_emulator.utils import WorkflowError

from conftest import JOB, World
from driver import expressions
from driver.clock import VirtualClock
from driver.cloud import Cloud
from driver.execution import LOCATION, PROJECT, Execution
from driver.executions import Child, Record

RUN_JOB = {"job": JOB, "baked": True}
# What a task's execution of run-job.yaml answers, when only the array is looked at.
Row = Callable[[int], dict[str, Any]]
PARENT = f"projects/{PROJECT}/locations/{LOCATION}/workflows/mine/executions/11111111-2222-3333-4444-555555555555"
LEFT = "the VM vmjob-x in us-a1-a could not be deleted (gcloud compute instances delete vmjob-x): forbidden, no"


def succeeded(_index: int) -> dict[str, Any]:
    """A row as run-job.yaml returns it."""
    execution = "01234567-89ab-cdef-0123-456789abcdef"
    row = {"state": "SUCCEEDED", "cause": "NONE", "exit_code": 0, "message": "", "attempts": 1, "execution": execution}
    return {**row, "warnings": []}


def failed_with_many_words(index: int) -> dict[str, Any]:
    return {**succeeded(index), "state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "x" * 120}


class Array:
    def __init__(
        self,
        row: Row | None = succeeded,
        *,
        failing: tuple[int, ...] = (),
        seconds: Callable[[int], float] = lambda _index: 300.0,
        name: str = "run-array",
    ) -> None:
        self.cloud = Cloud(VirtualClock(), lambda _: None)  # type: ignore[arg-type, return-value]
        self.executions = self.cloud.executions
        self.executions.child = self.child
        self.failing, self.row, self.seconds, self.name = failing, row, seconds, name
        # The executions of run-array.yaml, and the tasks, in the order in which they were started.
        self.arrays: list[Execution] = []
        self.tasks: list[Task] = []
        self.error: dict[str, Any] = {}

    def child(self, workflow_id: str, now: float) -> Child:
        if workflow_id == self.name:
            self.arrays.append(Execution(self.cloud.at(now), "run-array", name=workflow_id))
            return self.arrays[-1]
        self.tasks.append(Task(self, workflow_id, now))
        return self.tasks[-1]

    def run(self, **args: Any) -> dict[str, Any]:
        return self.start({"run_job": RUN_JOB, **args})

    def start(self, args: Any) -> dict[str, Any]:
        """The array's result, or what its error says of it. Its execution is in `record`, as any other."""
        execution = Execution(self.cloud, "run-array", name=self.name)
        self.arrays.append(execution)
        workflow = f"projects/{PROJECT}/locations/{LOCATION}/workflows/{self.name}"
        self.error = {}
        self.record = self.executions.add(workflow, json.dumps(args), {}, self.cloud.clock.now(), execution.execution_id)
        try:
            result = execution.run(args)
            self.record.result = json.dumps(result)
        except WorkflowError as error:
            self.error = expressions.plain(error.payload)
            self.record.payload = json.dumps(self.error)
            result = self.error.get("result", {})
        self.record.ended_at = self.cloud.clock.now()
        return result

    def indexes(self) -> list[int]:
        return sorted(task.index for task in self.tasks)

    def most_at_once(self) -> int:
        moments = [(task.began, 1) for task in self.tasks] + [(task.ended, -1) for task in self.tasks]
        at_once = most = 0
        for _, change in sorted(moments):
            at_once += change
            most = max(most, at_once)
        return most

    def log(self) -> list[tuple[str, Any]]:
        return [entry for execution in self.arrays for entry in execution.log]

    def parent(self, cancelled_at: float = float("inf")) -> Record:
        """An execution above the array."""
        workflow, _, execution_id = PARENT.partition("/executions/")
        record = self.executions.add(workflow, "{}", {}, self.cloud.clock.now(), execution_id)
        record.cancelled_at = cancelled_at
        return record


class Task:
    """An execution of run-job.yaml, or only what it answers."""

    def __init__(self, array: Array, workflow: str, now: float) -> None:
        self.array, self.workflow, self.began = array, workflow, now
        self.ended = now

    def run(self, argument: dict[str, Any]) -> Any:
        self.argument, self.index = argument, argument["task_index"]
        if self.array.row:
            self.ended = self.began + self.array.seconds(self.index)
            return self.array.row(self.index)
        failed = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3"}
        world = World.new({"outcome": failed if self.index in self.array.failing else {}})
        row = world.execution.run(argument)
        self.ended = self.began + world.cloud.clock.now() - 1_800_000_000.0
        (self.instance,) = world.cloud.compute.history
        world.assert_no_vm_is_left()
        return row

    def ended_at(self) -> float:
        return self.ended
