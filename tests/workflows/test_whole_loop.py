"""The whole loop: workflow → VM → the real agent → a container of a real Docker engine → callback → workflow → VM deleted.

The agent is the static binary (VMJOB_AGENT), its metadata server is `fakecloud serve` (FAKECLOUD), the engine is that of
`tests/with-docker`. Skipped, in plain sight, where one of them is missing; an error with CI=true or VMJOB_TESTS_STRICT=1.
"""

import datetime
import json
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from driver.compute import DELETE_S, RATE_LIMIT, stock_out
from driver.execution import Cancelled, Execution
from driver.process_vm import AGENT, FAKECLOUD, ProcessVm
from driver.real_world import IMAGE, SPEED, WAIT_ON_THE_FIRST_VM, RealWorld, missing_image, missing_programs, skip_or_fail


@pytest.fixture(scope="session", autouse=True)
def _needs_the_real_parts() -> None:
    without = "VMJOB_DOCKER=none" if os.environ.get("VMJOB_DOCKER") == "none" else None
    reason = without or missing_programs(AGENT, FAKECLOUD, "docker") or missing_image()
    if reason:
        skip_or_fail(reason)


@pytest.fixture
def world() -> Iterator[RealWorld]:
    yield from RealWorld(ProcessVm, baked=True).while_served()


def test_a_job_runs_and_its_report_comes_back(world: RealWorld) -> None:
    report = world.run('echo "hello from VM $JOB_VM_ATTEMPT"; echo \'{"loss": 0.5}\' >$JOB_RESULT_FILE')
    ended = time.time()
    assert (report["state"], report["exit_code"], report["result"]) == ("SUCCEEDED", 0, {"loss": 0.5})
    assert report["logs"]["tail"] == "hello from VM 1\n"
    assert report["vm"]["name"] == report["workflow"]["attempts"][0]["vm"]
    assert world.endpoints.statuses == [200]
    assert world.vms[0].on_finish == "poweroff"
    assert world.vms[0].agent.returncode == 0
    assert not world.cloud.compute.instances
    exited = datetime.datetime.fromisoformat(report["times"]["finished_at"]).timestamp()
    deleting = DELETE_S / SPEED
    print(f"from the container's exit to the workflow's end: {ended - exited:.2f} s, the deletion of {deleting} s included")


def test_a_job_that_fails_ends_the_workflow_with_exit_code_and_last_words(world: RealWorld) -> None:
    report = world.run("echo fine; echo 'Traceback: broken' >&2; exit 3")
    assert world.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert (report["exit_code"], report["retryable"]) == (3, False)
    assert "Traceback: broken" in report["logs"]["tail"]
    assert len(world.vms) == 1


def test_a_docker_command_is_run_as_it_was_tested(world: RealWorld) -> None:
    report = world.run("", job=f"docker run --rm {IMAGE} echo 'a  b' '*'")
    assert report["logs"]["tail"] == "a  b *\n"


def test_a_preempted_vm_says_so_and_is_replaced(world: RealWorld) -> None:
    thread = world.when_running(0, ProcessVm.preempt)
    report = world.run(f"{WAIT_ON_THE_FIRST_VM}; echo again", spot=True)
    thread.join(60)
    assert [row["cause"] for row in report["workflow"]["attempts"]] == ["PREEMPTED", "NONE"]
    assert report["logs"]["tail"] == "again\n"
    assert world.endpoints.statuses == [200, 200]


def test_a_vm_that_vanishes_is_noticed_and_replaced(world: RealWorld) -> None:
    thread = world.when_running(0, ProcessVm.vanish)
    report = world.run(f"{WAIT_ON_THE_FIRST_VM}; echo again")
    thread.join(60)
    assert [row["cause"] for row in report["workflow"]["attempts"]] == ["VM_GONE", "NONE"]


def test_a_job_that_fails_by_itself_is_run_again_by_a_rule_until_it_fails_in_the_same_way(world: RealWorld) -> None:
    script = 'test "$JOB_VM_ATTEMPT" = 1 && echo "ConnectionError: refused" >&2 || echo "ValueError: broken" >&2; exit 75'
    report = world.run(script, retry_rules=[{"on": ["EXIT_CODE:75"]}], max_attempts=5)
    attempts = report["workflow"]["attempts"]
    assert [(row["cause"], row["rule"]) for row in attempts] == [("EXIT_CODE", 0)] * 3
    assert report["workflow"]["cost"]["vm_s"] > 0
    assert world.error["tags"] == ["JobFailed", "EXIT_CODE"]


