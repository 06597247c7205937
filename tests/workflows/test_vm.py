"""The VM that run-job.yaml asks for: the arguments `vm`, `disks`, `gpu`, `spot_notice`, `keep_vm_on_failure` and their like, what
the agent is told, and the labels by which a VM is found."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import JOB, World
from driver import limits
from driver.compute import error, not_found
from driver.execution import Cancelled, Execution

NewWorld = Callable[..., World]
PREEMPTED = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True, "fault": "vm"}
FAILED = {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "the job exited with 3", "retryable": False}
TEMPLATE = "projects/p/global/instanceTemplates/t"
PARENT = "projects/p/locations/l/workflows/run-array/executions/0-1"
ZONES = ["us-a1-a", "us-a1-b"]


def attributes(w: World, number: int = 0) -> dict[str, str]:
    return w.cloud.compute.history[number].attributes()


def spec(w: World) -> dict[str, Any]:
    return json.loads(attributes(w)["job-spec"])


# Labels, and what the agent is told beside the job.


def test_every_vm_has_the_labels_by_which_it_is_found(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    w.run(labels={"team": "ml"})
    expected = {
        "team": "ml",
        "vmjob": "true",
        "vmjob-workflow": "run-job",
        "vmjob-location": "europe-west1",
        "vmjob-execution": w.execution.execution_id,
    }
    assert [body["labels"] for body in w.bodies()] == [{**expected, "vmjob-attempt": number} for number in ("1", "2")]


@pytest.mark.parametrize("name", ["Run-Job", "r" * 64])
def test_a_workflow_whose_name_is_no_label_is_an_error(world: NewWorld, name: str) -> None:
    w = world()
    w.execution = Execution(w.cloud, name=name)
    w.run()
    assert w.error["tags"] == ["InvalidArgument"]
    assert f"not {name}" in w.error["message"]


def test_the_agent_is_told_the_item_and_the_executions_above(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    item = {"lr": "0.1", "depth": 3, "deep": True, "text": 'a "b", {c}\n'}
    w.run(item=item, parents=[PARENT, PARENT + "x"])
    contexts = [json.loads(attributes(w, n)["job-context"]) for n in (0, 1)]
    assert contexts == [
        {"vm_attempt": 1, "previous_cause": "", "item": item},
        {"vm_attempt": 2, "previous_cause": "PREEMPTED", "item": item},
    ]
    assert attributes(w)["execution-parents"] == f"{PARENT},{PARENT}x"


def test_without_parents_there_is_no_attribute_of_them(world: NewWorld) -> None:
    for args in ({}, {"parents": []}, {"parents": None}):
        w = world()
        w.run(**args)
        assert "execution-parents" not in attributes(w)


# Disks.


def test_disks_are_attached_and_those_with_a_place_are_the_jobs(world: NewWorld) -> None:
    w = world()
    w.run(
        zones=["us-a1-a"],
        disks=[
            {"local_ssd": 1, "at": "/scratch"},
            {"local_ssd": 2},
            {"name": "data", "size_gb": 500, "type": "hyperdisk-balanced", "at": "/data"},
            {"name": "ref", "source": "projects/p/zones/us-a1-a/disks/ref", "read_only": True, "at": "/ref"},
            {"name": "old", "snapshot": "projects/p/global/snapshots/s"},
        ],
    )
    (body,) = w.bodies()
    boot, *others = body["disks"]
    assert boot["boot"] is True
    ssd = {
        "type": "SCRATCH",
        "autoDelete": True,
        "interface": "NVME",
        "initializeParams": {"diskType": "zones/us-a1-a/diskTypes/local-ssd"},
    }
    assert others == [
        ssd,
        ssd,
        ssd,
        {
            "deviceName": "data",
            "autoDelete": True,
            "initializeParams": {
                "diskName": body["name"] + "-data",
                "diskSizeGb": "500",
                "diskType": "zones/us-a1-a/diskTypes/hyperdisk-balanced",
            },
        },
        {"deviceName": "ref", "autoDelete": False, "source": "projects/p/zones/us-a1-a/disks/ref", "mode": "READ_ONLY"},
        {
            "deviceName": "old",
            "autoDelete": True,
            "initializeParams": {"diskName": body["name"] + "-old", "sourceSnapshot": "projects/p/global/snapshots/s"},
        },
    ]
    assert len(body["name"] + "-" + "x" * 20) <= 63
    assert spec(w)["disks"] == [
        {"device": "local-nvme-ssd-0", "target": "/scratch"},
        {"device": "data", "target": "/data"},
        {"device": "ref", "target": "/ref", "read_only": True},
    ]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([{"device": "mine", "target": "/mine"}], ["mine", "data"]),
        ([], ["data"]),
        (None, ["data"]),
        # The agent says what is wrong with it.
        ("none", "none"),
    ],
)
@pytest.mark.parametrize("form", ["a job-spec", "a line"])
def test_they_come_after_the_jobs_own(world: NewWorld, own: Any, expected: Any, form: str) -> None:
    w = world()
    job = {"docker_command": "docker run busybox"} if form == "a line" else JOB
    w.run(job={**job, "disks": own}, disks=[{"name": "data", "size_gb": 10, "at": "/data"}])
    found = spec(w)["disks"]
    assert (found if isinstance(found, str) else [disk["device"] for disk in found]) == expected


def test_every_zone_gets_disks_of_its_own(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.exhausted = {ZONES[0]: "ZONE_RESOURCE_POOL_EXHAUSTED"}
    w.run(zones=ZONES, disks=[{"name": "data", "size_gb": "10", "type": "pd-ssd"}, {"local_ssd": 1}])
    text = json.dumps(w.bodies())
    assert f"zones/{ZONES[1]}/diskTypes/pd-ssd" in text
    assert f"zones/{ZONES[1]}/diskTypes/local-ssd" in text
    assert ZONES[0] not in text


@pytest.mark.parametrize(
    ("source", "args", "zone"),
    [
        ("projects/p/zones/us-a1-c/disks/d", {}, "us-a1-c"),
        ("projects/p/regions/us-b1/disks/d", {}, "us-b1-b"),
        ("projects/p/zones/us-a1-b/disks/d", {"zones": ["us-a1-a", "us-a1-b"]}, "us-a1-b"),
        ("projects/p/regions/us-a1/disks/d", {"zones": ["us-a12-a", "us-b1-a", "us-a1-d"]}, "us-a1-d"),
        ("projects/p/zones/us-a1-b/disks/d", {"region": "us-a1"}, "us-a1-b"),
        ("projects/p/zones/us-a1-b/disks/d", {"placements": [{"zones": ["us-b1-b"]}, {"zones": ZONES}]}, "us-a1-b"),
    ],
)
def test_a_source_restricts_the_zones_to_its_own(world: NewWorld, source: str, args: dict[str, Any], zone: str) -> None:
    w = world()
    w.cloud.compute.regions = {"us-a1": ZONES}
    result = w.run(disks=[{"name": "d", "source": source}], **args)
    assert [row["zone"] for row in result["workflow"]["attempts"]] == [zone]
    assert w.calls("insert") == 1


def test_a_source_where_no_vm_may_be_made_is_an_error(world: NewWorld) -> None:
    w = world()
    w.run(zones=ZONES, disks=[{"name": "d", "source": "projects/p/zones/us-b1-a/disks/d"}], wait_for_capacity="1h")
    assert w.error["tags"] == ["InvalidArgument"]
    assert "a source of `disks` is in us-b1-a" in w.error["message"]


SOURCE = "projects/p/zones/us-a1-a/disks/d"


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        ("data", "`disks[0]` is of type string: write a map"),
        ({}, "`disks[0]` has no name"),
        ({"size_gb": 10}, "`disks[0]` has no name"),
        ({"name": "data"}, "`disks[0]` needs `size_gb`, `source` or `snapshot`"),
        ({"name": "data", "type": "pd-ssd"}, "`disks[0]` needs `size_gb`"),
        ({"name": "Data", "size_gb": 10}, '`disks[0].name` is "Data": write a name of at most 20 characters'),
        ({"name": "d" * 21, "size_gb": 10}, "write a name of at most 20 characters"),
        ({"name": "data", "size_gb": -1}, "`disks[0].size_gb` is -1: write a whole number of GB"),
        ({"name": "data", "size_gb": 10, "at": "data"}, '`disks[0].at` is "data": write a path in the job, such as /data'),
        ({"name": "data", "source": "ref"}, '`disks[0].source` is "ref": write a disk that is there'),
        ({"name": "data", "source": SOURCE, "size_gb": 10}, "`disks[0]`: a `source` takes no size_gb"),
        ({"name": "data", "source": SOURCE, "snapshot": "s"}, "`disks[0]`: a `source` takes no size_gb"),
        ({"local_ssd": 0}, "`disks[0].local_ssd` is 0: write a whole number from 1"),
        ({"local_ssd": 1, "name": "a"}, "`disks[0]`: a local SSD takes `local_ssd` and `at` only"),
        ({"local_ssd": 2, "at": "/a"}, "`disks[0]`: with `at`, write an entry for each local SSD"),
        ({"device": "data"}, "unknown argument `disks[0].device`"),
    ],
    ids=str,
)
def test_a_wrong_disk_is_an_error_that_says_what_to_write(world: NewWorld, disk: Any, words: str) -> None:
    w = world()
    w.run(disks=[disk])
    assert w.error["tags"] == ["InvalidArgument"]
    assert words in w.error["message"]
    assert not w.cloud.compute.requests


def test_disks_that_no_zone_has_together_are_an_error(world: NewWorld) -> None:
    w = world()
    disks = [{"name": f"d{n}", "source": f"projects/p/zones/us-a1-{n}/disks/d"} for n in "ab"]
    w.run(disks=disks)
    assert w.error["message"] == "no zone has all sources of `disks`: they are in us-a1-a us-a1-b"
    w = world()
    disks[1]["source"] = "projects/p/regions/us-a1/disks/d"
    assert [row["zone"] for row in w.run(disks=disks)["workflow"]["attempts"]] == ["us-a1-a"]
    w = world()
    assert [row["zone"] for row in w.run(disks=disks[::-1])["workflow"]["attempts"]] == ["us-a1-a"]


# GPUs, tags, guest attributes.


def test_the_gpus_driver_is_told_to_the_agent(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    w.run(
        machine_type="g2-standard-4",
        gpu={"driver": "550.90.07"},
        placements=[{"attempts": 1}, {"machine_type": "n1-standard-4", "gpu": {"type": "nvidia-tesla-t4", "driver": "none"}}],
    )
    assert [attributes(w, n)["gpu-driver"] for n in (0, 1)] == ["550.90.07", "none"]
    assert ["guestAccelerators" in body for body in w.bodies()] == [False, True]
    w = world()
    w.run(machine_type="g2-standard-4")
    assert "gpu-driver" not in attributes(w)


def test_a_network_with_tags(world: NewWorld) -> None:
    w = world()
    w.run(network={"tags": ["batch", "no-ssh"]})
    assert w.bodies()[0]["tags"] == {"items": ["batch", "no-ssh"]}
    assert w.bodies()[0]["networkInterfaces"] == [{"network": "global/networks/default"}]


def test_without_guest_attributes_silence_means_nothing_and_the_status_is_looked_at(world: NewWorld) -> None:
    w = world({"guest_attributes": False, "run_s": 4 * 3600})
    assert w.run(guest_attributes=False)["state"] == "SUCCEEDED"
    assert "enable-guest-attributes" not in attributes(w)
    w = world({"guest_attributes": False, "outcome": None, "ends_after_s": 600, "ends_as": "GONE"})
    assert w.run(guest_attributes=False, max_attempts=1)["cause"] == "VM_GONE"
    assert w.seconds < 600 + 5 * 60


# The notice of a preemption.


def test_spot_vms_are_asked_for_with_the_longer_notice(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {})
    w.run(spot_notice="120s", placements=[{"spot": True, "attempts": 1}, {"spot": False}])
    spot, standard = w.bodies()
    assert spot["scheduling"]["preemptionNoticeDuration"] == {"seconds": "120"}
    assert attributes(w, 0)["preemption-notice"] == "150s"
    assert "preemptionNoticeDuration" not in standard["scheduling"]
    assert "preemption-notice" not in attributes(w, 1)


@pytest.mark.parametrize("notice", [0, "0s", None])
def test_no_notice_is_the_default(world: NewWorld, notice: Any) -> None:
    w = world()
    w.run(spot=True, spot_notice=notice)
    assert "preemptionNoticeDuration" not in w.bodies()[0]["scheduling"]
    assert "preemption-notice" not in attributes(w)


REFUSED = error(400, "invalid", "Invalid value for field 'resource.scheduling.preemptionNoticeDuration': not allowed here.")


def test_where_the_notice_is_refused_the_vm_is_made_without_it_and_the_agent_knows(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [REFUSED]
    result = w.run(spot=True, spot_notice=120, zones=ZONES)
    assert result["workflow"]["attempts"][0]["zone"] == ZONES[0]
    assert "preemptionNoticeDuration" not in w.bodies()[0]["scheduling"]
    assert attributes(w)["preemption-notice"] == "30s"
    assert w.calls("insert") == 2
    w = world()
    w.cloud.compute.answers["insert"] = [REFUSED] * 9
    w.run(spot=True, spot_notice=120, zones=ZONES)
    assert w.error["tags"][0] == "VmNotMade"
    assert w.calls("insert") == 2


# A template, and any field of an Instance.

PROPERTIES = {
    "machineType": "n2-standard-8",
    "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": "projects/p/global/images/own"}}],
    "networkInterfaces": [{"subnetwork": "regions/us-a1/subnetworks/own"}],
    "serviceAccounts": [{"email": "own@p.iam.gserviceaccount.com", "scopes": ["cloud-platform"]}],
    "tags": {"items": ["own"]},
    "shieldedInstanceConfig": {"enableSecureBoot": True},
}


def of_template(world: World, **args: Any) -> dict[str, Any]:
    world.cloud.compute.templates[TEMPLATE] = PROPERTIES
    world.run(vm={"template": TEMPLATE}, **args)
    return world.bodies()[0]


def test_of_a_template_comes_what_no_argument_names(world: NewWorld) -> None:
    w = world()
    body = of_template(w)
    for key in set(PROPERTIES) - {"machineType"}:
        assert body[key] == PROPERTIES[key]
    assert body["machineType"].endswith("/n2-standard-8")
    assert body["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert body["labels"]["vmjob-execution"] == w.execution.execution_id
    assert "job-spec" in attributes(w)
    assert w.calls("get_from_family") == 0


def test_what_an_argument_names_takes_the_place_of_the_templates(world: NewWorld) -> None:
    body = of_template(
        world(),
        machine_type="e2-small",
        disk={"size_gb": 30},
        network={"network": "global/networks/n", "tags": ["mine"]},
        service_account="me@p.iam.gserviceaccount.com",
    )
    assert body["machineType"].endswith("/e2-small")
    assert body["disks"][0]["initializeParams"]["diskSizeGb"] == "30"
    assert "cos-stable" in body["disks"][0]["initializeParams"]["sourceImage"]
    assert body["networkInterfaces"] == [{"network": "global/networks/n"}]
    assert body["tags"] == {"items": ["mine"]}
    assert body["serviceAccounts"][0]["email"] == "me@p.iam.gserviceaccount.com"


def test_a_template_that_is_not_there_is_an_error_that_names_it(world: NewWorld) -> None:
    w = world()
    w.run(vm={"template": TEMPLATE})
    assert w.error["tags"] == ["VmNotMade", "notFound"]
    assert TEMPLATE in w.error["message"]


def test_a_template_of_a_gpu_machine_is_made_though_its_type_is_not_known_here(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.templates[TEMPLATE] = {**PROPERTIES, "machineType": "g2-standard-4"}
    w.run(vm={"template": TEMPLATE})
    assert w.bodies()[0]["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert w.calls("insert") == 2


def test_overrides_are_merged_maps_by_key_and_lists_as_a_whole(world: NewWorld) -> None:
    w = world()
    interface = {"network": "global/networks/default", "nicType": "GVNIC"}
    overrides = {
        "minCpuPlatform": "Intel Ice Lake",
        "scheduling": {"localSsdRecoveryTimeout": {"seconds": "3600"}},
        "networkInterfaces": [interface],
        "labels": {"team": "a"},
        "advancedMachineFeatures": {"threadsPerCore": 1},
    }
    w.run(vm={"overrides": overrides, "metadata": {"serial-port-enable": "true"}}, labels={"of": "mine"})
    (body,) = w.bodies()
    assert body["minCpuPlatform"] == "Intel Ice Lake"
    assert body["advancedMachineFeatures"] == {"threadsPerCore": 1}
    assert body["scheduling"]["localSsdRecoveryTimeout"] == {"seconds": "3600"}
    assert body["scheduling"]["provisioningModel"] == "STANDARD"
    assert "maxRunDuration" in body["scheduling"]
    assert body["networkInterfaces"] == [interface]
    assert (body["labels"]["team"], body["labels"]["of"], body["labels"]["vmjob"]) == ("a", "mine", "true")
    assert attributes(w)["serial-port-enable"] == "true"
    assert "job-spec" in attributes(w)


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        ({"metadata": {"callback-url": "https://a"}}, "`vm.metadata`: these names are reserved: callback-url"),
        ({"metadata": {"job-spec": "{}"}}, "`vm.metadata`: these names are reserved"),
        ({"metadata": {"enable-guest-attributes": "FALSE"}}, "`vm.metadata`: these names are reserved"),
        ({"metadata": {"a": 1}}, '`vm.metadata` is {"a":1}: write a map of texts'),
        ({"metadata": {"a b": "c"}}, "`vm.metadata` is"),
        ({"overrides": {"metadata": {"items": []}}}, "write `vm.metadata`"),
        ({"overrides": {"name": "mine"}}, "may set neither the name"),
        ({"overrides": {"scheduling": {"maxRunDuration": {"seconds": "60"}}}}, "may not say when the VM ends: write `timeout`"),
        ({"overrides": {"scheduling": {"instanceTerminationAction": "STOP"}}}, "may not say when the VM ends"),
        ({"overrides": {"scheduling": {"terminationTime": "2030-01-01T00:00:00Z"}}}, "may not say when the VM ends"),
        (
            {"overrides": {"labels": {"vmjob-execution": "mine"}}},
            "`vm.overrides.labels`: names that begin with vmjob are reserved",
        ),
        ({"template": "t"}, '`vm.template` is "t": write projects/P/global/instanceTemplates/T'),
        ({"overrides": []}, "`vm.overrides` is []: write a map"),
        ({"body": {}}, "unknown argument `vm.body`"),
    ],
    ids=str,
)
def test_what_the_promise_needs_is_an_error_to_set(world: NewWorld, vm: dict[str, Any], words: str) -> None:
    w = world()
    w.run(vm=vm)
    assert w.error["tags"] == ["InvalidArgument"]
    assert words in w.error["message"]
    assert not w.cloud.compute.requests


def test_an_override_that_is_no_field_of_an_instance_is_said_by_google(world: NewWorld) -> None:
    w = world()
    w.run(vm={"overrides": {"cpus": 4}})
    assert w.error["tags"][0] == "VmNotMade"
    assert "cpus" in w.error["message"]


# A VM that is kept.


def test_the_vm_of_the_last_failed_attempt_is_kept_and_the_others_are_deleted(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {"outcome": FAILED})
    w.run(keep_vm_on_failure="2h", timeout="1h")
    first, second = w.cloud.compute.history
    (kept,) = w.cloud.compute.instances.values()
    assert kept is second
    assert [attributes(w, n)["keep-on-failure"] for n in (0, 1)] == ["7200s", "7200s"]
    assert {body["scheduling"]["maxRunDuration"]["seconds"] for body in w.bodies()} == {str(3600 + 1800 + 3600 + 7200)}
    until = int(kept.body["labels"]["vmjob-keep-until"])
    assert 0 <= until - w.cloud.clock.now() - 7200 + 60 < 61
    assert kept.body["labels"]["vmjob-execution"] == w.execution.execution_id
    assert f"gcloud compute ssh {second.name} --zone={second.zone} --project=fake-project" in w.error["message"]
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert first.name not in str(w.error["warnings"])


@pytest.mark.parametrize(
    "outcome",
    [{}, {"state": "CANCELLED", "cause": "CANCELLED", "exit_code": None, "message": "cancelled"}],
    ids=["success", "cancel"],
)
def test_a_vm_whose_job_did_not_fail_is_not_kept(world: NewWorld, outcome: dict[str, Any]) -> None:
    w = world({"outcome": outcome})
    w.run(keep_vm_on_failure="2h")
    w.assert_no_vm_is_left()


def test_a_vm_that_is_gone_cannot_be_kept_and_one_that_sent_no_report_is_not(world: NewWorld) -> None:
    w = world({"outcome": None, "ends_after_s": 600, "ends_as": "GONE"})
    w.run(keep_vm_on_failure="2h", max_attempts=1)
    assert "could not be kept: it is gone" in w.error["warnings"][0]
    w = world({"outcome": {"state": 7}})
    w.run(keep_vm_on_failure="2h")
    assert w.error["tags"] == ["BadReport"]
    w.assert_no_vm_is_left()


def test_a_label_that_comes_too_soon_is_set_later_and_one_that_is_refused_is_told(world: NewWorld) -> None:
    w = world({"outcome": FAILED})
    w.cloud.compute.answers = {
        "set_labels": [error(403, "forbidden", "Required 'compute.instances.setLabels' permission")],
    }
    w.run(keep_vm_on_failure="2h")
    (kept,) = w.cloud.compute.instances.values()
    assert "vmjob-keep-until" not in kept.body["labels"]
    assert "kept, but without its label" in w.error["warnings"][0]
    assert "gcloud compute ssh" in w.error["message"]
    w = world({"outcome": FAILED})
    w.cloud.compute.answers = {
        "set_labels": [error(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")] * 3,
        "get": [(503, None)] * 9,
    }
    w.run(keep_vm_on_failure="2h")
    (kept,) = w.cloud.compute.instances.values()
    assert "vmjob-keep-until" in kept.body["labels"]


def test_a_row_of_an_array_tells_of_the_vm_that_is_kept(world: NewWorld) -> None:
    row = world({"outcome": FAILED}).run(keep_vm_on_failure=600, brief=True)
    assert "gcloud compute ssh" in row["warnings"][0]


# A plan.


def test_a_plan_returns_the_bodies_and_makes_nothing(world: NewWorld) -> None:
    args = {
        "zones": ZONES,
        "placements": [{"spot": True, "machine_types": ["n2-standard-2", "n2d-standard-2"], "attempts": 2}, {"spot": False}],
        "vm": {"overrides": {"minCpuPlatform": "x"}},
        "disks": [{"name": "data", "size_gb": 10}],
    }
    w = world()
    planned = w.run(plan=True, **args)
    assert w.error is None
    assert (w.calls("insert"), w.cloud.endpoints) == (0, {})
    assert [(row["rung"], row["zones"]) for row in planned["plan"]] == [("0", ZONES), ("0", ZONES), ("1", ZONES)]
    assert planned["omitted"] == 0
    sent = world({"outcome": PREEMPTED}, {"outcome": PREEMPTED}, {})
    sent.run(**args)
    own = {"callback-url", "job-context"}
    for row, body in ((planned["plan"][0], sent.bodies()[0]), (planned["plan"][2], sent.bodies()[2])):
        assert set(row["body"]) == set(body)
        assert row["body"]["scheduling"] == body["scheduling"]
        assert row["body"]["machineType"] == body["machineType"]
        items = [{i["key"]: i["value"] for i in b["metadata"]["items"] if i["key"] not in own} for b in (row["body"], body)]
        assert items[0] == items[1]


def test_a_plan_of_many_large_bodies_stays_within_the_memory(world: NewWorld) -> None:
    w = world()
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "a", "env": {"DATA": "x" * 65_000}}}
    planned = w.run(job="gs://b/job.json", plan=True, machine_types=[f"n2-standard-{n}" for n in range(2, 40)])
    assert len(planned["plan"]) + planned["omitted"] == 38
    assert planned["plan"]
    assert w.execution.peak_bytes < 0.9 * limits.VARIABLES_BYTES


# Wrong arguments.


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"item": {"a-b": "1"}}, '`item` is {"a-b":"1"}: write a map of texts, numbers, true and false'),
        ({"item": {"9a": "1"}}, "`item` is"),
        ({"item": {"a": [1]}}, "`item` is"),
        ({"item": {"a": None}}, "`item` is"),
        ({"item": {"a": {"b": 1}}}, "`item` is"),
        ({"parents": "projects/p"}, "`parents` is"),
        ({"parents": ["run-array"]}, "write a list of executions, projects/P/locations/L/workflows/W/executions/E"),
        ({"parents": [PARENT, PARENT + ",x"]}, "`parents` is"),
        ({"keep_vm_on_failure": -1}, "`keep_vm_on_failure` is -1: write a duration"),
        ({"keep_vm_on_failure": "301d"}, "`keep_vm_on_failure` is too long"),
        ({"wait_for_capacity": "400d"}, "`wait_for_capacity` is too long"),
        ({"spot_notice": "60s"}, '`spot_notice` is "60s": write "120s", or 0'),
        ({"guest_attributes": "no"}, '`guest_attributes` is "no": write true or false'),
        ({"plan": 1}, "`plan` is 1: write true or false"),
        ({"gpu": {"driver": "a b"}}, "`gpu.driver` is"),
        ({"gpu": {"driver": "latest", "count": 2}}, "`gpu` needs a type"),
        ({"gpu": {"type": "nvidia-l4", "count": -1}}, "`gpu.count` is -1: write a whole number"),
        ({"network": {"tags": []}}, "`network.tags` is []: write a list of one or more names"),
        ({"network": {"tags": ["A"]}}, "`network.tags` is"),
        ({"labels": {"Team": "a"}}, "`labels` is"),
        ({"labels": {"team": 1}}, "`labels` is"),
        ({"labels": {"team": "a" * 64}}, "`labels` is"),
        ({"labels": {"vmjob-execution": "a"}}, "`labels`: names that begin with vmjob are reserved"),
        ({"placements": [{"gpu": {"type": "nvidia-l4", "count": 0}}]}, "`placements[0].gpu.count` is 0"),
        ({"placements": [{"disk": {"size_gb": -5}}]}, "`placements[0].disk.size_gb` is -5"),
        ({"placements": [{"attempts": -1}]}, "`placements[0].attempts` is -1"),
        ({"placements": [{"usd_per_hour": -0.1}]}, "`placements[0].usd_per_hour` is -0.1"),
        ({"retry_rules": [{"on": ["OOM_KILLED"], "times": -1}]}, "`retry_rules[0].times` is -1"),
        ({"retry_rules": [{"on": ["OOM_KILLED"], "pause": -5}]}, "`retry_rules[0].pause` is -5"),
        ({"retry_rules": [{"on": ["oom"]}]}, '`retry_rules[0].on` is ["oom"]: write a list of causes'),
        ({"job": {**JOB, "timeout": -5}}, "a `timeout` is more than 0"),
        ({"job": {**JOB, "timeout": "301d"}}, "`job.timeout` is too long"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_an_error_before_there_is_a_vm(world: NewWorld, args: dict[str, Any], words: str) -> None:
    w = world()
    w.run(**args)
    assert words in w.error["message"]
    assert w.error["tags"] == ["InvalidArgument"]
    assert not w.cloud.compute.requests


@pytest.mark.parametrize(
    "odd",
    [{"retryable": "yes"}, {"exit_code": {"a": 1}}, {"exit_code": "3"}, {"logs": [1]}, {"durations_s": "x"}, {"fault": 7}],
    ids=str,
)
def test_a_report_with_odd_fields_costs_no_vm(world: NewWorld, odd: dict[str, Any]) -> None:
    w = world({"outcome": {**FAILED, **odd}})
    w.run(keep_vm_on_failure="1h", retry_rules=[{"on": ["OOM_KILLED"]}])
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    (kept,) = w.cloud.compute.instances.values()
    assert "vmjob-keep-until" in kept.body["labels"]


# Bounds.


def test_a_row_has_300_bytes_at_most_and_there_are_23(world: NewWorld) -> None:
    w = world({"outcome": {**PREEMPTED, "cause": "C" * 20_000}})
    result = w.run(max_attempts=40, machine_type="m" * 63, zones=["z" * 40])
    rows = result["workflow"]["attempts"]
    assert (len(rows), result["workflow"]["attempts_count"]) == (23, 40)
    assert all(len(json.dumps(row)) <= 300 for row in rows)
    assert all(key in rows[0] for key in ("zone", "type", "spot", "cause", "rule", "seconds"))


def test_a_job_is_measured_in_bytes(world: NewWorld) -> None:
    w = world()
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "a", "env": {"DATA": "漢" * 30_000}}}
    w.run(job="gs://b/job.json")
    assert w.error["tags"] == ["InvalidArgument"]
    assert "65536 are the limit" in w.error["message"]


def test_the_largest_of_everything_fits_the_memory(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {"outcome": {**FAILED, "logs": {"tail": "x" * 60_000}}})
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "a", "env": {"DATA": "x" * 65_000}}}
    w.run(
        job="gs://b/job.json",
        item={"text": "x" * 4000},
        vm={"overrides": {"minCpuPlatform": "x"}, "metadata": {"own": "x" * 10_000}},
        disks=[{"name": f"d{n}", "size_gb": 10, "at": f"/d{n}"} for n in range(10)],
        keep_vm_on_failure="1h",
        placements=[{"spot": True}, {"spot": False}],
    )
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    assert w.execution.peak_bytes < 0.9 * limits.VARIABLES_BYTES
    print(f"the largest of everything: {w.execution.peak_bytes} bytes of variables at most")


# The hard ones.


def test_a_delete_that_is_refused_for_ten_minutes_leaves_nothing(world: NewWorld) -> None:
    w = world()
    refused = w.cloud.clock.now() + 325 + 600
    delete = w.cloud.compute.delete

    def deleted(**request: Any) -> Any:
        return error(403, "rateLimitExceeded", "x") if w.cloud.clock.now() < refused else delete(**request)

    w.cloud.compute.delete = deleted  # type: ignore[method-assign]
    assert w.run()["workflow"]["warnings"] == []
    w.assert_no_vm_is_left()


@pytest.mark.parametrize("at_s", [0, 5, 20, 100, 300, 330, 350])
def test_an_execution_that_is_cancelled_in_any_phase_leaves_a_vm_that_ends_and_can_be_found(world: NewWorld, at_s: int) -> None:
    w = world()
    began = w.cloud.clock.now()
    w.execution.cancel = lambda: w.cloud.clock.now() >= began + at_s
    with pytest.raises(Cancelled):
        w.run(timeout="1h")
    for instance in w.cloud.compute.instances.values():
        assert instance.body["scheduling"]["instanceTerminationAction"] == "DELETE"
        assert instance.body["scheduling"]["maxRunDuration"]
        assert instance.body["labels"]["vmjob-execution"] == w.execution.execution_id
        assert json.loads(instance.attributes()["job-spec"])["on_finish"] == "poweroff"
    assert len(w.cloud.compute.instances) == (1 if 0 < at_s < 325 else 0)


def test_what_is_not_there_is_an_error_that_says_so(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [not_found("projects/p/zones/us-a1-a/disks/ref")]
    w.run(zones=ZONES, disks=[{"name": "ref", "source": "projects/p/zones/us-a1-a/disks/ref"}])
    assert w.error["tags"] == ["VmNotMade", "notFound"]
    assert "disks/ref" in w.error["message"]
