"""`parallel` as Google has it. The emulator's branches share all variables, and it starts them all at once.

Source: <https://cloud.google.com/workflows/docs/reference/syntax/parallel-steps>.
"""

import copy
import threading
from typing import Any

from workflows_emulator import main as emulator
from workflows_emulator.utils import WorkflowError

from driver import current
from driver.limits import CONCURRENT_BRANCHES

# One assign step at a time, so that `n: ${n + 1}` counts right in all branches.
ASSIGN = threading.RLock()


class Branch(dict):
    """The variables of one branch: its own, those of the parent to read, and the shared ones to write."""

    def __init__(self, parent: dict[str, Any], shared: list[str], own: dict[str, Any]) -> None:
        super().__init__({**parent, **own})
        self.parent, self.shared, self.read_only = parent, set(shared), set(parent) - set(shared) - set(own)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Branch":
        """What the emulator makes for a loop: it writes the same shared variables."""
        own = {key: copy.deepcopy(value, memo) for key, value in self.items() if key not in self.shared}
        twin = Branch(self.parent, list(self.shared), own)
        twin.read_only = self.read_only
        return twin

    def items(self) -> Any:
        return [(key, self[key]) for key in list(self)]

    def __getitem__(self, key: str) -> Any:
        return self.parent[key] if key in self.shared else super().__getitem__(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self.read_only:
            raise SyntaxError(f"`{key}` is not shared, so that a branch cannot assign it")
        if key in self.shared:
            self.parent[key] = value
        else:
            super().__setitem__(key, value)

    def update(self, other: dict[str, Any]) -> None:  # type: ignore[override]
        for key in other if other is not self else ():
            if key not in self or self[key] != other[key]:
                self[key] = other[key]


class Assign(emulator.StepAssign):
    """The emulator's own writes the variables as JSON into its log, which bytes cannot be."""

    def execute(self) -> tuple[Any, Any, Any]:
        with ASSIGN:
            for item in self.config["assign"]:
                ((target, value),) = item.items()
                name, whole = emulator.assign_var(target, emulator.render_config(value, self.context), self.context)
                self.context[name] = whole
        return self.context, self.config.get("next"), None


class Parallel(emulator.StepParallel):
    def execute(self) -> tuple[Any, Any, Any]:
        step = self.config["parallel"]
        shared = step.get("shared", [])
        limit = emulator.render_config(step.get("concurrency_limit", CONCURRENT_BRANCHES), self.context)
        if "for" in step:
            loop = step["for"]
            values = list(emulator.StepFor(self.step_id, step, self.context).get_iterator())
            branches = [({loop["value"]: value}, loop["steps"]) for value in values]
        else:
            branches = [({}, next(iter(branch.values()))["steps"]) for branch in step["branches"]]
        execution, frames = current.execution(), current.frames()

        def run(own: dict[str, Any], steps: list[Any]) -> None:
            branch = Branch(self.context, shared, own)
            with current.entered(execution, [*frames, branch]):
                emulator.execute_steps_list(steps, branch)

        errors: dict[str, WorkflowError] = {}
        others: list[BaseException] = []
        queue = iter(enumerate(branches))

        def work() -> None:
            for index, (own, steps) in queue:
                try:
                    run(own, steps)
                except WorkflowError as error:
                    errors[str(index)] = error
                except BaseException as error:  # of the test, or a limit: no branch goes on
                    others.append(error)
                if others:
                    return

        execution.cloud.clock.together([work] * min(limit, CONCURRENT_BRANCHES, len(branches)))
        if others:
            raise others[0]
        self.check_raise_results(errors)
        return self.context, self.config.get("next"), None