def test_a_job_that_is_cancelled_through_the_metadata_is_reported_as_cancelled(world: RealWorld) -> None:
    thread = world.when_running(0, lambda vm: vm.set("instance/attributes/job-cancel", "true"))
    report = world.run("trap 'exit 1' TERM; sleep 300 & wait")
    thread.join(60)
    assert world.error["tags"] == ["JobCancelled", "CANCELLED"]
    assert report["state"] == "CANCELLED"


def test_a_report_that_may_not_be_posted_comes_by_the_guest_attributes(world: RealWorld) -> None:
    world.endpoints.permitted = False
    report = world.run("exit 4")
    assert (report["cause"], report["exit_code"]) == ("EXIT_CODE", 4)
    assert set(world.endpoints.statuses) == {403}


def test_an_agent_that_cannot_read_its_job_still_reports(world: RealWorld) -> None:
    report = world.run("", job={"container": {"image": IMAGE, "argz": []}})
    assert (report["cause"], report["fault"]) == ("INVALID_SPEC", "spec")
    assert "args" in report["message"] + str(report["fix"])


def test_a_docker_run_line_has_a_timeout_and_may_be_one_of_several_tasks(world: RealWorld) -> None:
    line = f"docker run --rm {IMAGE} sh -c 'echo $JOB_TASK_INDEX/$JOB_TASK_COUNT; sleep 300'"
    report = world.run("", job=line, timeout=3, task_index=1, task_count=2)
    assert (report["cause"], report["logs"]["tail"]) == ("TIMEOUT", "1/2\n")
    assert "reported_by" not in report
    assert world.vms[0].on_finish == "poweroff"


def test_a_job_that_is_preempted_thrice_runs_on_demand_and_knows_of_it(world: RealWorld) -> None:
    threads = [world.when_running(number, ProcessVm.preempt) for number in range(3)]
    wait = "trap 'exit 1' TERM; [ $JOB_VM_ATTEMPT = 4 ] || { sleep 300 & wait; }"
    placements = [{"spot": True, "attempts": 3}, {"spot": False}]
    report = world.run(f'{wait}; echo "$JOB_ITEM_lr after $JOB_PREVIOUS_CAUSE"', placements=placements, item={"lr": "0.1"})
    for thread in threads:
        thread.join(60)
    attempts = report["workflow"]["attempts"]
    assert [(row["spot"], row["cause"]) for row in attempts] == [(True, "PREEMPTED")] * 3 + [(False, "NONE")]
    assert report["logs"]["tail"] == "0.1 after PREEMPTED\n"


class SizedVm(ProcessVm):
    """Its memory is that of its machine type, as far as the job's container can tell."""

    def attribute(self, key: str, value: str) -> str:
        value = super().attribute(key, value)
        if key != "job-spec":
            return value
        job = json.loads(value)
        job["container"]["memory"] = "32m" if self.machine_type.endswith("/e2-small") else "1g"
        return json.dumps(job)


