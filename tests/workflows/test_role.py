"""The role of the workflows' service account: enough for every call that the files make with any argument, and nothing beyond."""

import re
from pathlib import Path
from typing import Any

import yaml

from conftest import JOB, World
from driver.array import Array, failed_with_many_words
from driver.cloud import COMPUTE, STORAGE
from driver.compute import ROUTES
from driver.execution import PROJECT, WORKFLOWS, checked
from test_files import FILES, steps
from test_reap import Project

PACKAGING = WORKFLOWS.parent
PREEMPTED = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True}

# By call of the files. Source: the IAM section of each method's page.
NEEDED = {
    "sys.log": {"logging.logEntries.create"},
}
WITHOUT_PERMISSION = {"events.create_callback_endpoint", "events.await_callback", "sys.sleep"}
# Calls of APIs, by the requests that they make.
OF_APIS = {"http.get", "http.post"}
BY_METHOD = {
    "get_from_family": {"compute.images.getFromFamily"},
    "delete": {"compute.instances.delete", "compute.zoneOperations.get"},
    "get": {"compute.instances.get"},
    "get_guest_attributes": {"compute.instances.getGuestAttributes"},
    "get_serial_port_output": {"compute.instances.getSerialPortOutput"},
    "get_operation": {"compute.zoneOperations.get"},
    "get_region": {"compute.regions.get"},
    "set_labels": {"compute.instances.setLabels", "compute.zoneOperations.get"},
    "aggregated_list": {"compute.instances.list"},
}


def by_body(body: dict[str, Any]) -> set[str]:
    """Of instances.insert. Source: <https://cloud.google.com/compute/docs/instances/create-start-instance#permissions>."""
    needed = {"compute.instances.create", "compute.zoneOperations.get"}
    for disk in body.get("disks", []):
        params = disk.get("initializeParams")
        use = "compute.disks.useReadOnly" if disk.get("mode") == "READ_ONLY" else "compute.disks.use"
        needed |= {use} if params is None else {"compute.disks.create"}
        for source, permission in (("sourceImage", "images"), ("sourceSnapshot", "snapshots")):
            needed |= {f"compute.{permission}.useReadOnly"} if source in (params or {}) else set()
    for interface in body.get("networkInterfaces", []):
        needed |= {"compute.subnetworks.use"}
        needed |= {"compute.subnetworks.useExternalIp"} if interface.get("accessConfigs") else set()
    parts = {"labels": "Labels", "metadata": "Metadata", "serviceAccounts": "ServiceAccount", "tags": "Tags"}
    for key, permission in parts.items():
        needed |= {f"compute.instances.set{permission}"} if body.get(key) else set()
    others = set(body) - {"name", "description", "machineType", "labels", "disks", "networkInterfaces", "serviceAccounts"}
    assert others <= {"metadata", "scheduling", "guestAccelerators", "tags"}, "does a new part of the body need a permission?"
    return needed


