"""Google's discovery documents, which come with the emulator: what a connector's method takes, and the schemas of bodies.

The emulator reads these files (the one of Compute Engine has 4.7 MB) as YAML at every call, which takes seconds; this reads
them as JSON, once.
"""

import importlib.resources
import json
import re
from functools import lru_cache
from typing import Any


@lru_cache
def document(service: str, version: str) -> dict[str, Any]:
    folder = importlib.resources.files("workflows_emulator") / "discovery_documents"
    found = json.loads((folder / f"{service}_{version}.json").read_text())
    if service == "compute":
        # Newer than the emulator's copy: in compute v1 of `google-api-python-client` 2.202.
        found["schemas"]["Scheduling"]["properties"]["preemptionNoticeDuration"] = {"$ref": "Duration"}
    return found


def method(call: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the method of `googleapis.SERVICE.VERSION.RESOURCE….METHOD`."""
    _, service, version, *resources, name = call.split(".")
    found = whole = document(service, version)
    for resource in resources:
        found = found["resources"][resource]
    return whole, found["methods"][name]


def problems(value: Any, schema: dict[str, Any], schemas: dict[str, Any], path: str = "body") -> list[str]:
    """What of a request's body Google's API would not take: unknown fields, wrong types, unknown words."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, dict):
            return [f"{path} is no object"]
        found = []
        for key, item in value.items():
            below = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if below is None:
                found.append(f"{path}.{key} is unknown")
            elif "[Output Only]" in below.get("description", "")[:20] or below.get("readOnly"):
                found.append(f"{path}.{key} is output only")
            else:
                found += problems(item, below, schemas, f"{path}.{key}")
        return found
    if kind == "array":
        if not isinstance(value, list):
            return [f"{path} is no list"]
        return [p for index, item in enumerate(value) for p in problems(item, schema["items"], schemas, f"{path}[{index}]")]
    if kind == "string":
        # int64 stands in JSON as a string.
        if not isinstance(value, str) or (schema.get("format") == "int64" and not re.fullmatch(r"-?\d+", value)):
            return [f"{path} is {value!r}, no {schema.get('format', 'string')}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{path} is {value!r}, none of {schema['enum']}"]
        return []
    expected = {"integer": int, "number": (int, float), "boolean": bool}.get(kind or "", object)
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{path} is {value!r}, no {kind}"]
    return []
