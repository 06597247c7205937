"""What Compute Engine refuses, and what follows from it: the reason decides, whatever was asked for.

The shapes are those that Google sends. Sources: <https://cloud.google.com/compute/docs/troubleshooting>, and the issues of
Terraform's Google provider.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import World, hoarse
from driver import limits
from driver.compute import CONCURRENT_OPERATIONS, RATE_LIMIT, Answer, error, not_found
from driver.connectors import http_error
from driver.simulated import report

NewWorld = Callable[..., World]
PREEMPTED = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True}
ZONES = ["us-a1-a", "us-a1-b"]
TWO_REGIONS = ["us-a1-a", "us-a1-b", "us-b1-a"]
P = "projects/fake-project"

LATER: dict[str, Answer] = {
    "too many requests": RATE_LIMIT,
    "too many operations": CONCURRENT_OPERATIONS,
    "requests of a user": error(403, "userRateLimitExceeded", "User Rate Limit Exceeded"),
    "queries per minute": error(
        403, "quotaExceeded", "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute'."
    ),
    "operations on a resource": error(403, "rateLimitExceeded", "Operation rate exceeded for resource 'x'."),
    "not ready": error(400, "resourceNotReady", f"The resource '{P}/zones/us-a1-a/subnetworks/s' is not ready"),
    "in use": error(400, "resourceInUseByAnotherResource", "The resource is already being used by another resource"),
    "429": (429, {"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "X"}}),
    "500": error(500, "backendError", "Backend Error"),
    "503 of a proxy": (503, "<html>upstream connect error</html>"),
    "an operation that is not found": not_found(f"{P}/zones/us-a1-a/operations/operation-0"),
    "404 that names nothing": (404, {"error": {"code": 404, "message": "Not Found"}}),
    "404 without a body": (404, None),
    "404 of a proxy": (404, "<html>404 page not found</html>"),
    "a token that has just expired": error(401, "authError", "Request had invalid authentication credentials."),
}
# Answers in no form of Google's.
ODD: dict[str, Answer] = {
    "a body that is not parsed": (403, json.dumps(CONCURRENT_OPERATIONS[1], indent=1)),
    "503 without a body": (503, None),
    "503 with a list": (503, [1]),
    "502 with words": (502, {"error": "bad gateway"}),
    "500 with an error in no form": (500, {"error": {"errors": [{"message": 7}], "message": ["x"]}}),
    "500 with no errors": (500, {"error": {"errors": []}}),
}
STOCKOUT = "The zone 'us-a1-a' does not have enough resources available to fulfill the request.  '(resource type:compute)'."
ELSEWHERE: dict[str, Answer] = {
    "no GPU of the kind": not_found(f"{P}/zones/us-a1-a/acceleratorTypes/nvidia-l4"),
    "no such machine type": error(
        400,
        "invalid",
        "Invalid value for field 'resource.machineType': 'zones/us-a1-a/machineTypes/c4-standard-8'. Machine type with name "
        "'c4-standard-8' does not exist in zone 'us-a1-a'.",
    ),
    "no such machine type, 404": not_found(f"{P}/zones/us-a1-a/machineTypes/c4-standard-8"),
    "no such disk type": error(
        400,
        "invalid",
        "Invalid value for field 'resource.disks[0].initializeParams.diskType': 'zones/us-a1-a/diskTypes/hyperdisk-balanced'."
        " The referenced diskType resource cannot be found.",
    ),
    "no such disk type, 404": not_found(f"{P}/zones/us-a1-a/diskTypes/hyperdisk-balanced"),
    "no such zone": error(400, "invalid", "Invalid value for field 'zone': 'us-a1-a'. Unknown zone."),
    "no such zone, 404": not_found(f"{P}/zones/us-a1-a"),
    "no room at once": error(503, "insufficientCapacity", "The zone has insufficient capacity."),
    "a stock-out at once": error(503, "resource_availability", STOCKOUT),
}
AGAIN = {
    "internal error": ("INTERNAL_ERROR", "Internal error. Please try again or contact Google Support. (Code: '5D8C')"),
    "preempted at its start": ("PREEMPTED", "Instance failed to start due to preemption."),
    "preempted, without a code": ("UNKNOWN", "Instance failed to start due to preemption."),
    "cancelled with its first VM": ("OPERATION_CANCELED_BY_USER", "Operation was canceled by user ''."),
    "vanished": ("RESOURCE_NOT_FOUND", f"The resource '{P}/zones/us-a1-a/instances/vmjob-x' was not found"),
}
FINAL: dict[str, tuple[Answer, str]] = {
    "no permission": (
        error(403, "forbidden", f"Required 'compute.instances.create' permission for '{P}/zones/us-a1-a/instances/n'"),
        "role of role.yaml",
    ),
    "another's service account": (
        error(
            400,
            "SERVICE_ACCOUNT_ACCESS_DENIED",
            "The user does not have access to service account 'vm@p.iam.gserviceaccount.com'.  User: 'w@p.iam'.  Ask a project"
            " owner to grant you the iam.serviceAccountUser role on the service account",
        ),
        "roles/iam.serviceAccountUser",
    ),
    "the API is off": (
        error(403, "accessNotConfigured", "Compute Engine API has not been used in project 1 before or it is disabled."),
        "gcloud services enable compute.googleapis.com",
    ),
    "a policy": (
        error(412, "conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated for project 1."),
        "a policy of the organisation",
    ),
    "no such image": (not_found(f"{P}/global/images/i"), "global/images/i' was not found"),
    "no such network": (not_found(f"{P}/global/networks/n"), "global/networks/n' was not found"),
    "no such project": (error(404, "notFound", "The resource 'projects/nope' was not found"), "projects/nope"),
    "no such service account": (
        error(404, "notFound", "The resource 'projects/p/serviceAccounts/vm@p' of type 'serviceAccount' was not found."),
        "serviceAccounts/vm@p",
    ),
    "no billing": (error(403, "forbidden", "This API method requires billing to be enabled."), "billing enabled"),
    "an image that is named as a stock-out": (not_found(f"{P}/global/images/stockout-rateLimitExceeded"), "images/stockout"),
    "an image that is called a prototype": (
        error(
            400,
            "invalid",
            "Invalid value for field 'resource.disks[0].initializeParams.sourceImage': 'global/images/prototype-diskType'."
            " The referenced image resource cannot be found.",
        ),
        "images/prototype",
    ),
    "an image of live migration": (not_found(f"{P}/global/images/live-migration"), "images/live-migration"),
    "a network that is named as a type": (not_found(f"{P}/global/networks/machineTypes"), "networks/machineTypes"),
    "an account that is named as a reason": (
        error(403, "forbidden", "Required 'compute.subnetworks.use' for 'INTERNAL_ERROR QUOTA_EXCEEDED resourceNotReady'"),
        "role of role.yaml",
    ),
    "400 without a body": ((400, None), "error code 400"),
    "400 of a proxy": ((400, "<html>Bad Request</html>"), "Bad Request"),
    "a wrong value": (error(400, "invalid", "Invalid value for field 'resource.labels': 'Team'."), "resource.labels"),
}


def cases(table: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("answer", table.values(), ids=table.keys())


SOME = {key: LATER[key] for key in ("too many operations", "not ready", "503 of a proxy", "404 without a body")}


def between(w: World, name: str) -> float:
    """Seconds between the first two requests of the kind."""
    first, second = [at for called, at in w.cloud.compute.times if called == name][:2]
    return second - first


# Later: the same request, a minute later.


@cases({**LATER, **ODD})
def test_an_insert_that_comes_too_soon_is_made_again_in_the_same_zone(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [answer] * 8
    result = w.run(zones=ZONES)
    (row,) = result["workflow"]["attempts"]
    assert row["zone"] == ZONES[0]
    assert 9 <= w.calls("insert") <= 60
    assert result["workflow"]["warnings"] == []
    w.assert_no_vm_is_left()


@cases(LATER)
@pytest.mark.parametrize("ids_count", [True, False], ids=["by its request id", "by its name"])
def test_a_poll_that_is_refused_is_no_answer_about_a_healthy_vm(world: NewWorld, answer: Answer, ids_count: bool) -> None:
    w = world()
    w.cloud.compute.answers["get_operation"] = [answer] * 8
    if not ids_count:
        w.cloud.compute.request_ids = _Forgetful()
    began = w.cloud.clock.now()
    result = w.run(zones=ZONES)
    assert result["state"] == "SUCCEEDED"
    assert len(w.bodies()) == 1
    assert all(at >= began + 300 for called, at in w.cloud.compute.times if called == "delete"), "deleted before it had reported"
    w.assert_no_vm_is_left()


class _Forgetful(dict[str, Any]):
    def __contains__(self, _key: object) -> bool:
        return False


@pytest.mark.parametrize("code", ["RESOURCE_OPERATION_RATE_EXCEEDED", "RESOURCE_NOT_READY", "SERVICE_UNAVAILABLE"])
def test_an_operation_that_failed_for_now_is_followed_by_another_one(world: NewWorld, code: str) -> None:
    w = world()
    w.cloud.compute.failures = {ZONES[0]: [(code, "later")]}
    result = w.run(zones=ZONES)
    assert [row["zone"] for row in result["workflow"]["attempts"]] == [ZONES[0]]
    assert w.calls("insert") == 2


@pytest.mark.parametrize("failures", [1, 8, 100])
def test_a_callback_endpoint_that_cannot_be_made_is_asked_for_again(
    world: NewWorld, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world()
    left = iter(range(failures))
    create = w.cloud.create_endpoint

    def created(*args: Any) -> str:
        if next(left, None) is not None:
            raise http_error(503, None)
        return create(*args)

    monkeypatch.setattr(w.cloud, "create_endpoint", created)
    w.run(zones=ZONES)
    if failures == 100:
        assert w.error["tags"][0] == "RequestFailed"
        assert (w.error["warnings"], w.error["attempts"]) == ([], [])
        assert 1800 <= w.seconds < 2100
    else:
        assert w.error is None


def test_a_request_is_repeated_after_a_minute_for_half_an_hour(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [RATE_LIMIT] * 1000
    w.run(zones=ZONES)
    assert w.error["tags"] == ["VmNotMade"], "too many requests are no lack of capacity"
    assert "Rate Limit Exceeded" in w.error["message"]
    assert between(w, "insert") >= 60
    assert 1800 <= w.seconds < 1800 + 300
    w.assert_no_vm_is_left()


def test_a_vm_that_nothing_is_known_of_is_deleted_when_the_half_hour_is_over(world: NewWorld) -> None:
    w = world({"outcome": None})
    refused = [RATE_LIMIT] * 1000
    w.cloud.compute.answers = {"get_operation": [RATE_LIMIT], "insert": [None, *refused], "get": refused}
    w.run(zones=ZONES[:1])
    assert w.error["tags"] == ["VmNotMade"]
    assert len(w.bodies()) == 1
    w.assert_no_vm_is_left()


@cases(SOME)
def test_the_image_and_the_job_are_asked_for_again(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.answers["get_from_family"] = [answer] * 8
    w.cloud.objects["gs://b/job.json"] = {"container": {"image": "busybox"}}
    w.cloud.storage_answers = [answer] * 8
    assert w.run(job="gs://b/job.json")["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "refusal", [("quotaExceeded", "Quota 'CPUS' exceeded.  Limit: 2.0 in region us-a1."), ("insufficientCapacity", "no")], ids=str
)
def test_a_vm_whose_insert_was_not_answered_is_deleted_though_the_next_one_is_refused(
    world: NewWorld, refusal: tuple[str, str]
) -> None:
    """The first VM itself may be what uses up the quota."""
    w = world({"outcome": None})
    w.cloud.compute.answers = {"get_operation": [RATE_LIMIT], "insert": [None, *[error(403, *refusal)] * 9]}
    w.run(zones=ZONES[:1])
    assert len(w.bodies()) == 1
    assert w.error["tags"][0] == "NoCapacity"
    w.assert_no_vm_is_left()


# Elsewhere.


@cases(ELSEWHERE)
def test_a_zone_that_has_none_of_it_is_passed_over(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.missing = {ZONES[0]: answer}
    result = w.run(zones=ZONES)
    assert [row["zone"] for row in result["workflow"]["attempts"]] == [ZONES[1]]
    assert w.seconds < 500, "nothing is waited for"


@cases(ELSEWHERE)
def test_where_no_zone_has_it_the_error_says_what_each_lacks(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.missing = dict.fromkeys(ZONES, answer)
    w.run(zones=ZONES)
    assert w.error["tags"] == ["NoCapacity"]
    words = answer[1]["error"]["message"]
    assert w.error["message"].count(words) == 2
    assert (w.error["warnings"], w.error["attempts"]) == ([], [])


REGION_QUOTA = "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-a1."


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by the operation"])
def test_a_quota_of_a_region_is_no_reason_to_try_its_other_zones(world: NewWorld, at_once: bool) -> None:
    w = world()
    if at_once:
        w.cloud.compute.missing = dict.fromkeys(ZONES, error(403, "quotaExceeded", REGION_QUOTA))
    else:
        w.cloud.compute.failures = {zone: [("QUOTA_EXCEEDED", REGION_QUOTA)] * 9 for zone in ZONES}
    result = w.run(zones=TWO_REGIONS)
    assert result["workflow"]["attempts"][0]["zone"] == "us-b1-a"
    assert w.calls("insert") == 2
    w = world()
    w.cloud.compute.missing = dict.fromkeys(ZONES, error(403, "quotaExceeded", REGION_QUOTA))
    w.run(zones=ZONES)
    assert w.error["tags"] == ["NoCapacity", "QuotaExceeded"]
    assert "ask for more of this quota" in w.error["message"]


def test_a_subnetwork_that_is_full_is_left_for_another_region(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.failures = {zone: [("IP_SPACE_EXHAUSTED", "IP space of 's' is exhausted.")] for zone in ZONES}
    assert w.run(zones=TWO_REGIONS)["workflow"]["attempts"][0]["zone"] == "us-b1-a"
    assert w.calls("insert") == 2


def test_a_quota_of_the_whole_project_is_no_reason_to_try_any_zone(world: NewWorld) -> None:
    w = world()
    everywhere = error(403, "quotaExceeded", "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.")
    w.cloud.compute.answers["insert"] = [everywhere] * 9
    w.run(zones=TWO_REGIONS)
    assert w.error["tags"] == ["NoCapacity", "QuotaExceeded"]
    assert "ask for more of this quota" in w.error["message"]
    assert w.calls("insert") == 1


# Again: the VM came to nothing by itself.


@cases(AGAIN)
def test_a_vm_that_never_ran_does_not_count_as_an_attempt(world: NewWorld, answer: tuple[str, str]) -> None:
    w = world({"outcome": PREEMPTED}, {})
    w.cloud.compute.failures = {ZONES[0]: [answer]}
    result = w.run(zones=ZONES, max_attempts=2)
    assert [(row["zone"], row["cause"]) for row in result["workflow"]["attempts"]] == [
        (ZONES[1], "PREEMPTED"),
        (ZONES[0], "NONE"),
    ]
    w.assert_no_vm_is_left()


@cases(AGAIN)
def test_where_there_is_one_zone_it_is_tried_again_thrice(world: NewWorld, answer: tuple[str, str]) -> None:
    w = world()
    w.cloud.compute.failures = {ZONES[0]: [answer] * 2}
    result = w.run(zones=ZONES[:1])
    assert len(result["workflow"]["attempts"]) == 1
    assert between(w, "insert") >= 60
    w = world()
    w.cloud.compute.failures = {ZONES[0]: [answer] * 9}
    w.run(zones=ZONES[:1])
    assert w.error["tags"] == ["VmNotMade"]
    assert w.calls("insert") == 3


# Final.


@cases(FINAL)
def test_what_no_repetition_mends_is_an_error_that_says_what_does(world: NewWorld, answer: tuple[Answer, str]) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [answer[0]]
    w.run(zones=ZONES)
    assert w.calls("insert") == 1
    assert w.error["code"] == answer[0][0]
    assert w.error["tags"][0] == "VmNotMade"
    assert answer[1] in w.error["message"]
    assert ZONES[0] in w.error["message"]
    assert w.seconds < 60


@pytest.mark.parametrize(
    ("call", "answer", "args", "words"),
    [
        ("get_from_family", not_found(f"{P}/global/images/family/mine"), {"image_family": "mine"}, "image family mine: notFound"),
        ("get_from_family", error(403, "forbidden", "Required 'compute.images.getFromFamily'"), {}, "role of role.yaml"),
        ("storage", (404, "No such object: b/job.json"), {"job": "gs://b/job.json"}, "No such object: b/job.json"),
        (
            "storage",
            error(403, "forbidden", "w@p.iam does not have storage.objects.get access to the Google Cloud Storage object."),
            {"job": "gs://b/job.json"},
            "roles/storage.objectViewer on the bucket",
        ),
    ],
)
def test_an_image_or_a_job_that_is_refused_is_an_error_that_names_it(
    world: NewWorld, call: str, answer: Answer, args: dict[str, Any], words: str
) -> None:
    w = world()
    w.cloud.storage_answers = [answer] if call == "storage" else []
    w.cloud.compute.answers[call] = [answer]
    w.run(**args)
    assert w.error["tags"][0] == "RequestFailed"
    assert words in w.error["message"]
    assert args.get("job", "image family") in w.error["message"]
    assert not w.calls("insert")


@pytest.mark.parametrize("job", ["{", "[]", [1], 7, "null"], ids=str)
def test_an_object_that_is_no_job_spec_is_an_error(world: NewWorld, job: Any) -> None:
    w = world()
    w.cloud.objects["gs://b/job.json"] = job
    w.run(job="gs://b/job.json")
    assert w.error["tags"] == ["InvalidArgument"]
    assert "gs://b/job.json" in w.error["message"]


# The end of the VM.


@cases(LATER)
def test_a_delete_that_comes_too_soon_is_asked_for_again(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.answers["delete"] = [answer] * 8
    assert w.run()["workflow"]["warnings"] == []
    assert between(w, "delete") <= 61
    w.assert_no_vm_is_left()


@cases(SOME)
def test_a_delete_whose_operation_cannot_be_asked_is_asked_for_again(world: NewWorld, answer: Answer) -> None:
    w = world()
    w.cloud.compute.answers["get_operation"] = [None] * 2 + [answer] * 8
    assert w.run()["workflow"]["warnings"] == []
    w.assert_no_vm_is_left()


def test_a_vm_that_cannot_be_deleted_for_half_an_hour_is_named_with_the_command_that_does(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["delete"] = [CONCURRENT_OPERATIONS] * 1000
    (warning,) = w.run()["workflow"]["warnings"]
    name = w.bodies()[0]["name"]
    assert f"gcloud compute instances delete {name} --zone=europe-west1-b --project=fake-project" in warning
    assert w.calls("delete") >= 30


def test_an_insert_and_a_delete_that_are_both_refused_name_the_vm(world: NewWorld) -> None:
    """The VM may be there: the insert's answer was that of its poll."""
    w = world({"outcome": None})
    w.cloud.compute.answers = {
        "get_operation": [error(403, "forbidden", "Required 'compute.zoneOperations.get' permission")],
        "delete": [error(403, "forbidden", "Required 'compute.instances.delete' permission")],
    }
    w.run(zones=ZONES)
    (name,) = (body["name"] for body in w.bodies())
    assert name in w.error["message"]
    assert name in w.error["warnings"][0]
    assert w.error["code"] == 403


