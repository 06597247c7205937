"""An execution whose VMs are real ones, as far as a laptop has them: what runs in them, and what becomes of them.

The clock of the workflow runs 20 times as fast: a minute's wait is three seconds.
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from driver import expressions
from driver.clock import RealClock
from driver.cloud import Cloud
from driver.compute import Instance, Machine
from driver.endpoints import Endpoints
from driver.execution import Execution
from driver.real_vm import RealVm

IMAGE = "vmjob/busybox:test"
SPEED = 20.0
WAIT_ON_THE_FIRST_VM = "trap 'exit 1' TERM; [ $JOB_VM_ATTEMPT = 2 ] || { sleep 300 & wait; }"
START_DEADLINE_S = 600


def skip_or_fail(reason: str) -> None:
    if os.environ.get("CI") == "true" or os.environ.get("VMJOB_TESTS_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def missing_programs(*programs: str) -> str | None:
    return next((f"no {program}" for program in programs if not shutil.which(program)), None)


def missing_image() -> str | None:
    command = ["docker", "image", "inspect", IMAGE]
    answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return None if answer.returncode == 0 else f"no Docker engine with the image {IMAGE}: run this in tests/with-docker"


class RealWorld:
    def __init__(self, vm: Callable[[Instance], RealVm], **args: Any) -> None:
        self.vm, self.args = vm, {"silence": 0, **args}
        self.vms: list[RealVm] = []
        self.booted = threading.Condition()
        self.cloud = Cloud(RealClock(SPEED), self.boot)
        self.endpoints = Endpoints(self.cloud, lambda token: any(token == vm.token() for vm in self.vms))
        self.execution = Execution(self.cloud)
        self.error: dict[str, Any] = {}

    def boot(self, instance: Instance) -> Machine:
        vm = self.vm(instance)
        with self.booted:
            self.vms.append(vm)
            self.booted.notify_all()
        return vm

    def run(self, script: str, **args: Any) -> Any:
        job = {"container": {"image": IMAGE, "args": ["sh", "-c", script]}}
        try:
            return self.execution.run({"job": job, **self.args, **args})
        except WorkflowError as error:
            self.error = expressions.plain(error.payload)
            return self.error.get("report")

    def when_running(self, number: int, act: Callable[[RealVm], None]) -> threading.Thread:
        """Does something to a VM (the first is 0) once the job in it runs."""

        def wait() -> None:
            with self.booted:
                self.booted.wait_for(lambda: len(self.vms) > number, START_DEADLINE_S)
            vm = self.vms[number]
            deadline = time.monotonic() + START_DEADLINE_S
            while vm.guest_attribute("vmjob/state") != "RUNNING":
                assert time.monotonic() < deadline, "the job does not run"
                time.sleep(0.1)
            act(vm)

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    def while_served(self) -> Iterator["RealWorld"]:
        """For a fixture: the callback endpoints are served meanwhile, and no VM is left afterwards."""
        with self.endpoints:
            yield self
        for instance in list(self.cloud.compute.instances.values()):
            instance.machine.power_off()
