"""The whole loop with VMs that boot: workflow → a machine with its own init → Google's script runner → the startup script or
the agent from a bucket → its systemd unit → Docker → callback → workflow → the machine is deleted.

Needs root, the program `boot` (BOOT) and what `make test-vm` sets up. Skipped, in plain sight, where one of them is missing; an
error with CI=true or VMJOB_TESTS_STRICT=1.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.booted_vm import BOOT, BootedVm
from driver.process_vm import AGENT
from driver.real_world import WAIT_ON_THE_FIRST_VM, RealWorld, missing_programs, skip_or_fail

URL, SCRIPT = "gs://agents/vmjob-agent", "gs://agents/startup-script.sh"


def sha256() -> str:
    return hashlib.sha256(Path(AGENT).read_bytes()).hexdigest()


@pytest.fixture(scope="session", autouse=True)
def _needs_the_real_parts() -> None:
    reason = missing_programs(AGENT, BOOT, "systemd-nspawn", "google_metadata_script_runner", "dockerd")
    reason = reason or (None if os.geteuid() == 0 else "only root boots machines")
    if reason:
        skip_or_fail(reason)


@pytest.fixture
def world() -> Iterator[RealWorld]:
    w = RealWorld(lambda instance: BootedVm(instance, w.cloud.base_url), agent={"url": URL})
    yield from w.while_served()


def test_the_agent_as_startup_script_runs_the_job_and_the_vm_is_deleted(world: RealWorld) -> None:
    report = world.run('echo "hello from VM $JOB_VM_ATTEMPT"; echo \'{"loss": 0.5}\' >$JOB_RESULT_FILE')
    assert (report["state"], report["exit_code"], report["result"]) == ("SUCCEEDED", 0, {"loss": 0.5})
    assert report["logs"]["tail"] == "hello from VM 1\n"
    assert world.endpoints.statuses == [200]
    assert not world.cloud.compute.instances


def test_a_startup_script_checks_the_agent_and_the_error_carries_the_exit_code(world: RealWorld) -> None:
    report = world.run("echo oh no >&2; exit 3", agent={"url": URL, "sha256": sha256(), "startup_script": SCRIPT})
    assert world.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert (report["exit_code"], report["logs"]["tail"]) == (3, "oh no\n")


def test_an_agent_that_is_not_the_one_wanted_is_reported_by_the_startup_script(world: RealWorld) -> None:
    agent = {"url": URL, "sha256": "0" * 64, "startup_script": SCRIPT}
    report = world.run("true", agent=agent, max_attempts=1)
    assert (report["cause"], report["exit_code"]) == ("INVALID_SPEC", None)
    assert "0" * 64 in report["message"]


def test_a_preempted_machine_reports_before_its_network_goes_and_is_replaced(world: RealWorld) -> None:
    thread = world.when_running(0, BootedVm.preempt)
    report = world.run(f"{WAIT_ON_THE_FIRST_VM}; echo again", spot=True)
    thread.join(60)
    assert [row["cause"] for row in report["workflow"]["attempts"]] == ["PREEMPTED", "NONE"]
    assert report["logs"]["tail"] == "again\n"


def test_a_machine_that_loses_its_power_is_noticed_and_replaced(world: RealWorld) -> None:
    thread = world.when_running(0, BootedVm.vanish)
    report = world.run(f"{WAIT_ON_THE_FIRST_VM}; echo again")
    thread.join(60)
    assert [row["cause"] for row in report["workflow"]["attempts"]] == ["VM_GONE", "NONE"]