@pytest.mark.parametrize(
    ("second", "tag"),
    [
        ("no room", "NoCapacity"),
        ("no report", "BadReport"),
        ("fails", "JobFailed"),
        ("refused", "VmNotMade"),
        ("broken", "RequestFailed"),
    ],
)
def test_a_vm_that_was_left_behind_is_named_in_every_error_that_follows(
    world: NewWorld, second: str, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = {**PREEMPTED, "cause": "EXIT_CODE", "exit_code": 3, "retryable": False} if second == "fails" else None
    w = world({"outcome": PREEMPTED}, {"outcome": outcome})
    w.cloud.compute.answers["delete"] = [error(403, "forbidden", "no")]
    boot, await_callback = w.cloud.compute.boot, w.cloud.await_callback

    def booted(instance: Any) -> Any:
        first = not w.cloud.compute.history
        if first and second == "no room":
            w.cloud.compute.exhausted = dict.fromkeys(ZONES, "ZONE_RESOURCE_POOL_EXHAUSTED")
        if first and second == "refused":
            w.cloud.compute.answers["insert"] = [error(403, "forbidden", "no")]
        if not first and second == "no report":
            w.cloud.clock.after(30, lambda: w.cloud.post(instance.attributes()["callback-url"], "done"))
        return boot(instance)

    def awaited(url: str, timeout: float) -> Any:
        if second == "broken" and len(w.cloud.compute.history) > 1:
            raise ValueError("broken")
        return await_callback(url, timeout)

    w.cloud.compute.boot = booted
    monkeypatch.setattr(w.cloud, "await_callback", awaited)
    w.run(zones=ZONES)
    name = w.bodies()[0]["name"]
    assert w.error["tags"][0] == tag
    assert name in w.error["message"]
    assert name in w.error["warnings"][0]
    assert w.error["attempts"][0]["cause"] == "PREEMPTED"
    assert len(w.cloud.compute.instances) == 1


def test_a_row_of_an_array_carries_the_warnings_and_the_log_their_severity(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["delete"] = [error(403, "forbidden", "no")]
    row = w.run(brief=True)
    assert row["state"] == "SUCCEEDED"
    assert w.bodies()[0]["name"] in row["warnings"][0]
    assert [severity for severity, _ in w.execution.log] == ["WARNING"]


# The wait.


@cases(SOME)
def test_a_status_that_cannot_be_read_is_no_end_of_the_vm(world: NewWorld, answer: Answer) -> None:
    w = world({"run_s": 4 * 3600})
    w.cloud.compute.answers["get"] = [answer] * 30
    assert w.run(max_attempts=1)["state"] == "SUCCEEDED"


@cases(SOME)
def test_guest_attributes_that_cannot_be_read_for_a_while_are_no_silence(world: NewWorld, answer: Answer) -> None:
    w = world({"run_s": 4 * 3600})
    w.cloud.compute.answers["get_guest_attributes"] = [answer] * 60
    assert w.run(max_attempts=1)["state"] == "SUCCEEDED"


@cases(SOME)
def test_an_agent_that_falls_silent_is_found_out_though_requests_are_refused_at_times(world: NewWorld, answer: Answer) -> None:
    w = world({"outcome": None, "silent_after_s": 900, "serial": "the last words\n"})
    refused = [None if number % 3 else answer for number in range(3000)]
    w.cloud.compute.answers = {
        "get_guest_attributes": list(refused),
        "get": list(refused),
        "get_serial_port_output": [answer] * 2,
    }
    result = w.run(max_attempts=1)
    assert result["cause"] == "AGENT_SILENT"
    assert result["evidence"] == ["the last words\n"]
    assert 900 + 600 <= w.seconds < 900 + 600 + 30 * 60


@pytest.mark.parametrize(
    "answer",
    [error(403, "forbidden", "Required 'compute.instances.get' permission"), RATE_LIMIT, (503, None), (404, None)],
    ids=["403", "rate limit", "503", "404"],
)
@pytest.mark.parametrize("refused", [("get",), ("get_guest_attributes",), ("get", "get_guest_attributes")], ids=" and ".join)
def test_answers_that_are_refused_for_months_stay_within_the_steps_of_an_execution(
    world: NewWorld, answer: Answer, refused: tuple[str, ...]
) -> None:
    w = world({"run_s": 300 * 86_400})
    if "get" in refused:
        w.cloud.compute.boot = hoarse(w.cloud.compute.boot)
    w.execution.measure_memory = False
    w.cloud.compute.answers = {name: [answer] * 100_000 for name in refused}
    assert w.run(timeout="300d", max_attempts=1)["state"] == "SUCCEEDED"
    assert w.execution.steps < 0.9 * limits.STEPS
    print(f"300 days of refused answers: {w.execution.steps} steps, {w.execution.callback_waits} waits")


@pytest.mark.parametrize("body", [{}, "", "<html>", None, [1]], ids=str)
def test_a_status_in_no_form_of_googles_is_no_end_of_the_vm(world: NewWorld, body: Any) -> None:
    w = world({"run_s": 4 * 3600, "guest_attributes": False})
    w.cloud.compute.answers["get"] = [(200, body)] * 3
    assert w.run(max_attempts=1, silence=0)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("line", ["5", "[]", "{}", '{"state": 7}', "null"])
def test_a_line_of_the_console_that_is_no_report_is_not_taken_for_one(world: NewWorld, line: str) -> None:
    w = world({"outcome": None, "silent_after_s": 100, "serial": f"vmjob-report {line}\n"})
    assert w.run(max_attempts=1)["cause"] == "AGENT_SILENT"


@pytest.mark.parametrize("odd", [{"cause": 7}, {"message": {"a": 1}}, {"state": 7}], ids=str)
def test_a_report_with_a_field_of_another_type_is_none(world: NewWorld, odd: dict[str, Any]) -> None:
    w = world({"outcome": {"state": "FAILED", **odd}})
    w.run()
    assert w.error["tags"] == ["BadReport"]
    w.assert_no_vm_is_left()


def test_a_status_that_may_not_be_read_does_not_keep_the_workflow_waiting_for_ever(world: NewWorld) -> None:
    w = world({"outcome": None, "guest_attributes": False})
    w.cloud.compute.answers["get"] = [error(403, "forbidden", "Required 'compute.instances.get' permission")] * 10_000
    result = w.run(job={"container": {"image": "a"}, "timeout": "10m"}, max_attempts=1)
    assert result["cause"] == "TIMEOUT"
    assert "compute.instances.get" in result["evidence"][1]
    assert w.seconds < 6000 + 2 * 3600


def test_a_late_report_of_another_zones_vm_is_not_taken_for_this_ones(world: NewWorld) -> None:
    """The first VM ran though its operation failed, and reports that it was stopped."""
    w = world()
    w.cloud.compute.failures = {ZONES[0]: [("INTERNAL_ERROR", "Internal error.")]}
    insert = w.cloud.compute.insert

    def inserted(**request: Any) -> Any:
        body = request["body"]
        if request["zone"] == ZONES[0]:
            url = next(item["value"] for item in body["metadata"]["items"] if item["key"] == "callback-url")
            stopped = {**report(_Stopped(body["name"], ZONES[0]), state="FAILED", cause="VM_SHUTDOWN")}  # type: ignore[arg-type]
            w.cloud.clock.after(90, lambda: w.cloud.post(url, stopped))
        return insert(**request)

    w.cloud.compute.insert = inserted  # type: ignore[method-assign]
    result = w.run(zones=ZONES)
    assert (result["state"], result["vm"]["zone"]) == ("SUCCEEDED", ZONES[1])


class _Stopped:
    def __init__(self, name: str, zone: str) -> None:
        self.name, self.zone = name, zone


def test_a_startup_script_that_is_still_at_work_is_no_silence_and_then_no_agent(world: NewWorld) -> None:
    w = world({"outcome": None, "starts": False})
    boot = w.cloud.compute.boot

    def booted(instance: Any) -> Any:
        vm = boot(instance)
        beats = lambda: f"startup-script {int(min(vm.age(), 1500) / 60)}"  # noqa: E731
        vm.guest_attribute = lambda key: beats() if key == "vmjob/heartbeat" else None
        return vm

    w.cloud.compute.boot = booted
    result = w.run()
    assert result["cause"] == "AGENT_NEVER_STARTED"
    assert 1500 + 600 <= w.seconds < 1500 + 600 + 600


# What a machine type wants.


@pytest.mark.parametrize(
    ("machine_type", "policy"),
    [
        ("g2-standard-4", "TERMINATE"),
        ("g4-standard-48", "TERMINATE"),
        ("a2-highgpu-1g", "TERMINATE"),
        ("a3-highgpu-8g", "TERMINATE"),
        ("a4-highgpu-8g", "TERMINATE"),
        ("a4x-highgpu-4g", "TERMINATE"),
        ("z3-highmem-88", "TERMINATE"),
        ("z3-highmem-88-highlssd", "TERMINATE"),
        ("z3-highmem-176", "TERMINATE"),
        ("h4d-highmem-192-lssd", "TERMINATE"),
        ("c3-standard-192-metal", "TERMINATE"),
        ("z3-highmem-14", None),
        ("n2-standard-8", None),
        ("c4-standard-8", None),
        ("e2-standard-2", None),
        # What the file does not know: the answer tells, and the insert is made once more.
        ("x9-standard-4", "TERMINATE"),
        ("z3-highmem-8-metal", "MIGRATE"),
    ],
)
def test_on_host_maintenance_is_as_the_machine_type_wants_it(world: NewWorld, machine_type: str, policy: str | None) -> None:
    w = world()
    assert w.run(machine_type=machine_type, zones=ZONES)["workflow"]["attempts"][0]["zone"] == ZONES[0]
    assert w.bodies()[0]["scheduling"].get("onHostMaintenance") == policy
    assert w.calls("insert") == (2 if machine_type.startswith("x9") or policy == "MIGRATE" else 1)


def test_an_on_host_maintenance_that_is_refused_either_way_is_an_error(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.answers["insert"] = [error(400, "invalid", "Invalid value for 'scheduling.onHostMaintenance'")] * 9
    w.run(zones=ZONES)
    assert w.error["code"] == 400
    assert w.calls("insert") == 2


@pytest.mark.parametrize(
    ("machine_type", "disk", "disk_type"),
    [
        ("e2-small", {}, None),
        ("n2d-standard-2", {"size_gb": 50}, None),
        ("e2-small", {"type": "pd-balanced"}, "pd-balanced"),
        ("c4-standard-8", {}, None),
        ("n4-standard-2", {"size_gb": 50}, None),
        ("c4a-standard-1", {"type": "hyperdisk-balanced"}, "hyperdisk-balanced"),
        ("x9-standard-4", {}, None),
    ],
)
def test_a_disk_without_a_type_is_googles_default_for_the_machine_type(
    world: NewWorld, machine_type: str, disk: dict[str, Any], disk_type: str | None
) -> None:
    w = world()
    assert w.run(machine_type=machine_type, disk=disk)["state"] == "SUCCEEDED"
    made = w.bodies()[0]["disks"][0]["initializeParams"].get("diskType", "").rsplit("/", 1)[-1]
    assert (made or None) == disk_type


def test_every_zone_is_asked_for_its_own_types(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.exhausted = {ZONES[0]: "ZONE_RESOURCE_POOL_EXHAUSTED"}
    w.run(zones=ZONES, machine_type="n1-standard-4", gpu={"type": "nvidia-tesla-t4"}, disk={"type": "pd-balanced"})
    text = json.dumps(w.bodies()[0])
    assert f"zones/{ZONES[1]}/acceleratorTypes/nvidia-tesla-t4" in text
    assert f"zones/{ZONES[1]}/diskTypes/pd-balanced" in text
    assert f"zones/{ZONES[0]}" not in text


@pytest.mark.parametrize("name", ["insert", "get_operation"])
@pytest.mark.parametrize("answer", [error(503, "backendError", "Backend Error"), (502, "<html>bad gateway</html>")], ids=str)
def test_a_vm_whose_insert_is_never_answered_runs_its_job_once(world: NewWorld, name: str, answer: Any) -> None:
    w = world()
    request = w.cloud.compute.request

    def unheard(verb: str, path: str, query: dict[str, Any], body: Any) -> Any:
        heard = request(verb, path, query, body)
        return answer if w.cloud.compute.requests[-1] == name and not w.calls("get") else heard

    w.cloud.compute.request = unheard  # type: ignore[method-assign]
    assert w.run()["state"] == "SUCCEEDED"
    assert len(w.bodies()) == 1
    w.assert_no_vm_is_left()
