"""run-job.yaml on the engine, with VMs that are only told about: what fails, when, and what then."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from conftest import JOB, World, hoarse
from driver import limits, stdlib
from driver.compute import error
from driver.execution import WORKFLOWS, Cancelled, Execution, checked
from driver.simulated import report
from test_files import steps

NewWorld = Callable[..., World]
DAY = 86_400
FAILED = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3", "retryable": False}
PREEMPTED = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True}


def spec(world: World, number: int = 0) -> dict[str, Any]:
    return json.loads(world.cloud.compute.history[number].attributes()["job-spec"])


def context(world: World, number: int = 0) -> dict[str, Any]:
    return json.loads(world.cloud.compute.history[number].attributes()["job-context"])


# The way that all goes well.


def test_a_job_that_succeeds_is_a_report_and_its_vm_is_deleted(world: NewWorld) -> None:
    w = world()
    result = w.run()
    assert (result["state"], result["exit_code"], result["logs"]["tail"]) == ("SUCCEEDED", 0, "done\n")
    (row,) = result["workflow"]["attempts"]
    assert (row["zone"], row["cause"]) == ("europe-west1-b", "NONE")
    assert result["workflow"]["image"].startswith("projects/cos-cloud/global/images/cos-stable-")
    assert result["workflow"]["warnings"] == []
    w.assert_no_vm_is_left()


def test_the_vm_has_what_the_agent_reads_and_no_way_in(world: NewWorld) -> None:
    w = world()
    w.run(agent={"url": "gs://b/vmjob-agent"})
    (body,) = w.bodies()
    attributes = w.cloud.compute.history[0].attributes()
    assert attributes["callback-url"].startswith("https://workflowexecutions.googleapis.com/")
    assert attributes["enable-guest-attributes"] == "TRUE"
    assert attributes["startup-script-url"] == attributes["agent-url"] == "gs://b/vmjob-agent"
    assert "agent-sha256" not in attributes
    assert "accessConfigs" not in body["networkInterfaces"][0]
    assert body["serviceAccounts"][0]["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert body["labels"]["vmjob-execution"] == w.execution.execution_id
    assert body["disks"][0]["autoDelete"] is True


def test_the_agent_comes_by_a_startup_script_or_with_the_image(world: NewWorld) -> None:
    w = world()
    agent = {"url": "gs://b/vmjob-agent", "sha256": "ab" * 32, "startup_script": "gs://b/startup.sh"}
    w.run(agent=agent)
    attributes = w.cloud.compute.history[0].attributes()
    keys = ("startup-script-url", "agent-url", "agent-sha256")
    assert [attributes[key] for key in keys] == ["gs://b/startup.sh", "gs://b/vmjob-agent", "ab" * 32]
    w = world()
    w.run(agent={"startup_script": "gs://b/startup.sh"})
    assert [w.cloud.compute.history[0].attributes().get(key) for key in keys] == ["gs://b/startup.sh", None, None]
    w = world()
    w.run(baked=True)
    expected = {"job-spec", "job-context", "callback-url", "enable-guest-attributes"}
    assert set(w.cloud.compute.history[0].attributes()) == expected


def test_every_argument_reaches_the_vm(world: NewWorld) -> None:
    w = world()
    w.run(
        machine_type="g2-standard-4",
        zones=["us-central1-a"],
        spot=True,
        disk={"size_gb": 100, "type": "pd-ssd"},
        gpu={"type": "nvidia-l4", "count": 2},
        service_account="job@p.iam.gserviceaccount.com",
        network={"subnetwork": "regions/us-central1/subnetworks/s", "external_ip": True},
        image="projects/p/global/images/i",
        timeout="2h",
        labels={"team": "a"},
    )
    (body,) = w.bodies()
    assert body["machineType"] == "zones/us-central1-a/machineTypes/g2-standard-4"
    disk = body["disks"][0]["initializeParams"]
    assert disk == {
        "sourceImage": "projects/p/global/images/i",
        "diskSizeGb": "100",
        "diskType": "zones/us-central1-a/diskTypes/pd-ssd",
    }
    assert body["guestAccelerators"] == [
        {"acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-l4", "acceleratorCount": 2}
    ]
    assert body["networkInterfaces"] == [
        {
            "subnetwork": "regions/us-central1/subnetworks/s",
            "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "name": "External NAT"}],
        }
    ]
    assert body["scheduling"] == {
        "provisioningModel": "SPOT",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
        "maxRunDuration": {"seconds": str(7200 + 1800 + 3600)},
        "instanceTerminationAction": "DELETE",
    }
    assert body["labels"]["team"] == "a"
    assert spec(w)["timeout"] == "2h"


def test_a_docker_run_line_goes_as_it_is_in_a_job_spec_with_all_that_one_has(world: NewWorld) -> None:
    w = world()
    line = "docker run --rm busybox echo 'a  b'"
    w.run(job=line, timeout="2h", task_index=1, task_count=2)
    assert spec(w) == {"docker_command": line, "timeout": "2h", "on_finish": "poweroff", "task_index": 1, "task_count": 2}
    assert "docker-command" not in w.cloud.compute.history[0].attributes()


@pytest.mark.parametrize("parsed", [True, False], ids=["as JSON", "as text"])
def test_a_job_that_no_argument_can_hold_comes_from_cloud_storage(world: NewWorld, parsed: bool) -> None:
    large = {**JOB, "container": {"image": "busybox", "env": {"DATA": "ä" + "x" * 60_000}}}
    with pytest.raises(limits.ResourceLimitError):
        limits.check_argument({"job": large})
    w = world()
    w.cloud.objects["gs://b/jobs/a b.json"] = large if parsed else json.dumps(large)
    w.run(job="gs://b/jobs/a b.json")
    assert spec(w)["container"]["env"]["DATA"] == "ä" + "x" * 60_000
    w.assert_no_vm_is_left()


def test_a_job_is_too_large_before_it_breaks_the_memory(world: NewWorld) -> None:
    w = world()
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "busybox", "env": {"DATA": "x" * 66_000}}}
    w.run(job="gs://b/job.json")
    assert w.error["tags"] == ["InvalidArgument"]
    assert not w.cloud.compute.history


# What the caller got wrong.


CHECKED: dict[str, Any] = {}
for assignment in dict(steps(checked(WORKFLOWS / "run-job.yaml")["check_arguments"]))["known"]["assign"]:
    CHECKED |= assignment


@pytest.mark.parametrize(
    "value", [-1, 0, -0.5, 1e300, "", " ", "x\ny", "Ä", "-5", "0x10", [], {}, True, [None], {"": 1}], ids=repr
)
@pytest.mark.parametrize("key", sorted(set(CHECKED["types"]) - {"job"}))
def test_every_argument_is_held_to_its_form(world: NewWorld, key: str, value: Any) -> None:
    """An odd value is what the argument may be, or an error that names the argument and says what to write."""
    w = world()
    w.execution.measure_memory = False
    w.run(**{key: value})
    if w.error:
        assert w.error["tags"] == ["InvalidArgument"]
        assert f"`{key}" in w.error["message"] or "`job.timeout`" in w.error["message"]
        assert not w.cloud.compute.requests
    else:
        fine = {
            "truth": [True],
            "notice": [0],
            "parents": [[]],
            "item": [{}],
            "seconds": [0],
            "price": [0],
            "duration": [0],
            "index": [0],
            "path": ["Ä", "-5", "0x10"],
        }
        fine |= {"labels": [{}], "map": [{}], "list": [[]]}
        assert any(value == good and type(value) is type(good) for good in fine[CHECKED["types"][key]])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"machinetype": "e2-small"}, "unknown argument `machinetype`"),
        ({"baked": False}, "say where the agent is"),
        ({"baked": False, "agent": {}}, "say where the agent is"),
        ({"agent": {"url": "gs://b/a", "sha256": "ab" * 32}}, "there is none: write `agent: {startup_script, url, sha256}`"),
        ({"job": "echo hi"}, "begins with `docker run`"),
        ({"timeout": "soon"}, '`timeout` is "soon": write a duration, such as 90s or 1h30m, or seconds as '),
        ({"timeout": "301d"}, "300 days are the limit"),
        ({"job": None}, "say what to run"),
        ({"job": ""}, "begins with `docker run`"),
        ({"job": ["docker", "run"]}, '`job` is ["docker","run"]: write a job-spec as a map, a gs:// URL of one, o'),
        ({"job": 7}, "`job` is 7: write a job-spec as a map, a gs:// URL of one, or a `docker run"),
        ({"job": {**JOB, "timeout": True}}, "`job.timeout` is of type boolean: write 90s, 1h30m, or seconds as a number"),
        ({"job": {**JOB, "timeout": {"hours": 3}}}, "`job.timeout` is of type map: write 90s, 1h30m, or seconds as a number"),
        ({"agent": "gs://b/startup.sh"}, '`agent` is "gs://b/startup.sh": write a map, {…}'),
        ({"agent": {"startup-script": "gs://b/s"}}, "unknown argument `agent.startup-script`"),
        ({"agent": {"url": 7}}, "`agent.url` is 7: write a URL, gs://BUCKET/OBJECT or https://…"),
        ({"baked": False, "agent": {"startup_script": None}}, "say where the agent is"),
        ({"baked": "yes"}, '`baked` is "yes": write true or false'),
        ({"machine_type": ["e2-small"]}, '`machine_type` is ["e2-small"]: write a name in lower case, such as e2-stan'),
        ({"zones": "us-central1-a"}, '`zones` is "us-central1-a": write a list of one or more names, such as ["us'),
        ({"zones": []}, '`zones` is []: write a list of one or more names, such as ["us-central1-a",'),
        ({"zones": ["us-central1-a", 7]}, '`zones` is ["us-central1-a",7]: write a list of one or more names, such as '),
        ({"zones": [["us-central1-a"]]}, '`zones` is [["us-central1-a"]]: write a list of one or more names, such as '),
        ({"zones": ["us-central1-a", None]}, '`zones` is ["us-central1-a",null]: write a list of one or more names, such '),
        ({"max_attempts": 0}, "`max_attempts` is 0: write a whole number from 1 to 9999"),
        ({"max_attempts": "3"}, '`max_attempts` is "3": write a whole number from 1 to 9999'),
        ({"max_attempts": 2.5}, "`max_attempts` is 2.5: write a whole number from 1 to 9999"),
        ({"timeout": ["1h"]}, '`timeout` is ["1h"]: write a duration, such as 90s or 1h30m, or seconds as '),
        ({"timeout": 0}, "more than 0"),
        ({"timeout": "0s"}, "more than 0"),
        ({"timeout": -5}, "`timeout` is -5: write a duration, such as 90s or 1h30m, or seconds as a nu"),
        ({"timeout": ""}, '`timeout` is "": write a duration, such as 90s or 1h30m, or seconds as a nu'),
        ({"spot": "true"}, '`spot` is "true": write true or false'),
        ({"disk": 50}, "`disk` is 50: write a map, {…}"),
        ({"disk": {"size": 50}}, "unknown argument `disk.size`"),
        ({"disk": {"size_gb": 50.5}}, "`disk.size_gb` is 50.5: write a whole number of GB, such as 50"),
        ({"gpu": "nvidia-l4"}, '`gpu` is "nvidia-l4": write a map, {…}'),
        ({"gpu": {"count": 1}}, "`gpu` needs a type"),
        ({"gpu": {"type": "nvidia-l4", "count": 0}}, "`gpu.count` is 0: write a whole number from 1 to 9999"),
        ({"gpu": {"type": "nvidia-l4", "count": "1"}}, '`gpu.count` is "1": write a whole number from 1 to 9999'),
        ({"gpu": {}}, "`gpu` needs a type"),
        ({"network": "default"}, '`network` is "default": write a map, {…}'),
        ({"network": {"external_ip": "yes"}}, '`network.external_ip` is "yes": write true or false'),
        ({"network": {"subnet": "s"}}, "unknown argument `network.subnet`"),
        ({"labels": ["team=a"]}, '`labels` is ["team=a"]: write a map of texts, lower case, digits, - and _ a'),
        ({"service_account": {"email": "a"}}, '`service_account` is {"email":"a"}: write a text without spaces'),
        ({"silence": "10m"}, '`silence` is "10m": write a number of seconds, 0 or more'),
        ({"silence": -1}, "`silence` is -1: write a number of seconds, 0 or more"),
        ({"task_index": 0}, "`task_index` and `task_count` go together"),
        ({"task_count": 2}, "`task_index` and `task_count` go together"),
        ({"task_index": 2, "task_count": 2}, "`task_index` is 0 to `task_count` - 1"),
        ({"task_index": -1, "task_count": 2}, "`task_index` is -1: write a whole number from 0 on"),
        ({"brief": 1}, "`brief` is 1: write true or false"),
        ({"image": 7}, "`image` is 7: write a text without spaces"),
        ({"project": False}, "`project` is false: write a name in lower case, such as e2-standard-2 or us"),
    ],
)
def test_a_wrong_argument_is_an_error_before_there_is_a_vm(world: NewWorld, args: dict[str, Any], words: str) -> None:
    w = world()
    w.run(**args)
    assert words in w.error["message"]
    assert w.error["tags"] == ["InvalidArgument"]
    assert not w.cloud.compute.requests


@pytest.mark.parametrize("argument", [None, [], "docker run busybox", 7], ids=["no --data", "a list", "a string", "a number"])
def test_arguments_that_are_no_map_are_an_error_that_says_what_to_run(world: NewWorld, argument: Any) -> None:
    with pytest.raises(WorkflowError) as error:
        world().execution.run(argument)
    assert error.value.payload["tags"] == ["InvalidArgument"]
    assert "say what to run, --data=" in error.value.payload["message"]


def test_an_argument_of_null_is_one_that_is_not_there(world: NewWorld) -> None:
    w = world()
    names = ["agent", "machine_type", "zones", "timeout", "spot", "disk", "gpu", "network", "image", "labels", "silence", "brief"]
    names += ["max_attempts", "service_account", "image_family", "image_project", "project", "task_index", "task_count"]
    assert w.run(**dict.fromkeys(names))["state"] == "SUCCEEDED"
    w = world()
    parts = {"disk": {"size_gb": None, "type": None}, "network": {"network": None, "subnetwork": None, "external_ip": None}}
    w.run(**parts, agent={"url": None, "startup_script": "gs://b/s", "sha256": None})
    assert w.bodies()[0]["networkInterfaces"] == [{"network": "global/networks/default"}]
    assert w.bodies()[0]["disks"][0]["initializeParams"]["diskSizeGb"] == "20"


@pytest.mark.parametrize(
    "job",
    [
        {"container": "busybox"},
        {"container": {"image": "a", "env": ["A=1"]}},
        {"process": {"command": ["a"], "env": "A=1"}},
        {"retry": {"max_attempts": "two"}, "timeout": "1h"},
        {"retry": 3, "timeout": "1h"},
        {},
    ],
    ids=str,
)
def test_a_job_of_the_wrong_form_goes_to_the_agent_which_says_what_is_wrong(world: NewWorld, job: dict[str, Any]) -> None:
    w = world()
    w.run(job=job)
    assert {key: value for key, value in spec(w).items() if key != "on_finish"} == job


# What the job got wrong.


def test_a_job_that_fails_is_an_error_that_carries_the_report(world: NewWorld) -> None:
    w = world({"outcome": {**FAILED, "logs": {"head": "", "tail": "Traceback\nKeyError: 7\n"}}})
    result = w.run()
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert w.error["message"] == "the job ended as EXIT_CODE: the job exited with 3"
    assert (result["exit_code"], result["logs"]["tail"]) == (3, "Traceback\nKeyError: 7\n")
    assert len(w.bodies()) == 1, "another VM would not help"
    w.assert_no_vm_is_left()


def test_a_cancelled_job_says_so(world: NewWorld) -> None:
    w = world({"outcome": {"state": "CANCELLED", "cause": "CANCELLED", "exit_code": None, "message": "cancelled"}})
    w.run()
    assert w.error["tags"] == ["JobCancelled", "CANCELLED"]


def test_a_callback_that_is_no_report_is_an_error_and_the_vm_is_deleted(world: NewWorld) -> None:
    w = world({"outcome": None})
    boot = w.cloud.compute.boot

    def boot_and_call(instance: Any) -> Any:
        w.cloud.clock.after(30, lambda: w.cloud.post(instance.attributes()["callback-url"], "done"))
        return boot(instance)

    w.cloud.compute.boot = boot_and_call
    w.run()
    assert w.error["tags"] == ["BadReport"]
    w.assert_no_vm_is_left()


# Other zones, other VMs.


@pytest.mark.parametrize("code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"])
def test_zones_without_capacity_are_passed_over(world: NewWorld, code: str) -> None:
    w = world()
    w.cloud.compute.exhausted = {"z-a": code, "z-b": code}
    result = w.run(zones=["z-a", "z-b", "z-c"])
    assert result["workflow"]["attempts"][0]["zone"] == "z-c"
    w.assert_no_vm_is_left()


def test_no_capacity_anywhere_is_an_error_that_names_the_zones(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.exhausted = {"z-a": "ZONE_RESOURCE_POOL_EXHAUSTED", "z-b": "ZONE_RESOURCE_POOL_EXHAUSTED"}
    w.run(zones=["z-a", "z-b"])
    assert w.error["tags"] == ["NoCapacity"]
    assert "z-a" in w.error["message"]
    assert "does not have enough resources" in w.error["message"]


def test_an_insert_that_is_refused_for_another_reason_tries_no_other_zone(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [error(403, "forbidden", "Required 'compute.instances.create' permission")]
    w.run(zones=["z-a", "z-b"])
    assert w.error["code"] == 403
    assert w.calls("insert") == 1


def test_a_preempted_job_gets_a_new_vm_and_is_told_which(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    result = w.run(spot=True)
    assert [row["cause"] for row in result["workflow"]["attempts"]] == ["PREEMPTED", "NONE"]
    assert [context(w, n) for n in (0, 1)] == [
        {"vm_attempt": 1, "previous_cause": ""},
        {"vm_attempt": 2, "previous_cause": "PREEMPTED"},
    ]
    assert [body["labels"]["vmjob-attempt"] for body in w.bodies()] == ["1", "2"]
    urls = {instance.attributes()["callback-url"] for instance in w.cloud.compute.history}
    assert len(urls) == 2, "a late word of the first VM is not taken for the second's"
    w.assert_no_vm_is_left()


def test_there_are_no_more_vms_than_max_attempts(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED})
    result = w.run(max_attempts=4)
    assert [row["cause"] for row in result["workflow"]["attempts"]] == ["PREEMPTED"] * 4
    assert w.error["tags"] == ["JobFailed", "PREEMPTED"]
    w.assert_no_vm_is_left()


# VMs of which no callback comes.


def test_a_vm_that_vanishes_without_a_word_ends_the_wait_within_minutes(world: NewWorld) -> None:
    w = world({"outcome": None, "ends_after_s": 600, "ends_as": "GONE"})
    result = w.run(max_attempts=1)
    assert (result["cause"], result["reported_by"], result["exit_code"]) == ("VM_GONE", "workflow", None)
    assert w.seconds < 600 + 5 * 60
    assert result["workflow"]["warnings"] == [], "that there is nothing to delete is no problem"
    w.assert_no_vm_is_left()


def test_a_vm_that_vanished_is_replaced(world: NewWorld) -> None:
    w = world({"outcome": None, "ends_after_s": 600, "ends_as": "GONE"}, {})
    result = w.run()
    assert [row["cause"] for row in result["workflow"]["attempts"]] == ["VM_GONE", "NONE"]


def test_a_vm_that_ended_at_its_max_run_duration_is_not_replaced(world: NewWorld) -> None:
    """A command line has no timeout that the agent could keep, and another VM would take as long."""
    w = world({"outcome": None, "ends_after_s": 600 + 1800 + 3600, "ends_as": "GONE"})
    result = w.run(job="docker run busybox sleep 9999999", timeout="10m")
    assert (result["cause"], result["retryable"], len(w.bodies())) == ("TIMEOUT", False, 1)
    assert "maxRunDuration of 6000 s" in result["message"]


@pytest.mark.parametrize("status", ["GONE", "TERMINATED", "STOPPED"])
def test_a_vm_that_ended_after_it_said_preempted_was_preempted(world: NewWorld, status: str) -> None:
    """The agent could send no report in its last seconds; what it wrote at the notice tells why the VM ended."""
    ended = {"outcome": None, "states": {590.0: "PREEMPTED"}, "ends_after_s": 720, "ends_as": status}
    w = world(ended, {"ends_after_s": 720, "ends_as": status, "outcome": None}, {})
    result = w.run(zones=["us-central1-a", "us-central1-b"])
    causes = [row["cause"] for row in result["workflow"]["attempts"]]
    assert causes == ["PREEMPTED", "VM_GONE" if status == "GONE" else "VM_STOPPED", "NONE"]
    assert [i.zone for i in w.cloud.compute.history][:2] == ["us-central1-a", "us-central1-b"], "the zone goes to the end"
    assert context(w, 1)["previous_cause"] == "PREEMPTED"
    w = world(ended)
    result = w.run(max_attempts=1)
    assert (result["cause"], result["retryable"], result["fault"]) == ("PREEMPTED", True, "vm")
    told = f"the guest attribute vmjob/state was PREEMPTED when it was last read; now the VM is {status}"
    assert result["evidence"][-1] == told
    assert w.seconds < 720 + 4 * 60
    w.assert_no_vm_is_left()


def test_the_last_state_counts_and_a_silent_vm_was_not_preempted(world: NewWorld) -> None:
    w = world({"outcome": None, "states": {120.0: "PREEMPTED", 300.0: "RUNNING"}, "ends_after_s": 900, "ends_as": "STOPPED"})
    assert w.run(max_attempts=1)["cause"] == "VM_STOPPED"
    w = world({"outcome": None, "states": {120.0: "PREEMPTED"}, "silent_after_s": 300})
    assert w.run(max_attempts=1)["cause"] == "AGENT_SILENT"
    w = world({"outcome": None, "states": {120.0: "VM_SHUTDOWN"}, "ends_after_s": 300})
    assert w.run(max_attempts=1)["cause"] == "VM_STOPPED"


def test_a_vm_whose_notice_was_seen_is_looked_at_every_minute_until_it_is_gone(world: NewWorld) -> None:
    w = world({"outcome": None, "states": {DAY: "PREEMPTED"}, "ends_after_s": DAY + 4000, "ends_as": "GONE"})
    assert w.run(max_attempts=1)["cause"] == "PREEMPTED"
    assert w.seconds < DAY + 4000 + 3 * 60


@pytest.mark.parametrize("status", ["TERMINATED", "STOPPED", "SUSPENDED"])
def test_a_vm_that_was_stopped_ends_the_wait(world: NewWorld, status: str) -> None:
    w = world({"outcome": None, "ends_after_s": 300, "ends_as": status})
    result = w.run(max_attempts=1)
    assert result["cause"] == "VM_STOPPED"
    assert status in result["message"]
    assert w.seconds < 300 + 5 * 60
    w.assert_no_vm_is_left()


@pytest.mark.parametrize("sees", [True, False], ids=["with heartbeats", "without guest attributes"])
@pytest.mark.parametrize("status", ["STOPPING", "SUSPENDING", "REPAIRING", "PENDING_STOP"])
def test_a_vm_that_neither_runs_nor_ends_is_given_up_after_two_hours(world: NewWorld, status: str, sees: bool) -> None:
    w = world({"outcome": None, "ends_after_s": 300, "ends_as": status}, {})
    result = w.run(guest_attributes=sees, silence=0)
    assert [row["cause"] for row in result["workflow"]["attempts"]] == ["VM_STOPPED", "NONE"]
    assert 7200 <= w.seconds < 7200 + 3600
    assert w.execution.steps < 1800
    w.assert_no_vm_is_left()


def test_a_vm_that_is_repaired_in_time_goes_on(world: NewWorld) -> None:
    w = world({"run_s": 4 * 3600})
    boot = w.cloud.compute.boot

    def booted(instance: Any) -> Any:
        vm = boot(instance)
        beat = vm.guest_attribute
        out = lambda: 600 < vm.age() < 600 + 6000 or 9000 < vm.age() < 9000 + 3000  # noqa: E731
        vm.guest_attribute = lambda key: "beat" if out() else beat(key)
        vm.status = lambda: "REPAIRING" if out() else "RUNNING"
        return vm

    w.cloud.compute.boot = booted
    assert w.run()["state"] == "SUCCEEDED"


def test_an_agent_that_falls_silent_ends_the_wait(world: NewWorld) -> None:
    w = world({"outcome": None, "silent_after_s": 900, "serial": "Out of memory: Killed process 1 (vmjob-agent)\n"})
    result = w.run(max_attempts=1)
    assert result["cause"] == "AGENT_SILENT"
    assert "Killed process" in result["evidence"][0]
    assert 900 + 600 <= w.seconds < 900 + 600 + 8 * 60


@pytest.mark.parametrize(
    "serial",
    [
        "startup-script-url: exit status 1\n",
        "agent download failed: 404 Not Found: gs://b/vmjob-agent\n",
    ],
    ids=["the startup script fails", "the agent is not where it should be"],
)
def test_an_agent_that_never_starts_is_found_out_once_with_the_console_as_evidence(world: NewWorld, serial: str) -> None:
    w = world({"starts": False, "serial": "boot\n" * 5000 + serial})
    result = w.run()
    assert result["cause"] == "AGENT_NEVER_STARTED"
    assert result["evidence"][0].endswith(serial)
    assert len(w.bodies()) == 1, "another VM would not find its agent either"
    assert w.seconds < 600 + 5 * 60
    w.assert_no_vm_is_left()


def test_a_long_job_may_be_silent_for_as_long_as_the_caller_says(world: NewWorld) -> None:
    w = world({"run_s": 2 * 3600, "silent_after_s": 60})
    w.cloud.compute.boot = hoarse(w.cloud.compute.boot)
    assert w.run(silence=0)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("code", [403, 412], ids=["not permitted", "forbidden by the organisation"])
def test_guest_attributes_that_cannot_be_read_are_no_sign_of_death(world: NewWorld, code: int) -> None:
    w = world({"run_s": 3 * 3600})
    w.cloud.compute.answers["get_guest_attributes"] = [error(code, "forbidden", "no")] * 1000
    assert w.run()["state"] == "SUCCEEDED"


def test_an_answer_that_is_none_is_no_sign_of_death(world: NewWorld) -> None:
    w = world({"run_s": 3600})
    w.cloud.compute.answers["get_guest_attributes"] = [(200, "<html>sign in</html>")] * 100
    assert w.run()["state"] == "SUCCEEDED"


def test_an_api_that_is_down_for_a_while_ends_no_wait(world: NewWorld) -> None:
    w = world({"run_s": 3600})
    down = [error(503, "backendError", "Backend Error")] * 40
    w.cloud.compute.answers = {"get_guest_attributes": list(down), "get": list(down)}
    assert w.run()["state"] == "SUCCEEDED"


# Reports that come another way.


def test_a_report_that_cannot_be_posted_is_read_from_the_guest_attributes(world: NewWorld) -> None:
    w = world({"posts": False})
    assert w.run()["state"] == "SUCCEEDED"
    assert w.seconds < 300 + 5 * 60


def test_a_report_on_the_serial_console_is_better_than_none(world: NewWorld) -> None:
    w = world({"outcome": None, "guest_attributes": False, "ends_after_s": 400})
    boot = w.cloud.compute.boot

    def booted(instance: Any) -> Any:
        vm = boot(instance)
        line = json.dumps(report(instance, **FAILED, logs={"tail": "x" * 60_000 + "\nlast line\n"}))
        vm.serial = f"[ 1.0] boot\n{'noise ' * 40_000}\n[ 9.0] vmjob-agent[7]: vmjob-report {line}\r\n[ 9.1] reboot: Power down\n"
        return vm

    w.cloud.compute.boot = booted
    result = w.run()
    assert (result["cause"], result["exit_code"]) == ("EXIT_CODE", 3)
    assert result["logs"]["tail"].endswith("last line\n")


def test_a_report_torn_by_the_kernel_is_no_report(world: NewWorld) -> None:
    torn = 'vmjob-report {"state": "SUCC[ 12.0] eth0: link down\nEEDED"}\n'
    w = world({"outcome": None, "ends_after_s": 400, "serial": torn})
    assert w.run(max_attempts=1)["cause"] == "VM_STOPPED"


def test_a_callback_that_is_faster_than_the_workflow_is_not_lost(world: NewWorld) -> None:
    """It comes while the insert is still waited for."""
    w = world()
    boot = w.cloud.compute.boot

    def boot_and_call(instance: Any) -> Any:
        status = w.cloud.post(instance.attributes()["callback-url"], report(instance))
        assert status == 200
        return boot(instance)

    w.cloud.compute.boot = boot_and_call
    assert w.run()["state"] == "SUCCEEDED"
    assert w.execution.callback_waits == 1


def test_a_callback_in_the_last_moment_counts_more_than_a_vm_that_is_gone(world: NewWorld) -> None:
    """A Spot VM reports its preemption and is gone at once."""
    w = world({"outcome": PREEMPTED, "run_s": 400, "ends_after_s": 401, "ends_as": "GONE"}, {})
    assert [row["cause"] for row in w.run(spot=True)["workflow"]["attempts"]] == ["PREEMPTED", "NONE"]


def test_a_callback_that_comes_while_the_workflow_looks_at_the_vm_is_not_lost(world: NewWorld) -> None:
    """The VM reports, and is gone before the workflow asks for it."""
    w = world({"outcome": None, "ends_after_s": 290, "ends_as": "GONE"})
    get = w.cloud.compute.get

    def last_words(**request: Any) -> Any:
        (instance,) = w.cloud.compute.history
        if request["zone"] and w.cloud.clock.now() - 1_800_000_000 > 330:
            w.cloud.post(instance.attributes()["callback-url"], report(instance, **FAILED))
        return get(**request)

    w.cloud.compute.get = last_words  # type: ignore[method-assign]
    assert w.run()["cause"] == "EXIT_CODE"
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]


def test_a_vm_that_is_stopping_is_given_the_time_to_report(world: NewWorld) -> None:
    w = world({"outcome": {**PREEMPTED, "cause": "VM_SHUTDOWN"}, "run_s": 460}, {})
    boot = w.cloud.compute.boot

    def booted(instance: Any) -> Any:
        vm = boot(instance)
        if len(w.cloud.compute.history) == 0:
            vm.status = lambda: "STOPPING" if vm.age() > 350 else "RUNNING"
            vm.guest_attribute = lambda _key: "the same heartbeat as ever"
        return vm

    w.cloud.compute.boot = booted
    result = w.run()
    assert [row["cause"] for row in result["workflow"]["attempts"]] == ["VM_SHUTDOWN", "NONE"]


# The end of the VM.


def test_a_vm_that_cannot_be_deleted_costs_no_report(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["delete"] = [error(403, "forbidden", "Required 'compute.instances.delete' permission")]
    result = w.run()
    assert result["state"] == "SUCCEEDED"
    assert "could not be deleted" in result["workflow"]["warnings"][0]


def test_a_vm_that_was_left_behind_is_told_of_though_another_succeeded(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    w.cloud.compute.answers["delete"] = [error(403, "forbidden", "no")]
    (warning,) = w.run(spot=True)["workflow"]["warnings"]
    assert w.bodies()[0]["name"] in warning


def test_a_delete_that_fails_for_a_moment_is_tried_again(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["delete"] = [error(409, "resourceInUseByAnotherResource", "busy"), error(500, "e", "e")]
    assert w.run()["workflow"]["warnings"] == []
    w.assert_no_vm_is_left()


def test_an_error_in_the_wait_deletes_the_vm(world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Execution, url: str, timeout: float) -> Any:  # noqa: ARG001
        raise ValueError("broken")

    monkeypatch.setattr(Execution, "await_callback", broken)
    w = world()
    w.run()
    assert w.error["message"] == "failed to wait for the report: broken"
    w.assert_no_vm_is_left()


@pytest.mark.parametrize("failure", [(ConnectionError, "reset"), (503, "HttpError")], ids=str)
def test_a_wait_that_fails_for_a_moment_is_taken_up_again(world: NewWorld, failure: Any) -> None:
    w = world({"run_s": 4 * 3600})
    await_callback, waits = w.cloud.await_callback, itertools.count()

    def shaky(url: str, timeout: float) -> Any:
        if next(waits) % 3:
            if failure[0] is ConnectionError:
                raise ConnectionError("reset")
            raise WorkflowError(message="unavailable", code=503, tags=["HttpError"])
        return await_callback(url, timeout)

    w.cloud.await_callback = shaky  # type: ignore[method-assign]
    result = w.run(max_attempts=1)
    assert (result["state"], len(w.bodies())) == ("SUCCEEDED", 1)


def test_an_endpoint_that_cannot_be_made_is_an_error_that_tells_of_the_vms_before(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED})
    w.cloud.compute.answers["delete"] = [error(403, "forbidden", "no")]
    create_endpoint = w.cloud.create_endpoint

    def once(*args: Any) -> str:
        if w.cloud.compute.history:
            raise ValueError("no endpoint")
        return create_endpoint(*args)

    w.cloud.create_endpoint = once  # type: ignore[method-assign]
    w.run()
    assert w.error["message"].startswith("failed to make a callback endpoint: no endpoint; warning · the VM ")
    assert w.error["attempts"][0]["cause"] == "PREEMPTED"


def test_a_log_that_may_not_be_written_costs_no_row(world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise WorkflowError(message="PERMISSION_DENIED: logging.logEntries.create", tags=["SystemError"])

    monkeypatch.setitem(stdlib.CALLS, "sys.log", refused)
    row = world().run(brief=True)
    assert row["state"] == "SUCCEEDED"
    assert "logging.logEntries.create" in row["warnings"][0]


def test_a_cancelled_execution_leaves_a_vm_that_ends_by_itself(world: NewWorld) -> None:
    """Workflows runs no step of a cancelled execution; so the VM has to have been told before."""
    w = world({"run_s": 3600})
    w.execution.cancel = lambda: w.cloud.clock.now() > 1_800_000_000 + 600
    with pytest.raises(Cancelled):
        w.run(timeout="2h")
    (body,) = w.bodies()
    assert int(body["scheduling"]["maxRunDuration"]["seconds"]) == 7200 + 1800 + 3600
    assert body["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert spec(w)["on_finish"] == "poweroff"
    assert w.cloud.post(w.cloud.compute.history[0].attributes()["callback-url"], {}) == 404


# Long jobs.


@pytest.mark.parametrize(
    ("timeout", "max_run_s"),
    [
        (None, 120 * DAY),
        (60, 60 + 1800 + 3600),
        ("1h30m", 5400 + 1800 + 3600),
        ("36h", 36 * 3600 + 1800 + 12_960),
        ("30d", 30 * DAY + 1800 + DAY),
        ("119.5d", 120 * DAY),
        ("120d", None),
        ("300d", None),
    ],
)
def test_max_run_duration_leaves_room_for_a_late_report_and_ends_at_120_days(
    world: NewWorld, timeout: Any, max_run_s: int | None
) -> None:
    w = world()
    result = w.run(**({"timeout": timeout} if timeout else {}))
    scheduling = w.bodies()[0]["scheduling"]
    if max_run_s:
        assert scheduling["maxRunDuration"] == {"seconds": str(max_run_s)}
        assert result["workflow"]["warnings"] == []
    else:
        assert "maxRunDuration" not in scheduling
        assert "instanceTerminationAction" not in scheduling
        assert "longer than 120 days" in result["workflow"]["warnings"][0]


def test_the_timeout_in_the_job_counts_more_than_the_argument_and_for_each_run_in_the_vm(world: NewWorld) -> None:
    w = world()
    w.run(job={**JOB, "timeout": "1h", "retry": {"max_attempts": 3, "on": ["VM_REBOOTED"]}}, timeout="9h")
    assert w.bodies()[0]["scheduling"]["maxRunDuration"] == {"seconds": str(3 * 3600 + 1800 + 3600)}
    assert spec(w)["timeout"] == "1h"


@pytest.mark.parametrize("can_see", [True, False], ids=["with heartbeats", "without guest attributes"])
def test_three_hundred_days_are_less_than_100000_steps(world: NewWorld, can_see: bool) -> None:
    w = world({"run_s": 300 * DAY})
    w.execution.measure_memory = False
    if not can_see:
        w.cloud.compute.answers["get_guest_attributes"] = [error(403, "forbidden", "no")] * 100_000
    assert w.run(timeout="300d")["state"] == "SUCCEEDED"
    assert w.seconds > 300 * DAY
    assert w.execution.steps < 0.9 * limits.STEPS
    print(f"300 days: {w.execution.steps} steps, {w.execution.callback_waits} waits, {w.execution.api_calls} calls")


def test_the_watch_grows_from_minutes_to_less_than_an_hour(world: NewWorld) -> None:
    waits: list[tuple[float, float]] = []
    w = world({"run_s": 10 * DAY})
    began = w.cloud.clock.now()
    await_callback = w.cloud.await_callback

    def noted(url: str, timeout: float) -> Any:
        waits.append((w.cloud.clock.now() - began, timeout))
        return await_callback(url, timeout)

    w.cloud.await_callback = noted  # type: ignore[method-assign]
    w.run()
    assert waits[0][1] == 60
    assert all(later >= earlier for (_, earlier), (_, later) in itertools.pairwise(waits))
    assert all(timeout <= max(60, age / 12) for age, timeout in waits)
    # The agent tries for an hour, and a look lies in each hour.
    assert waits[-1][1] == 3300


def test_the_largest_report_and_the_largest_job_fit_the_memory(world: NewWorld) -> None:
    largest = {"outcome": {**FAILED, "logs": {"tail": "x" * 60_000}}, "posts": False, "serial": "x" * (1 << 20)}
    w = world(largest)
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "a", "env": {"DATA": "x" * 65_000}}}
    w.run(job="gs://b/job.json", max_attempts=1)
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert w.execution.peak_bytes < 0.9 * limits.VARIABLES_BYTES
    print(f"largest job and report: {w.execution.peak_bytes} bytes of variables at most")


def test_what_a_short_job_costs(world: NewWorld) -> None:
    """They are billed: so they are counted, and a change that makes them many more is seen."""
    w = world({"run_s": 20.0})
    w.run(agent={"startup_script": "gs://b/s", "url": "gs://b/a", "sha256": "ab" * 32})
    assert w.execution.steps <= 72
    assert w.execution.api_calls <= 9
    print(f"a job of a minute: {w.execution.steps} steps, {w.execution.api_calls} calls, {w.execution.polls} of them polls")
    today = world({"run_s": 20.0})
    today.execution = Execution(today.cloud, "shell-way", Path(__file__).parent)
    today.run()
    today.assert_no_vm_is_left()
    counts = f"{today.execution.steps} steps, {today.execution.api_calls} calls, {today.execution.polls} of them polls"
    print(f"the same the shell way, if nothing fails: {counts}")
