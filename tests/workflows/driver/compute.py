"""The part of the Compute Engine API that the workflows call, as far as they can notice.

In: requests, faults on demand. Out: answers, and machines that boot when they are inserted and end when they are deleted.
Source: <https://cloud.google.com/compute/docs/reference/rest/v1/instances>.
"""

import datetime
import itertools
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from driver import discovery
from driver.clock import Clock

MAX_RUN_S = 120 * 86_400
VALUE_BYTES, METADATA_BYTES = 256 * 1024, 512 * 1024
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
# Google's minutes, shortened: how long the two operations take.
INSERT_S, DELETE_S = 12.0, 35.0

Answer = tuple[int, Any]
AGENTS_ATTRIBUTES = ("heartbeat", "progress", "report", "state")


class Machine(Protocol):
    """What runs behind an instance."""

    def status(self) -> str: ...

    def guest_attribute(self, key: str) -> str | None: ...

    def console(self) -> str: ...

    def power_off(self) -> None: ...


@dataclass
class Instance:
    name: str
    zone: str
    body: dict[str, Any]
    created_at: float = 0.0
    machine: Machine = field(init=False)

    def attributes(self) -> dict[str, str]:
        return {item["key"]: item["value"] for item in self.body["metadata"]["items"]}


def error(code: int, reason: str, message: str, detail: str | None = None) -> Answer:
    """An error as Compute Engine sends it; `detail` is the reason of an `ErrorInfo` among its details."""
    domain = "usageLimits" if "xceeded" in reason else "global"
    whole = {"code": code, "message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}
    if detail:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": detail, "domain": "compute.googleapis.com"}
        whole["details"] = [info]
    return code, {"error": whole}


def stock_out(zone: str, zones_available: str | None = None) -> dict[str, Any]:
    """The error of an operation. Source: <https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability>."""
    message = f"The zone 'projects/p/zones/{zone}' does not have enough resources available to fulfill the request."
    if zones_available is None:
        return {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": message}
    metadatas = {"vmType": "g2-standard-8", "attachment": "nvidia-l4", "zonesAvailable": zones_available, "zone": zone}
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadatas}
    return {"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": message, "errorDetails": [{"errorInfo": info}]}


def not_found(resource: str) -> Answer:
    return error(404, "notFound", f"The resource '{resource}' was not found")


def no_instance(project: str, zone: str, instance: str) -> Answer:
    return not_found(f"projects/{project}/zones/{zone}/instances/{instance}")


# Source: <https://cloud.google.com/compute/docs/troubleshooting/troubleshoot-operation-limits>.
RATE_LIMIT = error(403, "rateLimitExceeded", "Rate Limit Exceeded")
CONCURRENT_OPERATIONS = error(403, "rateLimitExceeded", "Rate Limit Exceeded", "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED")


@dataclass
class Compute:
    clock: Clock
    boot: Callable[[Instance], Machine]
    instances: dict[tuple[str, str], Instance] = field(default_factory=dict)
    # Every instance that ever was, in order.
    history: list[Instance] = field(default_factory=list)
    operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Faults: an error in the insert operation, by zone, always or while there are some; types that a zone does not have; an
    # answer instead of the usual one, by method, while there are some.
    exhausted: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    missing: dict[str, Answer] = field(default_factory=dict)
    # Whether there is room for a VM at this time: an error of the insert's operation where there is none.
    room: Callable[[str, dict[str, Any], float], dict[str, Any] | None] = lambda _zone, _body, _now: None
    # The zones of the regions that `regions.get` knows.
    regions: dict[str, list[str]] = field(default_factory=dict)
    # The properties of instance templates, by their names from "projects/" on.
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[Answer | None]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    # When the requests were made, and the operation of each `requestId`.
    times: list[tuple[str, float]] = field(default_factory=list)
    request_ids: dict[str, dict[str, Any]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)

    def request(self, verb: str, path: str, query: dict[str, Any], body: Any) -> Answer:
        """`path` from `projects/` on."""
        name, values = route(verb, path)
        self.requests.append(name)
        self.times.append((name, self.clock.now()))
        scripted = self.answers.get(name)
        if scripted:
            answer = scripted.pop(0)
            if answer is not None:
                return answer
        return getattr(self, name)(query=query, body=body, **values)

    def get_from_family(self, family: str, project: str, **_: Any) -> Answer:
        link = f"https://www.googleapis.com/compute/v1/projects/{project}/global/images/{family}-117-18613-0-79"
        return 200, {"kind": "compute#image", "name": link.rsplit("/", 1)[1], "selfLink": link, "family": family}

    def insert(self, project: str, zone: str, body: dict[str, Any], query: dict[str, Any], **_: Any) -> Answer:
        """A `requestId` that was seen before makes no second VM: the answer is the operation of the first."""
        request_id = query.get("requestId")
        if request_id in self.request_ids:
            return self.get_operation(self.request_ids[request_id]["name"])
        template = query.get("sourceInstanceTemplate")
        if template is not None:
            if template not in self.templates:
                return not_found(template)
            # A field of the request takes the place of the template's.
            body = {**self.templates[template], **body}
            body["machineType"] = f"zones/{zone}/machineTypes/" + body["machineType"].rsplit("/", 1)[-1]
        problem = self.problem(zone, body)
        if problem:
            return error(400, "invalid", problem)
        if zone in self.missing:
            return self.missing[zone]
        if (zone, body["name"]) in self.instances:
            resource = f"projects/{project}/zones/{zone}/instances/{body['name']}"
            return error(409, "alreadyExists", f"The resource '{resource}' already exists")
        operation = self.made(zone, body)
        if request_id:
            self.request_ids[request_id] = operation
        return 200, operation

    def get_region(self, project: str, region: str, **_: Any) -> Answer:
        if region not in self.regions:
            return not_found(f"projects/{project}/regions/{region}")
        prefix = f"https://www.googleapis.com/compute/v1/projects/{project}/zones/"
        return 200, {"name": region, "status": "UP", "zones": [prefix + zone for zone in self.regions[region]]}

    def set_labels(self, project: str, zone: str, instance: str, body: Any, **_: Any) -> Answer:
        found = self.instances.get((zone, instance))
        if not found or found.machine.status() == "GONE":
            return no_instance(project, zone, instance)
        if body["labelFingerprint"] != fingerprint(found.body):
            return error(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
        found.body = {**found.body, "labels": body["labels"]}
        return 200, self.operation("setLabels", zone, 2.0)

    def made(self, zone: str, body: dict[str, Any]) -> dict[str, Any]:
        lack = self.room(zone, body, self.clock.now())
        if lack:
            operation = self.operation("insert", zone, INSERT_S, lack["code"], lack["message"])
            self.operations[operation["name"]]["end"]["error"]["errors"] = [lack]
            return operation
        if zone in self.exhausted:
            message = f"The zone '{zone}' does not have enough resources available to fulfill the request."
            return self.operation("insert", zone, INSERT_S, self.exhausted[zone], message)
        if self.failures.get(zone):
            return self.operation("insert", zone, INSERT_S, *self.failures[zone].pop(0))
        instance = Instance(body["name"], zone, body, self.clock.now())
        instance.machine = self.boot(instance)
        self.instances[zone, body["name"]] = instance
        self.history.append(instance)
        return self.operation("insert", zone, INSERT_S)

    def problem(self, zone: str, body: dict[str, Any]) -> str | None:
        """What Google would not take, beyond the schema."""
        schemas = discovery.document("compute", "v1")["schemas"]
        found = discovery.problems(body, {"$ref": "Instance"}, schemas)
        if found:
            return "; ".join(found)
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", body["name"]):
            return f"Invalid value for field 'resource.name': '{body['name']}'"
        bad = {k: v for k, v in body.get("labels", {}).items() if not (LABEL.fullmatch(k) and LABEL.fullmatch(v))}
        if bad:
            return f"Invalid labels: {bad}"
        if not body["machineType"].startswith(f"zones/{zone}/"):
            return f"Invalid value for field 'resource.machineType': '{body['machineType']}' is not in {zone}"
        items = body.get("metadata", {}).get("items", [])
        if any(len(item["value"].encode()) > VALUE_BYTES for item in items):
            return "Value for metadata is too large: maximum size is 262144"
        if sum(len(item["value"].encode()) for item in items) > METADATA_BYTES:
            return "Metadata is too large"
        if len({item["key"] for item in items}) < len(items):
            return "Metadata has duplicate keys"
        return scheduling_problem(body) or disk_problem(body)

    def delete(self, project: str, zone: str, instance: str, **_: Any) -> Answer:
        found = self.instances.get((zone, instance))
        if not found:
            return no_instance(project, zone, instance)
        found.machine.power_off()
        del self.instances[zone, instance]
        return 200, self.operation("delete", zone, DELETE_S)

    def get(self, project: str, zone: str, instance: str, query: dict[str, Any], **_: Any) -> Answer:
        found = self.instances.get((zone, instance))
        if not found:
            return no_instance(project, zone, instance)
        status = found.machine.status()
        if status == "GONE":
            del self.instances[zone, instance]
            return no_instance(project, zone, instance)
        created = datetime.datetime.fromtimestamp(found.created_at, datetime.UTC).isoformat()
        whole = {**found.body, "kind": "compute#instance", "status": status, "id": "17446744073709551557"}
        whole["labelFingerprint"] = fingerprint(found.body)
        whole["creationTimestamp"] = created
        return 200, {key: whole[key] for key in query["fields"].split(",")} if "fields" in query else whole

    def aggregated_list(self, project: str, query: dict[str, Any], **_: Any) -> Answer:
        """Those with the label of `filter`, of all zones, without their metadata; zones without any are there too."""
        label, value = re.fullmatch(r"labels\.([a-z0-9_-]+)=([a-z0-9_-]+)", query["filter"]).groups()  # type: ignore[union-attr]
        found = [
            instance for _, instance in sorted(self.instances.items()) if instance.body.get("labels", {}).get(label) == value
        ]
        found = [instance for instance in found if f"{instance.zone}/{instance.name}" > query.get("pageToken", "")]
        page = found[: int(query["maxResults"])]
        items: dict[str, Any] = {"zones/us-z9-z": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}
        for instance in page:
            zone = f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{instance.zone}"
            shown = {"name": instance.name, "zone": zone, "labels": instance.body["labels"]}
            items.setdefault(f"zones/{instance.zone}", {}).setdefault("instances", []).append(shown)
        token = {"nextPageToken": f"{page[-1].zone}/{page[-1].name}"} if len(found) > len(page) else {}
        return 200, {"items": items, **token}

    def get_guest_attributes(self, project: str, zone: str, instance: str, query: dict[str, Any], **_: Any) -> Answer:
        found = self.instances.get((zone, instance))
        if not found or found.machine.status() == "GONE":
            return no_instance(project, zone, instance)
        if "queryPath" in query:
            namespace, _, _ = query["queryPath"].partition("/")
            values = {key: found.machine.guest_attribute(f"{namespace}/{key}") for key in AGENTS_ATTRIBUTES}
            items = [{"namespace": namespace, "key": k, "value": v} for k, v in values.items() if v is not None]
            if not items:
                return error(404, "notFound", f"The resource '{namespace}/' of type 'Guest Attribute' was not found.")
            return 200, {"kind": "compute#guestAttributes", "queryPath": query["queryPath"], "queryValue": {"items": items}}
        key = query["variableKey"]
        value = found.machine.guest_attribute(key)
        if value is None:
            return error(404, "notFound", f"The resource '{key}' of type 'Guest Attribute' was not found.")
        return 200, {"kind": "compute#guestAttributes", "variableKey": key, "variableValue": value}

    def get_serial_port_output(self, project: str, zone: str, instance: str, query: dict[str, Any], **_: Any) -> Answer:
        found = self.instances.get((zone, instance))
        if not found or found.machine.status() == "GONE":
            return no_instance(project, zone, instance)
        whole = found.machine.console().encode()[-(1 << 20) :]
        start = int(query.get("start", 0))
        part = whole[start:] if start >= 0 or -start < len(whole) else whole
        return 200, {"kind": "compute#serialPortOutput", "contents": part.decode(errors="replace"), "start": str(start)}

    def get_operation(self, operation: str, **_: Any) -> Answer:
        found = self.operations[operation]
        if self.clock.now() < found["_done_at"]:
            return 200, {**found["shown"], "status": "RUNNING"}
        return 200, {**found["shown"], "status": "DONE", **found["end"]}

    def operation(self, kind: str, zone: str, seconds: float, code: str = "", message: str = "") -> dict[str, Any]:
        shown = {
            "kind": "compute#operation",
            "name": f"operation-{next(self._numbers)}",
            "operationType": kind,
            "zone": f"https://www.googleapis.com/compute/v1/projects/p/zones/{zone}",
        }
        end = {"httpErrorStatusCode": 503, "error": {"errors": [{"code": code, "message": message}]}} if code else {}
        self.operations[shown["name"]] = {"shown": shown, "end": end, "_done_at": self.clock.now() + seconds}
        return {**shown, "status": "RUNNING"}


def fingerprint(body: dict[str, Any]) -> str:
    return str(zlib.crc32(str(sorted(body.get("labels", {}).items())).encode()))


def scheduling_problem(body: dict[str, Any]) -> str | None:
    """Source: <https://cloud.google.com/compute/docs/instances/limit-vm-runtime>, …/spot."""
    scheduling = body.get("scheduling", {})
    spot = scheduling.get("provisioningModel") == "SPOT"
    run = scheduling.get("maxRunDuration")
    if run and not 30 <= int(run["seconds"]) <= MAX_RUN_S:
        return f"Invalid value for field 'resource.scheduling.maxRunDuration': {run}"
    if scheduling.get("instanceTerminationAction") and not (spot or run):
        return "instanceTerminationAction needs Spot, maxRunDuration or terminationTime"
    if spot and scheduling.get("automaticRestart", True):
        return "a Spot VM cannot be restarted automatically"
    machine_type = body["machineType"].rsplit("/", 1)[1]
    terminate = scheduling.get("onHostMaintenance") == "TERMINATE"
    if (body.get("guestAccelerators") or WITH_GPU.match(machine_type)) and not terminate:
        return "Instances with guest accelerators do not support live migration."
    if (spot or machine_type in CANNOT_MIGRATE or METAL.search(machine_type)) and not terminate:
        return "Invalid value for field 'scheduling.onHostMaintenance': 'MIGRATE'. It must be TERMINATE."
    if terminate and not spot and (machine_type.startswith("e2-") or machine_type in MUST_MIGRATE):
        return "Invalid value for field 'scheduling.onHostMaintenance': 'TERMINATE'. It must be MIGRATE."
    return None


# Source: <https://cloud.google.com/compute/docs/instances/setting-vm-host-options#limitations>; x9 is a series of the future.
WITH_GPU = re.compile("(a2|a3|a4x?|g2|g4)-")
CANNOT_MIGRATE = {"z3-highmem-88", "z3-highmem-176", "z3-highmem-88-highlssd", "h4d-highmem-192-lssd", "x9-standard-4"}
METAL = re.compile("(?<!z3-highmem-8)-metal$")
MUST_MIGRATE = {"z3-highmem-8-metal"}
HYPERDISK_ONLY = re.compile("(c4[ad]?|n4[ad]?|a4x?|g4|h4d|x4|m4)-")


def disk_problem(body: dict[str, Any]) -> str | None:
    machine_type = body["machineType"].rsplit("/", 1)[1]
    disk_type = body["disks"][0].get("initializeParams", {}).get("diskType", "").rsplit("/", 1)[-1]
    if disk_type.startswith("pd-") and HYPERDISK_ONLY.match(machine_type):
        return f"[{machine_type}, {disk_type}] features are not compatible for creating instance."
    return None


INSTANCES = r"projects/(?P<project>[^/]+)/zones/(?P<zone>[^/]+)/instances"
INSTANCE = INSTANCES + r"/(?P<instance>[^/]+)"
ROUTES = [
    ("GET", r"projects/(?P<project>[^/]+)/global/images/family/(?P<family>[^/]+)", "get_from_family"),
    ("GET", r"projects/(?P<project>[^/]+)/regions/(?P<region>[^/]+)", "get_region"),
    ("GET", r"projects/(?P<project>[^/]+)/aggregated/instances", "aggregated_list"),
    ("POST", INSTANCES, "insert"),
    ("DELETE", INSTANCE, "delete"),
    ("GET", INSTANCE, "get"),
    ("GET", INSTANCE + "/getGuestAttributes", "get_guest_attributes"),
    ("POST", INSTANCE + "/setLabels", "set_labels"),
    ("GET", INSTANCE + "/serialPort", "get_serial_port_output"),
    ("GET", r"projects/(?P<project>[^/]+)/zones/(?P<zone>[^/]+)/operations/(?P<operation>[^/]+)", "get_operation"),
]


def route(verb: str, path: str) -> tuple[str, dict[str, str]]:
    for wanted, pattern, name in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and wanted == verb:
            return name, match.groupdict()
    raise LookupError(f"no such method here: {verb} {path}")
