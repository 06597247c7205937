"""reap.yaml on the engine: which VMs it deletes, and which it leaves alone."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from workflows_emulator.utils import WorkflowError

from conftest import JOB, World
from driver import expressions, limits, stdlib
from driver.clock import VirtualClock
from driver.cloud import Cloud
from driver.compute import RATE_LIMIT, Instance
from driver.compute import error as compute_error
from driver.execution import LOCATION, PROJECT, Cancelled, Execution
from driver.executions import Record, error

NOW = 1_800_000_000.0
HOUR, DAY = 3_600.0, 86_400.0
FORBIDDEN = error(403, "PERMISSION_DENIED", "no workflows.executions.get")


@dataclass
class Vm:
    """A machine of which only the status matters."""

    state: str = "RUNNING"

    def status(self) -> str:
        return self.state

    def guest_attribute(self, _key: str) -> str | None:
        return None

    def console(self) -> str:
        return ""

    def power_off(self) -> None: ...


class Project:
    """VMs, executions, and reap.yaml between them."""

    def __init__(self) -> None:
        self.cloud = Cloud(VirtualClock(NOW), lambda _: Vm())
        self.error: dict[str, Any] = {}

    def execution(self, ended_s_ago: float | None = 2 * HOUR, project: str = PROJECT, state: str = "CANCELLED") -> Record:
        """One that ended so long ago, or runs (None)."""
        workflow = f"projects/{project}/locations/{LOCATION}/workflows/run-job"
        record = self.cloud.executions.add(workflow, "{}", {}, NOW - 5 * DAY)
        ended_at = float("inf") if ended_s_ago is None else NOW - ended_s_ago
        record.ended_at = ended_at
        if state == "CANCELLED":
            record.cancelled_at = ended_at
        elif state == "FAILED":
            record.payload = "{}"
        return record

    def vm(self, record: Record, state: str = "RUNNING", age_s: float = 3 * DAY, zone: str = "us-a1-a", **more: Any) -> str:
        labels = {
            "vmjob": "true",
            "vmjob-workflow": record.name.split("/")[5],
            "vmjob-location": record.name.split("/")[3],
            "vmjob-execution": record.id,
            "vmjob-attempt": "1",
            **more.get("labels", {}),
        }
        labels = {key: value for key, value in labels.items() if value is not None}
        callback = f"https://workflowexecutions.googleapis.com/v1/{record.name}/callbacks/abc_123"
        spec = {**JOB, **more.get("spec", {})}
        items = {"callback-url": callback, "job-spec": json.dumps(spec), **more.get("metadata", {})}
        name = f"vmjob-{len(self.cloud.compute.instances)}"
        body = {
            "labels": labels,
            "metadata": {"items": [{"key": key, "value": value} for key, value in items.items() if value is not None]},
        }
        instance = Instance(name, zone, body, NOW - age_s)
        instance.machine = Vm(state)
        self.cloud.compute.instances[zone, name] = instance
        return name

    def reap(self, args: Any = None) -> dict[str, Any]:
        self.run = Execution(self.cloud, "reap")
        try:
            return self.run.run(args)
        except WorkflowError as problem:
            self.error = expressions.plain(problem.payload)
            return {}

    def left(self) -> set[str]:
        return {name for _, name in self.cloud.compute.instances}


def names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["name"] for row in rows)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_a_vm_whose_execution_is_over_is_deleted_in_whatever_zone(state: str) -> None:
    project = Project()
    for zone in ("us-a1-a", "us-a1-b", "eu-b2-c"):
        project.vm(project.execution(state=state), zone=zone)
    healthy = project.vm(project.execution(ended_s_ago=None))
    result = project.reap()
    assert project.left() == {healthy}
    assert (result["seen"], result["active"], result["counts"]["deleted"], result["more"]) == (4, 1, 3, False)
    assert {(row["zone"], row["why"]) for row in result["deleted"]} == {
        (zone, f"its execution is {state}") for zone in ("us-a1-a", "us-a1-b", "eu-b2-c")
    }
    assert [severity for severity, _ in project.run.log] == ["NOTICE"] * 3


def test_a_dry_run_lists_and_deletes_nothing() -> None:
    project = Project()
    name = project.vm(project.execution())
    result = project.reap({"dry_run": True})
    assert project.left() == {name}
    assert (names(result["would_delete"]), result["deleted"], result["dry_run"]) == ([name], [], True)
    assert "delete" not in project.cloud.compute.requests


@pytest.mark.parametrize("missing", ["vmjob", "vmjob-workflow", "vmjob-location", "vmjob-execution"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_does_not_carry_all_of_the_kits_labels_is_not_touched(missing: str, value: str | None) -> None:
    project = Project()
    name = project.vm(project.execution(), labels={missing: value})
    result = project.reap()
    assert project.left() == {name}
    assert result["seen"] == 0


@pytest.mark.parametrize(
    ("until", "verdict"),
    [(NOW + 60, "kept"), (NOW - 60, "deleted"), ("soon", "unknown"), ("-5", "unknown"), ("9" * 13, "unknown")],
)
def test_vmjob_keep_until_is_honoured(until: float | str, verdict: str) -> None:
    project = Project()
    label = until if isinstance(until, str) else str(int(until))
    name = project.vm(project.execution(state="FAILED"), labels={"vmjob-keep-until": label})
    result = project.reap()
    assert names(result[verdict]) == [name]
    assert project.left() == ({name} if verdict != "deleted" else set())


def test_a_vm_whose_execution_has_just_ended_is_left_to_its_agent_but_not_one_that_is_off() -> None:
    project = Project()
    fresh = project.vm(project.execution(ended_s_ago=600))
    project.vm(project.execution(ended_s_ago=600), state="TERMINATED")
    result = project.reap()
    assert project.left() == {fresh}
    assert result["kept"][0]["why"] == "its execution is CANCELLED, since less than the grace"
    assert names(project.reap({"grace": "5m"})["deleted"]) == [fresh]


@pytest.mark.parametrize(("grace", "deleted"), [("1h", False), (1799, True), (2000.5, False), ("0s", True)])
def test_the_grace_is_an_argument(grace: Any, deleted: bool) -> None:
    project = Project()
    project.vm(project.execution(ended_s_ago=1800))
    assert bool(project.reap({"grace": grace})["deleted"]) == deleted


def test_a_job_that_is_to_finish_without_its_execution_is_let() -> None:
    project = Project()
    name = project.vm(project.execution(), spec={"orphan": "finish"})
    project.vm(project.execution(), spec={"orphan": "stop"})
    project.vm(project.execution(), spec={"orphan": "finish"}, state="TERMINATED")
    assert names(project.reap()["kept"]) == [name]
    assert project.left() == {name}


def test_an_execution_that_is_not_found_by_the_labels_is_looked_for_by_the_callback_url() -> None:
    project = Project()
    name = project.vm(project.execution(ended_s_ago=None, project="other"))
    project.vm(project.execution(project="other"))
    result = project.reap()
    assert project.left() == {name}
    assert result["kept"][0]["why"] == "its execution is under way"
    assert result["kept"][0]["execution"].startswith("projects/other/")


def test_an_execution_that_is_not_found_at_all_is_over_after_two_looks_and_a_day() -> None:
    project = Project()
    young, old = (project.vm(project.execution(), age_s=age) for age in (20 * HOUR, 30 * HOUR))
    project.cloud.executions.records.clear()
    result = project.reap()
    assert (names(result["kept"]), names(result["deleted"])) == ([young], [old])
    assert result["deleted"][0]["why"] == "its execution was deleted"
    assert project.cloud.clock.now() >= NOW + 60


def test_an_execution_that_is_not_found_only_once_is_not_over() -> None:
    project = Project()
    name = project.vm(project.execution(ended_s_ago=None))
    missing = error(404, "NOT_FOUND", "x")
    project.cloud.executions.answers["get"] = [missing, missing]
    assert names(project.reap()["kept"]) == [name]


@pytest.mark.parametrize(
    "callback", [None, "", "https://example.com/hook", "https://workflowexecutions.googleapis.com/v1/projects/p"]
)
def test_an_execution_that_is_not_found_and_that_no_callback_url_names_is_unknown(callback: str | None) -> None:
    project = Project()
    name = project.vm(project.execution(), metadata={"callback-url": callback})
    project.cloud.executions.records.clear()
    assert names(project.reap()["unknown"]) == [name]
    assert project.left() == {name}


@pytest.mark.parametrize(
    "answer", [FORBIDDEN, error(500, "INTERNAL", "x"), error(401, "UNAUTHENTICATED", "x"), (200, {}), (200, "odd")]
)
def test_an_answer_that_says_nothing_deletes_nothing(answer: Any) -> None:
    project = Project()
    name = project.vm(project.execution())
    project.cloud.executions.answers["get"] = [answer] * 50
    result = project.reap()
    assert project.left() == {name}
    assert result["counts"]["deleted"] == 0
    if answer is FORBIDDEN:
        assert result["unknown"][0]["why"].startswith(
            "its execution cannot be read, HTTP 403, no workflows.executions.get; grant"
        )


@pytest.mark.parametrize("state", ["QUEUED", "UNAVAILABLE", "STATE_UNSPECIFIED"])
def test_a_state_that_is_no_end_deletes_nothing(state: str) -> None:
    project = Project()
    name = project.vm(project.execution())
    project.cloud.executions.answers["get"] = [(200, {"state": state, "endTime": "2020-01-01T00:00:00Z"})]
    assert (project.reap()["active"], project.left()) == (1, {name})


def test_labels_that_changed_after_the_list_keep_a_vm() -> None:
    """Its name may be another's by now, or somebody wants to keep it."""
    for label, value in (("vmjob-execution", "another"), ("vmjob-keep-until", str(int(NOW + DAY)))):
        project = Project()
        name = project.vm(project.execution())
        listed = project.cloud.compute.aggregated_list(project=PROJECT, query={"filter": "labels.vmjob=true", "maxResults": 100})
        listed = json.loads(json.dumps(listed))
        project.cloud.compute.instances["us-a1-a", name].body["labels"][label] = value
        project.cloud.compute.answers["aggregated_list"] = [tuple(listed)]  # type: ignore[list-item]
        assert names(project.reap()["kept"]) == [name]
        assert project.left() == {name}


