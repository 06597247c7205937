"""Where a VM is made, how long capacity is waited for, and which failures get another VM: `placements`, `wait_for_capacity`,
`retry_rules`, and what the result tells of it."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from conftest import JOB, World
from driver import limits
from driver.compute import error, not_found, stock_out

NewWorld = Callable[..., World]
PREEMPTED = {"state": "FAILED", "cause": "PREEMPTED", "exit_code": None, "message": "preempted", "retryable": True, "fault": "vm"}
ZONES = ["us-a1-a", "us-a1-b", "us-a1-c"]
HOUR = 3600


def failed(exit_code: int | None, line: str = "Traceback", cause: str = "EXIT_CODE", **more: Any) -> dict[str, Any]:
    logs = {"head": "", "tail": "", "errors": [{"line": 1, "text": line}]}
    own = {"state": "FAILED", "cause": cause, "exit_code": exit_code, "message": "failed", "fault": "job", "retryable": False}
    return {"outcome": {**own, "logs": logs, **more}}


def rows(result: dict[str, Any], *keys: str) -> list[Any]:
    found = result["workflow"]["attempts"]
    return [row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys) for row in found]


def asked(w: World) -> list[tuple[str, str, bool]]:
    return [
        (
            instance.zone,
            instance.body["machineType"].rsplit("/", 1)[1],
            instance.body["scheduling"]["provisioningModel"] == "SPOT",
        )
        for instance in w.cloud.compute.history
    ]


# The rungs.


def test_a_job_that_is_preempted_thrice_runs_on_demand(world: NewWorld) -> None:
    w = world(*[{"outcome": PREEMPTED}] * 3, {})
    result = w.run(zones=ZONES, placements=[{"spot": True, "attempts": 3}, {"spot": False}])
    assert rows(result, "spot", "cause") == [(True, "PREEMPTED")] * 3 + [(False, "NONE")]
    assert result["workflow"]["attempts_count"] == 4
    w.assert_no_vm_is_left()


def test_the_next_rung_is_used_at_once_where_no_zone_has_capacity_and_each_attempt_begins_with_the_first(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {"outcome": PREEMPTED}, {})
    began = w.cloud.clock.now()
    # Spot has no room for a while, and then it has.
    w.cloud.compute.room = lambda zone, body, now: (
        stock_out(zone) if body["scheduling"]["provisioningModel"] == "SPOT" and now < began + 300 else None
    )
    placements = [{"spot": True, "machine_types": ["n2-standard-2", "n2d-standard-2"], "attempts": 2}, {"spot": False}]
    result = w.run(zones=ZONES[:2], placements=placements)
    assert rows(result, "type", "spot") == [("e2-standard-2", False), ("n2-standard-2", True), ("n2-standard-2", True)]
    assert w.calls("insert") == 4 + 3


def test_a_rung_takes_what_it_does_not_say_from_the_arguments(world: NewWorld) -> None:
    w = world(*[{"outcome": PREEMPTED}] * 3, {})
    w.cloud.compute.regions = {"us-b1": ["us-b1-b", "us-b1-d"]}
    w.run(
        spot=True,
        machine_type="n1-standard-4",
        zones=["us-a1-a"],
        gpu={"type": "nvidia-tesla-t4"},
        disk={"size_gb": 50},
        placements=[
            {"attempts": 1},
            {"machine_types": ["g2-standard-8"], "gpu": {"type": "nvidia-l4"}, "attempts": 1},
            {"region": "us-b1", "disk": {"type": "pd-ssd"}, "attempts": 1},
            {"spot": False, "zones": ["us-c1-a"], "machine_type": "n1-standard-8", "attempts": 1},
        ],
    )
    assert asked(w) == [
        ("us-a1-a", "n1-standard-4", True),
        ("us-a1-a", "g2-standard-8", True),
        ("us-b1-b", "n1-standard-4", True),
        ("us-c1-a", "n1-standard-8", False),
    ]
    gpus = [body["guestAccelerators"][0]["acceleratorType"].rsplit("/", 1)[1] for body in w.bodies()]
    assert gpus == ["nvidia-tesla-t4", "nvidia-l4", "nvidia-tesla-t4", "nvidia-tesla-t4"]
    disks = [body["disks"][0]["initializeParams"] for body in w.bodies()]
    assert [disk["diskSizeGb"] for disk in disks] == ["50", "50", "20", "50"]
    assert disks[2]["diskType"] == "zones/us-b1-b/diskTypes/pd-ssd"


def test_machine_types_and_a_region_without_rungs(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.regions = {"us-b1": ["us-b1-b", "us-b1-d"]}
    w.cloud.compute.room = lambda zone, body, _now: (
        None if zone == "us-b1-d" and "n2d-" in body["machineType"] else stock_out(zone)
    )
    result = w.run(region="us-b1", machine_types=["n2-standard-2", "n2d-standard-2"])
    assert rows(result, "zone", "type") == [("us-b1-d", "n2d-standard-2")]


def test_a_region_that_is_not_there_is_an_error_that_names_it(world: NewWorld) -> None:
    w = world()
    w.run(region="us-z9")
    assert w.error["tags"] == ["RequestFailed", "notFound"]
    assert "failed to look up the region us-z9" in w.error["message"]


@pytest.mark.parametrize(
    ("args", "vms"),
    [
        ({"placements": [{"spot": True, "attempts": 2}, {"attempts": 1}]}, 3),
        ({"placements": [{"spot": True}, {}]}, 6),
        ({"placements": [{"spot": True, "attempts": 4}, {}], "max_attempts": 2}, 2),
        ({"placements": [{"spot": True, "attempts": 1}], "max_attempts": 9}, 1),
        ({"max_attempts": 5}, 5),
        ({"machine_types": ["e2-small", "e2-medium"]}, 3),
        ({}, 3),
    ],
)
def test_the_vms_that_ran_are_bounded_by_the_rungs_and_by_max_attempts(world: NewWorld, args: dict[str, Any], vms: int) -> None:
    w = world({"outcome": PREEMPTED})
    result = w.run(zones=ZONES, **args)
    assert w.error["tags"] == ["JobFailed", "PREEMPTED"], "the last report, and no lack of capacity"
    assert len(w.bodies()) == result["workflow"]["attempts_count"] == vms


def test_a_zone_that_has_just_preempted_is_the_last_to_be_tried(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED}, {"outcome": PREEMPTED}, {})
    assert rows(w.run(zones=ZONES, spot=True), "zone") == ["us-a1-a", "us-a1-b", "us-a1-a"]
    w = world({"outcome": PREEMPTED}, {})
    assert rows(w.run(zones=ZONES[:1], spot=True), "zone") == ["us-a1-a", "us-a1-a"]


def test_the_zones_that_google_names_are_tried_first(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.room = lambda zone, _body, _now: None if zone == "us-a1-d" else stock_out(zone, "us-a1-d,us-a1-e")
    assert rows(w.run(zones=[*ZONES, "us-a1-d"]), "zone") == ["us-a1-d"]
    assert w.calls("insert") == 2


@pytest.mark.parametrize("hint", ["", "us-a1-a", "us-x1-a", "xus-a1-c", None], ids=repr)
def test_a_hint_that_does_not_help_passes_no_zone_over(world: NewWorld, hint: str | None) -> None:
    w = world()
    w.cloud.compute.room = lambda zone, _body, _now: None if zone == "us-a1-c" else stock_out(zone, hint)
    assert rows(w.run(zones=ZONES), "zone") == ["us-a1-c"]
    assert w.calls("insert") == 3


# Waiting.


def test_a_stock_out_of_a_minute_in_the_one_zone_is_waited_for(world: NewWorld) -> None:
    w = world()
    began = w.cloud.clock.now()
    w.cloud.compute.room = lambda zone, _body, now: stock_out(zone) if now < began + 60 else None
    assert rows(w.run(zones=ZONES[:1], wait_for_capacity="10m"), "zone") == [ZONES[0]]


def test_a_stock_out_of_five_hours_is_waited_for_with_a_line_for_each_round(world: NewWorld) -> None:
    w = world()
    began = w.cloud.clock.now()
    w.cloud.compute.room = lambda zone, _body, now: stock_out(zone) if now < began + 5 * HOUR else None
    result = w.run(zones=ZONES, wait_for_capacity="24h", placements=[{"spot": True}, {"spot": False}])
    assert rows(result, "zone", "spot") == [("us-a1-a", True)]
    assert 5 * HOUR <= w.seconds < 6 * HOUR
    first = [at for (name, at) in w.cloud.compute.times if name == "insert"][::6]
    pauses = [later - earlier for earlier, later in itertools.pairwise(first)]
    assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(pauses))
    assert 60 <= pauses[0] < 180
    assert 900 <= pauses[-1] < 1000
    notices = [text for severity, text in w.execution.log if severity == "NOTICE"]
    assert len(notices) == len(pauses)
    assert "e2-standard-2 in us-a1-a: ZONE_RESOURCE_POOL_EXHAUSTED" in notices[0]
    assert "next in 900 s" in notices[-1]
    assert len(w.cloud.endpoints) == 1, "nothing was made, so the endpoint is still unknown to any VM"


def test_a_day_of_waiting_is_less_than_10000_steps_and_ends_in_no_capacity(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.room = lambda zone, _body, _now: stock_out(zone)
    w.run(zones=ZONES, wait_for_capacity="24h")
    assert w.error["tags"] == ["NoCapacity"]
    assert 24 * HOUR <= w.seconds < 24 * HOUR + 900
    assert w.execution.steps + w.execution.polls < 10_000
    assert w.execution.peak_bytes < limits.VARIABLES_BYTES / 4
    print(f"24 h in three zones: {w.execution.steps} steps, {w.execution.polls} polls, {w.execution.api_calls} calls")


def test_a_day_of_waiting_and_300_days_of_a_job_are_less_than_100000_steps(world: NewWorld) -> None:
    w = world({"run_s": 300 * 86_400})
    w.execution.measure_memory = False
    began = w.cloud.clock.now()
    w.cloud.compute.room = lambda zone, _body, now: stock_out(zone) if now < began + 23.9 * HOUR else None
    w.cloud.compute.answers["get_guest_attributes"] = [error(403, "forbidden", "no")] * 100_000
    result = w.run(zones=ZONES, wait_for_capacity="24h", placements=[{"spot": True}, {"spot": False}], timeout="300d")
    assert result["state"] == "SUCCEEDED"
    assert w.execution.steps < limits.STEPS
    print(f"24 h of waiting and 300 days: {w.execution.steps} steps, {w.execution.api_calls} calls")


def test_a_quota_that_is_used_up_is_waited_for(world: NewWorld) -> None:
    w = world()
    quota = {"code": "QUOTA_EXCEEDED", "message": "Quota 'CPUS' exceeded.  Limit: 24.0 in region us-a1."}
    w.cloud.compute.answers["insert"] = [error(403, "quotaExceeded", "Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 32.0 globally.")]
    began = w.cloud.clock.now()
    w.cloud.compute.room = lambda _zone, _body, now: quota if now < began + HOUR else None
    assert rows(w.run(zones=ZONES, wait_for_capacity=2 * HOUR), "zone") == [ZONES[0]]


def test_a_type_that_no_zone_has_is_not_waited_for(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.missing = {zone: not_found(f"projects/p/zones/{zone}/machineTypes/x9-standard-4") for zone in ZONES}
    w.run(zones=ZONES, machine_type="x9-standard-4", wait_for_capacity="24h")
    assert w.error["tags"] == ["NoCapacity"]
    assert w.seconds < 60


def test_what_no_repetition_mends_ends_the_waiting(world: NewWorld) -> None:
    w = world()
    refused = [None] * 4 + [error(403, "forbidden", "Required 'compute.instances.create' permission")]
    w.cloud.compute.answers["insert"] = refused
    w.cloud.compute.room = lambda zone, _body, _now: stock_out(zone)
    w.run(zones=ZONES, wait_for_capacity="24h")
    assert w.error["tags"][0] == "VmNotMade"
    assert w.seconds < HOUR


def test_vms_that_come_to_nothing_are_tried_again_for_as_long_as_capacity_is_waited_for(world: NewWorld) -> None:
    w = world()
    w.cloud.compute.failures = {ZONES[0]: [("INTERNAL_ERROR", "Internal error.")] * 6}
    assert w.run(zones=ZONES[:1], wait_for_capacity="2h")["state"] == "SUCCEEDED"


def test_each_attempt_waits_for_as_long(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED, "run_s": 3 * HOUR}, {})
    boot = w.cloud.compute.boot

    def booted(instance: Any) -> Any:
        until = w.cloud.clock.now() + 4 * HOUR
        w.cloud.compute.room = lambda zone, _body, now: stock_out(zone) if now < until else None
        return boot(instance)

    w.cloud.compute.boot = booted
    assert rows(w.run(zones=ZONES[:1], wait_for_capacity="2h"), "cause") == ["PREEMPTED", "NONE"]


# Rules.


def test_a_rule_tries_again_so_often_and_pauses_before(world: NewWorld) -> None:
    w = world(failed(75))
    result = w.run(retry_rules=[{"on": ["EXIT_CODE:75"], "times": 3, "pause": "2m"}], max_attempts=9)
    assert rows(result, "rule") == [0, 0, 0, 0]
    assert w.error["tags"] == ["JobFailed", "EXIT_CODE"]
    ends = [at for name, at in w.cloud.compute.times if name == "delete"]
    inserts = [at for name, at in w.cloud.compute.times if name == "insert"]
    assert all(insert - end >= 120 for insert, end in zip(inserts[1:], ends, strict=False))


def test_out_of_memory_then_grown(world: NewWorld) -> None:
    w = world(failed(137, cause="OOM_KILLED"), failed(137, cause="OOM_KILLED"), {})
    rules = [{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8", "n2-highmem-16"]}]
    result = w.run(retry_rules=rules, zones=ZONES)
    assert rows(result, "type", "cause") == [
        ("e2-standard-2", "OOM_KILLED"),
        ("n2-highmem-8", "OOM_KILLED"),
        ("n2-highmem-16", "NONE"),
    ]
    w = world(failed(137, cause="OOM_KILLED"))
    result = w.run(retry_rules=rules, max_attempts=9)
    assert rows(result, "type") == ["e2-standard-2", "n2-highmem-8", "n2-highmem-16"]


def test_what_has_grown_stays_so_on_every_rung_and_after_other_ends(world: NewWorld) -> None:
    w = world(failed(137, cause="OOM_KILLED"), {"outcome": PREEMPTED}, {"outcome": PREEMPTED}, {})
    result = w.run(
        retry_rules=[{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8"]}],
        placements=[{"spot": True, "machine_types": ["e2-small", "e2-medium"], "attempts": 3}, {"spot": False}],
    )
    assert rows(result, "type", "spot") == [
        ("e2-small", True),
        ("n2-highmem-8", True),
        ("n2-highmem-8", True),
        ("n2-highmem-8", False),
    ]


@pytest.mark.parametrize(
    ("rules", "vms", "attempts", "rule"),
    [
        # The first that fits decides, also when it is spent.
        ([{"on": ["EXIT_CODE:75"], "times": 1}, {"on": ["EXIT_CODE"], "times": 5}], [failed(75)], 2, 0),
        ([{"on": ["EXIT_CODE:7"], "times": 5}, {"on": ["EXIT_CODE"], "times": 2}], [failed(75)], 3, 1),
        # None fits: `retryable` decides.
        ([{"on": ["OOM_KILLED"], "times": 5}], [failed(75)], 1, None),
        ([{"on": ["OOM_KILLED"], "times": 5}], [{"outcome": PREEMPTED}], 9, None),
        ([], [failed(1)], 1, None),
        # A rule may be stricter than `retryable`.
        ([{"on": ["PREEMPTED"], "times": 1}], [{"outcome": PREEMPTED}], 2, 0),
        # Without a bound of its own it ends when the job fails in the same way twice, and not for a VM's end.
        ([{"on": ["EXIT_CODE"]}], [failed(1, "KeyError: 7")], 2, 0),
        ([{"on": ["EXIT_CODE"]}], [failed(1, "a"), failed(1, "b"), failed(2, "b"), failed(1, "a")], 4, 0),
        ([{"on": ["EXIT_CODE"]}], [failed(1, "a"), failed(1, "b"), {}], 3, None),
        ([{"on": ["EXIT_CODE", "PREEMPTED"]}], [{"outcome": PREEMPTED}], 9, None),
        ([{"on": ["SIGNAL"]}], [failed(None, "x", cause="SIGNAL")], 9, None),
        ([{"on": ["EXIT_CODE"]}], [failed(1, logs=None)], 2, 0),
        ([{"on": ["EXIT_CODE"]}], [failed(1, logs={"errors": "none"})], 2, 0),
        ([{"on": ["EXIT_CODE"]}], [failed(1, logs={"errors": [{"text": 7}]})], 2, 0),
        # Both bounds hold.
        (
            [{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8", "n2-highmem-16"], "times": 1}],
            [failed(137, cause="OOM_KILLED")],
            2,
            0,
        ),
        # What is over is over.
        ([{"on": ["CANCELLED"], "times": 5}], [{"outcome": {"state": "CANCELLED", "cause": "CANCELLED"}}], 1, None),
        ([{"on": ["NONE"], "times": 5}], [{}], 1, None),
        # A VM that the workflow itself reports of.
        ([{"on": ["AGENT_NEVER_STARTED"], "times": 1}], [{"starts": False}], 2, 0),
    ],
)
def test_the_first_rule_that_fits_decides(
    world: NewWorld, rules: list[Any], vms: list[dict[str, Any]], attempts: int, rule: int | None
) -> None:
    w = world(*vms)
    result = w.run(retry_rules=rules, max_attempts=9)
    assert len(w.bodies()) == attempts
    assert rows(result, "rule")[-1] == rule
    w.assert_no_vm_is_left()


def test_a_rule_is_bounded_by_max_attempts(world: NewWorld) -> None:
    w = world(failed(75))
    w.run(retry_rules=[{"on": ["EXIT_CODE:75"], "times": 5}])
    assert len(w.bodies()) == 3


# What is told.


def test_the_result_tells_the_first_three_and_the_last_twenty_vms_and_counts_all(world: NewWorld) -> None:
    w = world({"outcome": PREEMPTED})
    result = w.run(spot=True, max_attempts=40, zones=["us-central1-a", "northamerica-northeast1-b"])
    names = [instance.name for instance in w.cloud.compute.history]
    assert rows(result, "vm") == names[:3] + names[-20:]
    assert result["workflow"]["attempts_count"] == 40
    assert all(len(json.dumps(row)) <= 300 for row in result["workflow"]["attempts"])


def test_the_result_tells_the_time_that_was_paid_for_and_what_of_it_was_lost(world: NewWorld) -> None:
    durations = {"pull": 20.5, "run": 200.0}
    w = world({"outcome": {**PREEMPTED, "durations_s": durations}}, {"outcome": {"durations_s": durations}})
    result = w.run(placements=[{"spot": True, "attempts": 1, "usd_per_hour": 0.36}, {"usd_per_hour": 3.6}])
    cost = result["workflow"]["cost"]
    seconds = rows(result, "seconds")
    assert all(330 < s < 420 for s in seconds)
    assert (cost["vm_s"], cost["lost_s"], cost["pull_s"]) == (sum(seconds), 200.0, 41.0)
    assert cost["usd"] == pytest.approx(seconds[0] * 0.0001 + seconds[1] * 0.001, rel=0.01)
    w = world({"outcome": None, "ends_after_s": 300, "ends_as": "GONE"}, {})
    result = w.run(placements=[{"spot": True, "attempts": 1, "usd_per_hour": 0.36}, {}])
    assert "usd" not in result["workflow"]["cost"], "the price of one rung that ran is not known"
    assert result["workflow"]["cost"]["lost_s"] == rows(result, "seconds")[0], "the job's own time is not known"


# Wrong arguments.


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"placements": []}, "`placements` is empty"),
        ({"placements": {"spot": True}}, '`placements` is {"spot":true}: write a list of maps, [{…}]'),
        ({"placements": ["spot"]}, "`placements[0]` is of type string: write a map, {…}"),
        ({"placements": [{}, {"machine": "e2-small"}]}, "unknown argument `placements[1].machine`"),
        ({"placements": [{"spot": "yes"}]}, '`placements[0].spot` is "yes": write true or false'),
        ({"placements": [{"machine_types": []}]}, "`placements[0].machine_types` is []: write a list of one or more names, suc"),
        ({"placements": [{"machine_types": [7]}]}, "`placements[0].machine_types` is [7]: write a list of one or more names, su"),
        ({"placements": [{"zones": "us-a1-a"}]}, '`placements[0].zones` is "us-a1-a": write a list of one or more names, such'),
        ({"placements": [{"attempts": 0}]}, "`placements[0].attempts` is 0: write a whole number from 1 to 9999"),
        ({"placements": [{"attempts": "3"}]}, '`placements[0].attempts` is "3": write a whole number from 1 to 9999'),
        ({"placements": [{"zones": ["us-a1-a"], "region": "us-a1"}]}, "say `zones` or `region`, not both"),
        ({"placements": [{"gpu": {"count": 1}}]}, "`placements[0].gpu` needs a type"),
        ({"placements": [{"gpu": {"typ": "nvidia-l4"}}]}, "unknown argument `placements[0].gpu.typ`"),
        ({"placements": [{"disk": {"size": 1}}]}, "unknown argument `placements[0].disk.size`"),
        (
            {"placements": [{"usd_per_hour": "0.3"}]},
            '`placements[0].usd_per_hour` is "0.3": write US dollars an hour, such as 0.',
        ),
        ({"zones": ["us-a1-a"], "region": "us-a1"}, "say `zones` or `region`, not both"),
        ({"region": ["us-a1"]}, '`region` is ["us-a1"]: write a name in lower case, such as e2-standard-2 or'),
        ({"machine_types": "e2-small"}, '`machine_types` is "e2-small": write a list of one or more names, such as ['),
        ({"machine_types": [""]}, '`machine_types` is [""]: write a list of one or more names, such as ["us-ce'),
        ({"wait_for_capacity": "a day"}, '`wait_for_capacity` is "a day": write a duration, such as 90s or 1h30m, or '),
        ({"wait_for_capacity": True}, "`wait_for_capacity` is true: write a duration, such as 90s or 1h30m, or sec"),
        ({"retry_rules": {"on": ["OOM_KILLED"]}}, '`retry_rules` is {"on":["OOM_KILLED"]}: write a list of maps, [{…}]'),
        ({"retry_rules": ["OOM_KILLED"]}, "`retry_rules[0]` is of type string: write a map, {…}"),
        ({"retry_rules": [{"times": 3}]}, "`retry_rules[0]` needs `on`, the causes"),
        ({"retry_rules": [{"on": "OOM_KILLED"}]}, '`retry_rules[0].on` is "OOM_KILLED": write a list of causes, such as ["OOM_'),
        ({"retry_rules": [{"on": []}]}, '`retry_rules[0].on` is []: write a list of causes, such as ["OOM_KILLED", "'),
        ({"retry_rules": [{"on": ["OOM_KILLED"], "retries": 3}]}, "unknown argument `retry_rules[0].retries`"),
        (
            {"retry_rules": [{"on": ["OOM_KILLED"], "times": 0}]},
            "`retry_rules[0].times` is 0: write a whole number from 1 to 9999",
        ),
        (
            {"retry_rules": [{"on": ["OOM_KILLED"], "pause": "soon"}]},
            '`retry_rules[0].pause` is "soon": write a duration, such as 90s or 1h30m, o',
        ),
        (
            {"retry_rules": [{"on": ["OOM_KILLED"], "grow": []}]},
            '`retry_rules[0].grow` is []: write a list of one or more names, such as ["u',
        ),
        (
            {
                "job": {"container": {"image": "a", "memory": "8g"}},
                "retry_rules": [{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8"]}],
            },
            "`grow` gives the job more memory only where `container.memory` does not bound it",
        ),
    ],
)
def test_a_wrong_argument_is_an_error_before_there_is_a_vm(world: NewWorld, args: dict[str, Any], words: str) -> None:
    w = world()
    w.run(**args)
    assert words in w.error["message"]
    assert w.error["tags"] == ["InvalidArgument"]
    assert not w.cloud.compute.requests


@pytest.mark.parametrize("job", ["gs://b/job.json", "docker run -m 1g busybox", "docker run --memory=1g busybox"])
def test_a_job_that_bounds_its_own_memory_cannot_grow(world: NewWorld, job: str) -> None:
    w = world()
    w.cloud.objects["gs://b/job.json"] = {**JOB, "container": {**JOB["container"], "memory": "1g"}}
    w.run(job=job, retry_rules=[{"on": ["OOM_KILLED"], "grow": ["n2-highmem-8"]}])
    assert w.error["tags"] == ["InvalidArgument"]
    assert not w.bodies()
    w.run(job=job, retry_rules=[{"on": ["OOM_KILLED"], "times": 1}])
    assert w.bodies()


def test_a_long_wait_in_many_zones_stays_within_the_steps_of_an_execution(world: NewWorld) -> None:
    w = world()
    zones = [f"us-a1-{letter}" for letter in "abcdefgh"]
    began = w.cloud.clock.now()
    w.cloud.compute.room = lambda zone, _body, now: None if now - began > 12 * 3600 else stock_out(zone)
    assert w.run(zones=zones, wait_for_capacity="60d")["state"] == "SUCCEEDED"
    assert w.calls("insert") <= 20 * len(zones), "the pauses grow on"


@pytest.mark.parametrize("answer", [{"name": "us-a1", "status": "UP"}, {"name": "us-a1", "zones": []}], ids=str)
def test_a_region_without_zones_is_named(world: NewWorld, answer: dict[str, Any]) -> None:
    w = world()
    w.cloud.compute.answers["get_region"] = [(200, answer)]
    w.run(region="us-a1")
    assert w.error["tags"] == ["InvalidArgument"]
    assert w.error["message"].startswith("the region us-a1 has no zone")
