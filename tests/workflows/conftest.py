"""What the tests share: an execution in a pretended cloud, in which 300 days pass in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from driver.clock import VirtualClock
from driver.cloud import Cloud
from driver.compute import Instance, Machine
from driver.execution import Execution
from driver.simulated import SimulatedVm

JOB = {"id": "job", "container": {"image": "busybox", "args": ["true"]}}
# The least that run-job.yaml wants.
ARGS = {"job": JOB, "baked": True}


@dataclass
class World:
    """One execution of run-job.yaml: what it is given, what becomes of each VM, and what came out."""

    cloud: Cloud
    execution: Execution
    # What differs from a healthy VM, by attempt; the last goes for all later ones.
    vms: list[dict[str, Any]]
    error: dict[str, Any] | None = None

    @classmethod
    def new(cls, *vms: dict[str, Any]) -> "World":
        cloud = Cloud(VirtualClock(), lambda _instance: None)  # type: ignore[arg-type, return-value]
        world = cls(cloud, Execution(cloud), list(vms) or [{}])
        cloud.compute.boot = world.boot
        return world

    def boot(self, instance: Instance) -> Machine:
        number = len(self.cloud.compute.history)
        return SimulatedVm(self.cloud, instance, **self.vms[min(number, len(self.vms) - 1)])

    def run(self, **args: Any) -> Any:
        """The report; where the workflow raises, the error's map is in `error`, and the report that it carries is returned."""
        began = self.cloud.clock.now()
        try:
            result = self.execution.run({**ARGS, **args})
        except WorkflowError as error:
            self.error = error.payload
            result = self.error.get("report")
        self.seconds = self.cloud.clock.now() - began
        return result

    def bodies(self) -> list[dict[str, Any]]:
        return [instance.body for instance in self.cloud.compute.history]

    def calls(self, name: str) -> int:
        return self.cloud.compute.requests.count(name)

    def assert_no_vm_is_left(self) -> None:
        assert not self.cloud.compute.instances


def hoarse(boot: Any) -> Any:
    """The agent's heartbeats stop, but it runs and reports."""

    def booted(instance: Any) -> Any:
        vm = boot(instance)
        vm.guest_attribute = lambda _key: None
        vm.silent_after_s = float("inf")
        return vm

    return booted


@pytest.fixture
def world() -> Callable[..., World]:
    return World.new