def test_what_could_not_be_deleted_is_in_the_result_and_ends_no_other() -> None:
    project = Project()
    for _ in range(3):
        project.vm(project.execution())
    protected = compute_error(
        400, "resourceInUseByAnotherResource", "Resource cannot be deleted if it's protected against deletion"
    )
    project.cloud.compute.answers["delete"] = [protected, RATE_LIMIT]
    result = project.reap()
    assert (result["counts"]["deleted"], result["counts"]["failed"]) == (1, 2)
    assert "protected against deletion" in result["failed"][0]["why"]
    assert sorted(severity for severity, _ in project.run.log) == ["ERROR", "ERROR", "NOTICE"]
    assert project.reap()["counts"]["deleted"] == 2


def test_a_vm_that_is_gone_meanwhile_is_no_failure() -> None:
    project = Project()
    project.vm(project.execution())
    project.vm(project.execution())
    project.cloud.compute.answers["get"] = [compute_error(404, "notFound", "x")]
    project.cloud.compute.answers["delete"] = [compute_error(404, "notFound", "x")]
    counts = project.reap()["counts"]
    assert (counts["failed"], counts["unknown"], counts["deleted"]) == (0, 0, 1)


def test_pages_and_zones_that_do_not_answer() -> None:
    project = Project()
    for _ in range(230):
        project.vm(project.execution(ended_s_ago=None))
    last = project.vm(project.execution(), zone="us-z2-a")
    silent = {"zones/us-b1-c": {"warning": {"code": "UNREACHABLE"}}}
    unreachable = (200, {"items": silent, "nextPageToken": "a", "unreachables": ["projects/p/zones/us-b1-b"]})
    project.cloud.compute.answers["aggregated_list"] = [unreachable]
    result = project.reap()
    assert (result["seen"], result["active"], names(result["deleted"])) == (231, 230, [last])
    assert project.cloud.compute.requests.count("aggregated_list") == 4
    assert result["unreachable"] == ["projects/p/zones/us-b1-b", "zones/us-b1-c"]