def test_a_job_that_is_out_of_memory_grows(world: RealWorld) -> None:
    world.vm = SizedVm
    script = 'exec awk \'BEGIN { s = "x"; while (length(s) < 99000000) s = s s; print "enough" }\''
    rules = [{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8"]}]
    report = world.run(script, machine_type="e2-small", retry_rules=rules)
    attempts = report["workflow"]["attempts"]
    assert [(row["type"], row["cause"], row["rule"]) for row in attempts] == [
        ("e2-small", "OOM_KILLED", 0),
        ("n2-highmem-8", "NONE", None),
    ]
    assert report["logs"]["tail"] == "enough\n"


def test_a_vm_that_is_kept_has_the_container_of_the_job_that_failed(world: RealWorld) -> None:
    report = world.run("echo here >/tmp/found; exit 3", keep_vm_on_failure=20)
    (instance,) = world.cloud.compute.instances.values()
    assert report["cause"] == "EXIT_CODE"
    assert int(instance.body["labels"]["vmjob-keep-until"]) > world.cloud.clock.now() - 600
    assert f"gcloud compute ssh {instance.name}" in world.error["message"]
    container = f"vmjob-{world.vms[0].id}-1"
    copy = ["docker", "cp", f"{container}:/tmp/found", "-"]
    assert b"here" in subprocess.run(copy, capture_output=True, timeout=60, check=True).stdout
    world.vms[0].agent.wait(60)
    inspect = ["docker", "inspect", container]
    found = subprocess.run(inspect, capture_output=True, timeout=60, check=False)
    assert found.returncode != 0, "the agent removes it when the time is over"


def test_a_delete_that_is_refused_for_ten_minutes_leaves_nothing(world: RealWorld) -> None:
    delete, refused_until = world.cloud.compute.delete, []

    def deleted(**request: Any) -> Any:
        refused_until.append(world.cloud.clock.now() + 600)
        return RATE_LIMIT if world.cloud.clock.now() < refused_until[0] else delete(**request)

    world.cloud.compute.delete = deleted  # type: ignore[method-assign]
    report = world.run("echo done")
    assert (report["state"], report["workflow"]["warnings"]) == ("SUCCEEDED", [])
    assert len(refused_until) > 9
    assert not world.cloud.compute.instances


@pytest.mark.parametrize("state", ["", "RUNNING"], ids=["as soon as there is a VM", "while the job runs"])
def test_a_cancelled_execution_does_not_keep_the_vm_waiting(world: RealWorld, state: str) -> None:
    """The agent gets 404 for its report, ends, and would power the VM off."""
    world.execution.cancel = lambda: bool(world.vms) and state in ("", world.vms[0].guest_attribute("vmjob/state"))
    with pytest.raises(Cancelled):
        world.run("sleep 20; exit 0", timeout="1h")
    (vm,) = world.vms
    assert vm.agent.wait(180) == 75
    assert set(world.endpoints.statuses) == {404}
    assert vm.on_finish == "poweroff"
    assert '"exit_code":0' in vm.console()


def test_an_execution_that_is_cancelled_after_the_report_leaves_a_vm_that_is_off(world: RealWorld) -> None:
    """Nobody deletes the VM; `reap.yaml` does."""
    world.execution.cancel = lambda: bool(world.endpoints.statuses)
    with pytest.raises(Cancelled):
        world.run("exit 3", timeout="1h")
    (vm,) = world.vms
    assert vm.agent.wait(60) == 0
    assert (world.endpoints.statuses, vm.on_finish) == ([200], "poweroff")


def test_a_stock_out_of_five_hours_is_waited_out(world: RealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, began = world.cloud.clock, world.cloud.clock.now()
    sleep = clock.sleep

    def leap(seconds: float) -> None:
        """While there is no VM, nothing else takes time."""
        if world.vms:
            sleep(seconds)
        else:
            clock._began += seconds

    monkeypatch.setattr(clock, "sleep", leap)
    world.cloud.compute.room = lambda zone, _body, now: stock_out(zone) if now < began + 5 * 3600 else None
    report = world.run("echo at last", wait_for_capacity="6h")
    (attempt,) = report["workflow"]["attempts"]
    assert (attempt["cause"], report["logs"]["tail"]) == ("NONE", "at last\n")
    assert began + 5 * 3600 <= clock.now() < began + 6 * 3600


def test_an_array_runs_its_tasks_on_vms_of_their_own(world: RealWorld) -> None:
    job = {
        "container": {"image": IMAGE, "args": ["sh", "-c", "echo $JOB_TASK_INDEX/$JOB_TASK_COUNT; exit $((JOB_TASK_INDEX == 2))"]}
    }
    execution = Execution(world.cloud, "run-array")
    result = execution.run({"tasks": 4, "run_job": {"job": job, "baked": True, "silence": 0}})
    assert (result["succeeded"], result["failed"], len(world.vms)) == (3, 1, 4)
    assert {row["index"]: row["exit_code"] for row in result["rows"]} == {2: 1}


def test_each_task_of_an_array_reads_its_line_of_the_items(world: RealWorld) -> None:
    script = '[ "$JOB_ITEM_word" = "wört $JOB_TASK_INDEX" ] || exit 9; exit "$JOB_ITEM_code"'
    items = [{"word": f"wört {number}", "code": 3 * (number == 1)} for number in range(3)]
    world.cloud.objects["gs://data/items.jsonl"] = "".join(json.dumps(item) + "\n" for item in items).encode()
    job = {"container": {"image": IMAGE, "args": ["sh", "-c", script]}}
    execution = Execution(world.cloud, "run-array")
    result = execution.run({"items": "gs://data/items.jsonl", "run_job": {"job": job, "baked": True, "silence": 0}})
    assert (result["succeeded"], len(world.vms)) == (2, 3)
    assert {row["index"]: row["exit_code"] for row in result["rows"]} == {1: 3}