class Asked:
    """What an execution with these arguments asks for: permissions by project, and buckets."""

    def __init__(self, *vms: dict[str, Any], **args: Any) -> None:
        self.permissions: dict[str, set[str]] = {}
        self.buckets: set[str] = set()
        self.act_as: set[str] = set()
        world = World.new(*vms)
        world.cloud.objects["gs://jobs/job.json"] = JOB
        world.cloud.compute.regions = {"us-a1": ["us-a1-a", "us-a1-b"]}
        request = world.cloud.request

        def noted(verb: str, url: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
            self.note(verb, url, query, body)
            return request(verb, url, query, body)

        world.cloud.request = noted  # type: ignore[method-assign]
        world.run(**args)

    def note(self, verb: str, url: str, query: dict[str, Any], body: Any) -> None:
        if url.startswith(STORAGE):
            self.buckets.add(url.removeprefix(STORAGE).partition("/")[0])
            return
        path = url.removeprefix(COMPUTE)
        (name,) = [name for method, pattern, name in ROUTES if method == verb and re.fullmatch(pattern, path)]
        needed = by_body(body) if name == "insert" else BY_METHOD[name]
        needed |= {"compute.instanceTemplates.useReadOnly"} if "sourceInstanceTemplate" in query else set()
        self.permissions.setdefault(path.split("/")[1], set()).update(needed)
        if name == "insert":
            self.act_as |= {account["email"] for account in body.get("serviceAccounts", [])}


# Every argument, with the values that lead to other calls or another body.
ASKED = [
    Asked(job="gs://jobs/job.json", agent={"startup_script": "gs://b/s"}, baked=False),
    Asked(job="docker run busybox", machine_type="g2-standard-4", zones=["us-a1-a"], max_attempts=2, timeout="1h", spot=True),
    Asked(
        disk={"size_gb": 50, "type": "pd-ssd"},
        gpu={"type": "nvidia-l4", "count": 1},
        service_account="job@p.iam.gserviceaccount.com",
        network={"subnetwork": "regions/us-a1/subnetworks/s", "external_ip": True},
        labels={"team": "a"},
        brief=True,
        task_index=0,
        task_count=2,
    ),
    Asked(network={"network": "global/networks/n"}, image="projects/images/global/images/i"),
    Asked(image_family="mine", image_project="images"),
    Asked(image_family="mine", image_project=PROJECT, project="another"),
    Asked(region="us-a1", machine_types=["n2-standard-2"], usd_per_hour=0.1, wait_for_capacity="1h"),
    Asked(
        {"outcome": PREEMPTED},
        placements=[{"spot": True, "region": "us-a1", "attempts": 1}, {"disk": {"type": "pd-ssd"}, "gpu": {"type": "nvidia-l4"}}],
        retry_rules=[{"on": ["PREEMPTED"], "grow": ["n2-standard-4"]}],
    ),
    Asked(
        disks=[
            {"local_ssd": 1, "at": "/scratch"},
            {"name": "data", "source": "projects/p/zones/us-a1-a/disks/data"},
            {"name": "ref", "source": "projects/p/zones/us-a1-a/disks/ref", "read_only": True},
            {"name": "old", "snapshot": "projects/p/global/snapshots/s"},
        ],
        network={"tags": ["batch"]},
        guest_attributes=False,
        item={"lr": "0.1"},
        parents=["projects/p/locations/l/workflows/w/executions/e"],
    ),
    Asked(vm={"template": "projects/p/global/instanceTemplates/t", "metadata": {"a": "b"}}, spot=True, spot_notice="120s"),
    Asked(plan=True),
    # What goes wrong is looked into.
    Asked({"outcome": {**PREEMPTED, "retryable": False}}, keep_vm_on_failure="1h"),
    Asked({"outcome": PREEMPTED}, {"outcome": None, "silent_after_s": 60}, max_attempts=2, silence=600),
]


def of_arrays() -> set[str]:
    """What an array asks of the executions API: in shards, and then once more where the first has no result."""
    array = Array(failed_with_many_words)
    array.run(tasks=2, shards=2)
    array.record.cancelled_at, array.record.ended_at = array.cloud.clock.now(), float("inf")
    array.start({"rerun_of": array.record.id})
    return {f"workflows.executions.{method}" for method, _ in array.executions.requests}


def of_reap() -> set[str]:
    """What reap.yaml asks for, of the VMs' project and of the executions'."""
    project = Project()
    project.vm(project.execution())
    project.reap()
    needed = set().union(*(BY_METHOD[method] for method in project.cloud.compute.requests))
    return needed | {f"workflows.executions.{method}" for method, _ in project.cloud.executions.requests}


def role() -> set[str]:
    permissions = yaml.safe_load((WORKFLOWS / "role.yaml").read_text())["includedPermissions"]
    assert len(permissions) == len(set(permissions))
    return set(permissions)


def calls() -> set[str]:
    found = set()
    for file in FILES:
        whole = checked(WORKFLOWS / file)
        for _, step in steps(whole):
            found |= {call["call"] for call in (step, step.get("try", {})) if call.get("call", "main") not in whole}
    return found


def test_the_role_has_the_permissions_that_the_calls_need_with_any_argument_and_no_other() -> None:
    needed = set().union(*NEEDED.values(), *(found for asked in ASKED for found in asked.permissions.values()))
    assert role() == needed | of_arrays() | of_reap()


def test_every_call_in_the_files_is_accounted_for() -> None:
    apis = {call for call in calls() if call.startswith("googleapis.compute.")}
    assert calls() == set(NEEDED) | WITHOUT_PERMISSION | OF_APIS | apis
    methods = {re.sub("([A-Z])", r"_\1", call.rsplit(".", 1)[1]).lower() for call in apis - {"googleapis.compute.v1.regions.get"}}
    assert methods <= {*BY_METHOD, "insert"}
    assert {"compute.googleapis.com", "storage.googleapis.com", "workflowexecutions.googleapis.com"} == {
        host
        for file in FILES
        for host in re.findall(r"https://([a-z.]+)/(?:compute/|storage/|)v1", (WORKFLOWS / file).read_text())
    }


def test_every_argument_is_tried() -> None:
    types = dict(steps(checked(WORKFLOWS / "run-job.yaml")["check_arguments"]))["known"]["assign"][1]["types"]
    tried = set(re.findall(r"(\w+)=", Path(__file__).read_text().partition("ASKED = [")[2].partition("\n]\n")[0]))
    assert set(types) <= tried


def test_a_project_that_an_argument_names_needs_a_grant_of_its_own_and_the_file_says_so() -> None:
    described = (WORKFLOWS / "run-job.yaml").read_text().partition("\nmain:")[0]
    assert [asked.permissions["images"] for asked in ASKED if "images" in asked.permissions] == [{"compute.images.getFromFamily"}]
    assert "another" in ASKED[5].permissions
    assert re.search(r"project +the workflow's; the role \(role.yaml\) is needed there", described)
    assert re.search(r"image_family.*\n.*roles/compute.imageUser", described)


def test_the_buckets_of_jobs_and_the_vms_account_need_bindings_which_terraform_makes_and_the_guide_says() -> None:
    assert set().union(*(asked.buckets for asked in ASKED)) == {"jobs"}
    binding = re.search(r'resource "google_storage_bucket_iam_member" "jobs" \{.*?\n\}', terraform(), re.DOTALL)
    assert binding
    assert "var.job_bucket" in binding[0]
    assert "roles/storage.objectViewer" in binding[0]
    assert "google_service_account.workflow.member" in binding[0]
    described = (WORKFLOWS / "run-job.yaml").read_text().partition("\nmain:")[0]
    guide = (PACKAGING.parent / "docs/quickstart-cloud.md").read_text()
    assert "roles/storage.objectViewer on the bucket" in described
    assert re.search(
        r"gcloud storage buckets add-iam-policy-binding.*serviceAccount:\$WORKFLOW.*roles/storage.objectViewer", guide
    )
    assert {"default", "job@p.iam.gserviceaccount.com"} == set().union(*(asked.act_as for asked in ASKED))
    assert 'role               = "roles/iam.serviceAccountUser"' in terraform()


def terraform() -> str:
    return "\n".join(file.read_text() for file in sorted((PACKAGING / "terraform").glob("*.tf")))


def test_the_role_of_the_vms_reports_and_cannot_start_a_workflow() -> None:
    role = yaml.safe_load((WORKFLOWS / "vm-role.yaml").read_text())
    assert set(role["includedPermissions"]) == {
        "workflows.callbacks.send",
        "workflows.callbacks.list",
        "workflows.executions.get",
    }
    guide = (PACKAGING.parent / "docs/quickstart-cloud.md").read_text()
    assert "--file=packaging/workflows/vm-role.yaml" in guide
    assert "vm_role = yamldecode(file(" in terraform()
    assert "roles/workflows.invoker" not in guide + terraform()


def test_terraform_can_destroy_what_it_made_and_two_copies_do_not_collide() -> None:
    resources = re.findall(r'resource "(\w+)" "\w+" \{(.*?)\n\}', terraform(), re.DOTALL)
    assert len(resources) == 21
    # What has a name in the project has the prefix in it.
    named = {
        "google_compute_network": "name",
        "google_compute_router": "name",
        "google_compute_router_nat": "name",
        "google_compute_subnetwork": "name",
        "google_project_iam_custom_role": "role_id",
        "google_service_account": "account_id",
        "google_storage_bucket": "name",
        "google_workflows_workflow": "name",
        "google_cloud_scheduler_job": "name",
    }
    for kind, body in resources:
        if kind in named:
            assert re.search(rf"\n  {named[kind]} *= .*var\.prefix", body), kind
        if kind == "google_workflows_workflow":
            assert re.search(r"\n  deletion_protection *= false", body)
        if kind == "google_storage_bucket":
            assert re.search(r"\n  force_destroy *= true", body)
    # The field came with this version of the provider.
    versions = (PACKAGING / "terraform/versions.tf").read_text()
    assert 'version = ">= 6.11"' in versions


def test_terraform_deploys_each_file_and_starts_the_reaper_by_the_scheduler() -> None:
    named = re.search(r"workflows = \{\n(.*?)\n  \}", terraform(), re.DOTALL)
    assert named
    assert {f"{name}.yaml" for name in re.findall(r"^    ([a-z-]+) +=", named[1], re.MULTILINE)} == set(FILES)
    (job,) = re.findall(r'resource "google_cloud_scheduler_job" "reap" \{(.*?)\n\}', terraform(), re.DOTALL)
    assert 'https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.vmjob["reap"].id}/executions' in job
    assert "service_account_email = google_service_account.workflow.email" in job
    assert '"cloudscheduler.googleapis.com"' in terraform()
    described = (WORKFLOWS / "reap.yaml").read_text().partition("\nmain:")[0]
    assert "workflowexecutions.googleapis.com/v1/projects/PROJECT/locations/REGION/workflows/reap/executions" in described
    assert '--schedule="17 * * * *"' in described
    assert '"17 * * * *"' in (PACKAGING / "terraform/variables.tf").read_text()