def test_a_list_without_an_end_and_a_thousand_vms_left_behind_are_bounded() -> None:
    project = Project()
    endless = (200, {"items": {}, "nextPageToken": "again"})
    project.cloud.compute.answers["aggregated_list"] = [endless] * 1000
    result = project.reap()
    assert (project.cloud.compute.requests.count("aggregated_list"), result["more"]) == (100, True)
    project = Project()
    large = {"metadata": {"startup-script": "x" * 60_000}, "spec": {"container": {"image": "i", "env": {"DATA": "y" * 60_000}}}}
    for _ in range(700):
        project.vm(project.execution(), **large)
    result = project.reap()
    assert (result["counts"]["deleted"], len(result["deleted"]), result["more"]) == (500, 100, True)
    assert len(project.left()) == 200
    assert project.run.peak_bytes < 400_000
    assert project.run.steps < 20_000
    assert limits.size(result) < 50_000
    print(f"500 deletes: {project.run.steps} steps, {project.run.api_calls} API calls, {project.run.peak_bytes} bytes")
    assert project.reap()["counts"]["deleted"] == 200
    assert not project.left()


def test_a_log_that_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise WorkflowError(message="PERMISSION_DENIED: logging.logEntries.create", tags=["SystemError"])

    monkeypatch.setitem(stdlib.CALLS, "sys.log", refused)
    project = Project()
    project.vm(project.execution())
    assert project.reap()["counts"]["deleted"] == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"dryrun": True}, "unknown argument `dryrun`; known are"),
        ({"dry_run": "true"}, "`dry_run` is of type string; it takes: boolean"),
        ({"project": 7}, "`project` is of type integer; it takes: string"),
        ({"project": "a/b"}, "`project` is the id of a project, not `a/b`"),
        ({"grace": "soon"}, "`grace` is a duration such as 30m or 2h"),
        ({"grace": "-5m"}, "`grace` is a duration such as 30m or 2h"),
        ({"grace": -5}, "`grace` is a duration such as 30m or 2h"),
        ({"grace": True}, "`grace` is of type boolean; it takes: string, integer or double"),
        ([], "the arguments are of type list"),
        ("now", "the arguments are of type string"),
    ],
)
def test_a_wrong_argument_is_an_error(args: Any, words: str) -> None:
    project = Project()
    name = project.vm(project.execution())
    assert project.reap(args) == {}
    assert project.error["tags"] == ["InvalidArgument"]
    assert words in project.error["message"]
    assert project.left() == {name}


