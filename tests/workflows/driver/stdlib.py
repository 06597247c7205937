"""The standard library of Workflows, as far as the files of packaging/workflows use it.

The emulator's own has no `events`, answers KeyError from `map.get`, indents JSON, and finds with `find_all_regex` only
indexes. Source: <https://cloud.google.com/workflows/docs/reference/stdlib/overview>.
"""

import datetime
import json
import urllib.parse
import uuid
from types import SimpleNamespace
from typing import Any

import re2

from driver import current

TYPES = {bool: "boolean", bytes: "bytes", float: "double", int: "integer", str: "string", type(None): "null"}


def get_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map"
    return "list" if isinstance(value, list) else TYPES[type(value)]


def map_get(mapping: Any, keys: Any) -> Any:
    """Null where any key of the path is missing, or what should have it is no map."""
    value = mapping
    for key in keys if isinstance(keys, list) else [keys]:
        value = dict.get(value, key) if isinstance(value, dict) else None
    return value


def text(function: Any) -> Any:
    """A function of strings that takes nothing else."""

    def checked(*args: Any) -> Any:
        if not isinstance(args[0], str):
            raise TypeError(f"a string is wanted, not {get_type(args[0])}")
        return function(*args)

    return checked


def string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, str)):
        return str(value)
    raise TypeError(f"string() takes no {get_type(value)}")


def integer(value: Any) -> int:
    if isinstance(value, (int, float, str)):
        return int(value)
    raise TypeError(f"int() takes no {get_type(value)}")


def now() -> float:
    return current.execution().cloud.clock.now()


def env(name: str, default: str = "") -> str:
    return current.execution().environment.get(name, default)


def parse_time(value: str) -> float:
    return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()


def format_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def await_callback(callback: dict[str, str], timeout: float = 43_200) -> dict[str, Any]:
    return current.execution().await_callback(callback["url"], float(timeout))


def create_callback_endpoint(http_callback_method: str = "POST") -> dict[str, str]:
    return {"url": current.execution().create_endpoint(http_callback_method)}


def http_get(**request: Any) -> dict[str, Any]:
    return current.execution().http("GET", **request)


def http_post(**request: Any) -> dict[str, Any]:
    return current.execution().http("POST", **request)


def sleep(seconds: float) -> None:
    current.execution().cloud.clock.sleep(seconds)


def log(text: Any = None, severity: str = "INFO", json: Any = None) -> None:
    current.execution().log.append((severity, text if json is None else json))


# The default retry policy for calls that may be repeated, as a subworkflow.
RETRY_PREDICATE = {
    "params": ["e"],
    "steps": [
        {"code": {"assign": [{"code": '${default(map.get(e, "code"), 0)}'}]}},
        {"by_code": {"switch": [{"condition": "${code == 429 or code == 502 or code == 503 or code == 504}", "return": True}]}},
        {"result": {"return": '${"ConnectionError" in e.tags or "TimeoutError" in e.tags}'}},
    ],
}
BACKOFF = {"initial_delay": 1, "max_delay": 60, "multiplier": 1.25}

EXPRESSIONS = {
    "default": lambda value, otherwise: otherwise if value is None else value,
    "if_": lambda condition, then, otherwise: then if condition else otherwise,
    "keys": lambda mapping: list(dict.keys(mapping)),
    "len": len,
    "double": float,
    "int": integer,
    "string": string,
    "get_type": get_type,
    "null": None,
    "true": True,
    "false": False,
    "map": SimpleNamespace(
        get=map_get,
        merge=lambda first, second: {**first, **second},
        delete=lambda mapping, key: {k: v for k, v in mapping.items() if k != key},
    ),
    "list": SimpleNamespace(concat=lambda items, item: [*items, item], prepend=lambda items, item: [item, *items]),
    "math": SimpleNamespace(
        max=lambda a, b: max(a, b), min=lambda a, b: min(a, b), floor=lambda a: int(a // 1), abs=lambda a: abs(a)
    ),
    "text": SimpleNamespace(
        split=text(lambda source, separator: source.split(separator)),
        substring=text(lambda source, start, end: source[start:end]),
        replace_all=text(lambda source, old, new: source.replace(old, new)),
        replace_all_regex=text(lambda source, regexp, new: re2.sub(regexp, new, source)),
        match_regex=text(lambda source, regexp: re2.search(regexp, source) is not None),
        find_all_regex=text(
            lambda source, regexp: [{"index": m.start(), "match": m.group(0)} for m in re2.finditer(regexp, source)]
        ),
        url_encode=text(lambda source: urllib.parse.quote(source, safe="")),
        to_lower=text(str.lower),
        encode=text(lambda source, charset="UTF-8": source.encode(charset)),
        decode=lambda data, charset="UTF-8": data.decode(charset, errors="replace"),
    ),
    "json": SimpleNamespace(
        encode_to_string=lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
        decode=text(json.loads),
    ),
    "time": SimpleNamespace(parse=parse_time, format=format_time),
    "uuid": SimpleNamespace(generate=lambda: str(uuid.uuid4())),
    "sys": SimpleNamespace(now=now, get_env=env),
    "http": SimpleNamespace(
        default_retry={"predicate": RETRY_PREDICATE, "max_retries": 5, "backoff": BACKOFF},
        default_retry_predicate=RETRY_PREDICATE,
    ),
}

# Blocking: they stand in `call`, never in an expression.
CALLS = {
    "events.await_callback": await_callback,
    "events.create_callback_endpoint": create_callback_endpoint,
    "http.get": http_get,
    "http.post": http_post,
    "sys.sleep": sleep,
    "sys.log": log,
}


def names() -> dict[str, Any]:
    return EXPRESSIONS