def test_vms_of_another_project_are_looked_after_from_here() -> None:
    project = Project()
    project.vm(project.execution())
    requests: list[str] = []
    request = project.cloud.request
    project.cloud.request = lambda verb, url, *rest: requests.append(url) or request(verb, url, *rest)  # type: ignore[method-assign, func-returns-value]
    assert project.reap({"project": "vms"})["project"] == "vms"
    assert all("/projects/vms/" in url for url in requests if "compute" in url)
    assert all(f"/projects/{PROJECT}/" in url for url in requests if "workflowexecutions" in url)


def test_a_list_that_is_refused_is_an_error_that_says_what_to_grant() -> None:
    project = Project()
    project.cloud.compute.answers["aggregated_list"] = [
        compute_error(403, "forbidden", "Required 'compute.instances.list' permission")
    ]
    project.reap()
    assert project.error["tags"] == ["RequestFailed"]
    assert "compute.instances.list" in project.error["message"]
    assert "role of role.yaml" in project.error["message"]


def test_a_vm_that_run_job_keeps_after_a_failure_is_deleted_when_its_time_is_over() -> None:
    world = World.new({"outcome": {"state": "FAILED", "cause": "EXIT_CODE", "exit_code": 3, "message": "exited with 3"}})
    world.run(keep_vm_on_failure="2h")
    assert len(world.cloud.compute.instances) == 1
    workflow = f"projects/{PROJECT}/locations/{LOCATION}/workflows/run-job"
    record = world.cloud.executions.add(workflow, "{}", {}, NOW, world.execution.execution_id)
    record.payload, record.ended_at = "{}", world.cloud.clock.now()
    world.cloud.clock.sleep(1.5 * HOUR)
    assert Execution(world.cloud, "reap").run(None)["counts"]["kept"] == 1
    world.cloud.clock.sleep(HOUR)
    assert Execution(world.cloud, "reap").run(None)["counts"]["deleted"] == 1
    world.assert_no_vm_is_left()


def test_the_vm_of_a_cancelled_execution_of_run_job_is_deleted() -> None:
    """From run-job.yaml's own labels and callback URL."""
    world = World.new({"outcome": None})
    world.execution.cancel = lambda: world.execution.callback_waits > 1
    with pytest.raises(Cancelled):
        world.run()
    assert len(world.cloud.compute.instances) == 1
    workflow = f"projects/{PROJECT}/locations/{LOCATION}/workflows/run-job"
    now = world.cloud.clock.now()
    record = world.cloud.executions.add(workflow, "{}", {}, now, world.execution.execution_id)
    assert Execution(world.cloud, "reap").run(None)["active"] == 1
    record.cancelled_at = now
    world.cloud.clock.sleep(HOUR)
    assert Execution(world.cloud, "reap").run(None)["counts"]["deleted"] == 1
    world.assert_no_vm_is_left()


def test_a_vm_that_cannot_be_understood_keeps_no_other_from_being_deleted() -> None:
    project = Project()
    odd_execution, odd_vm, no_value = project.execution(), project.execution(), project.execution()
    odd = {project.vm(odd_execution), project.vm(odd_vm, zone="us-a1-b")}
    project.vm(no_value, zone="us-a1-c")
    project.cloud.compute.instances["us-a1-c", "vmjob-2"].body["metadata"]["items"].append({"key": "ssh-keys"})
    project.vm(project.execution(), zone="us-a1-d")
    execution = json.loads(json.dumps(odd_execution.shown(NOW))) | {"endTime": "soon"}
    project.cloud.executions.answers["get"] = [(200, execution)]
    project.cloud.compute.answers["get"] = [(200, {"status": "TERMINATED", "metadata": {"items": [{"value": "x"}]}})]
    result = project.reap()
    assert project.left() == odd
    assert names(result["unknown"]) == sorted(odd)
    assert all("malformed" in row["why"] for row in result["unknown"])


def test_too_many_requests_are_no_missing_role() -> None:
    project = Project()
    project.vm(project.execution())
    project.cloud.compute.answers["delete"] = [RATE_LIMIT]
    (row,) = project.reap()["failed"]
    assert row["why"] == "HTTP 403, Rate Limit Exceeded"
