"""The items of run-array.yaml: from a list, or from an object in Cloud Storage that is read in ranges."""

import json
from typing import Any

import pytest

from driver import limits
from driver.array import Array
from driver.cloud import GENERATION, Cloud
from driver.execution import Execution

URL = "gs://data/in/items.jsonl"
FORBIDDEN = (403, {"error": {"code": 403, "message": "no storage.objects.get"}})
# Of many lengths, and with characters of several bytes: whatever the page, some are cut.
ITEMS: list[dict[str, Any]] = [
    {"lr": f"0.{number}", "name": "ü€𝄞" * (3 * number % 113), "deep": number % 2 == 0, "n": -1.5e3, "q": 'a"b\\ \n'}
    for number in range(120)
]


def lines(items: list[dict[str, Any]], end: str = "\n") -> bytes:
    return (end.join(json.dumps(item, ensure_ascii=False) for item in items) + end).encode()


def with_file(content: bytes, kind: str = "application/octet-stream") -> Array:
    array = Array()
    array.cloud.objects[URL] = content
    array.cloud.content_types[URL] = kind
    return array


def given(array: Array) -> dict[int, Any]:
    return {task.index: task.argument.get("item") for task in array.tasks}


@pytest.mark.parametrize("shards", [1, 3])
def test_each_map_of_a_list_is_the_item_of_a_task(shards: int) -> None:
    array = Array()
    result = array.run(items=ITEMS[:30], shards=shards)
    assert (result["state"], result["tasks"]) == ("SUCCEEDED", 30)
    assert given(array) == dict(enumerate(ITEMS[:30]))
    assert {task.argument["task_count"] for task in array.tasks} == {30}


def test_a_task_without_items_is_given_none() -> None:
    array = Array()
    array.run(tasks=2)
    assert all("item" not in task.argument for task in array.tasks)


@pytest.mark.parametrize("shards", [1, 7])
@pytest.mark.parametrize("kind", ["application/octet-stream", "text/plain"])
def test_each_line_of_an_object_is_the_item_of_a_task(shards: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "text/plain":  # to Workflows a string, in which what was cut is replaced
        serve_as_text(monkeypatch)
    array = with_file(lines(ITEMS), kind)
    result = array.run(items=URL, shards=shards)
    assert (array.error, result["state"], result["tasks"]) == ({}, "SUCCEEDED", 120)
    assert given(array) == dict(enumerate(ITEMS))


def serve_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    http = Execution.http

    def as_text(self: Execution, verb: str, url: str, **more: Any) -> dict[str, Any]:
        answer = http(self, verb, url, **more)
        body = answer["body"]
        return {**answer, "body": body.decode(errors="replace") if isinstance(body, bytes) else body}

    monkeypatch.setattr(Execution, "http", as_text)


@pytest.mark.parametrize(
    "content",
    [
        lines(ITEMS[:25]).rstrip(b"\n"),
        lines(ITEMS[:25], "\r\n"),
        lines(ITEMS[:25]) + b"\n \n\n",
        lines(ITEMS[:20]),
        lines(ITEMS[:1]),
    ],
    ids=["no-last-newline", "crlf", "blank-end", "whole-tens", "one"],
)
def test_the_ends_of_lines_and_of_the_object_do_not_matter(content: bytes) -> None:
    count = len(content.rstrip().splitlines()) if b"\r" in content else len(content.decode().rstrip().split("\n"))
    for shards in (1, 2):
        array = with_file(content)
        result = array.run(items=URL, shards=shards)
        assert (result["state"], given(array)) == ("SUCCEEDED", dict(enumerate(ITEMS[:count])))


@pytest.mark.parametrize("shards", [1, 3])
def test_indexes_choose_lines(shards: int) -> None:
    array = with_file(lines(ITEMS))
    result = array.run(items=URL, indexes=[119, 0, 10, 85], shards=shards)
    assert (result["state"], result["tasks"]) == ("SUCCEEDED", 4)
    assert given(array) == {index: ITEMS[index] for index in (0, 10, 85, 119)}
    assert {task.argument["task_count"] for task in array.tasks} == {120}


def test_the_object_is_read_as_it_was_at_the_start() -> None:
    array = with_file(lines(ITEMS[:60]))
    seconds = array.seconds

    def overwritten(index: int) -> float:
        array.cloud.storage_answers = [(404, "No such object: data/in/items.jsonl")] if index == 0 else []
        return seconds(index)

    array.seconds = overwritten
    result = array.run(items=URL)
    assert result["failed"] == 1
    assert "failed to read the items gs://data/in/items.jsonl: HTTP 404, No such object" in result["rows"][0]["message"]


def test_every_range_is_of_the_generation_that_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, Any]] = []
    request = Cloud.request

    def noted(self: Cloud, verb: str, url: str, query: dict[str, Any], body: Any) -> Any:
        queries.extend([query] if "storage" in url else [])
        return request(self, verb, url, query, body)

    monkeypatch.setattr(Cloud, "request", noted)
    with_file(lines(ITEMS[:30])).run(items=URL, shards=2)
    assert {query.get("generation", GENERATION) for query in queries} == {GENERATION}
    assert sum("generation" not in query for query in queries) == 1


def test_ten_thousand_lines_are_counted_in_little_memory_and_few_steps() -> None:
    array = with_file(lines([{"input": f"gs://data/in/{number:05}.csv", "a": 1} for number in range(10_000)]))
    result = array.run(items=URL, shards=20, indexes=[0, 9_999])
    assert (result["state"], result["tasks"]) == ("SUCCEEDED", 2)
    assert given(array)[9_999] == {"input": "gs://data/in/09999.csv", "a": 1}
    whole = array.arrays[0]
    assert whole.peak_bytes < 400_000
    assert whole.steps < 3_000
    print(f"10,000 lines: {whole.steps} steps, {whole.api_calls} API calls, {whole.peak_bytes} bytes")


@pytest.mark.parametrize("content", [b"{}\n" * 10_000, b'{"a": "' + b"x" * 3_900 + b'"}\n', lines([{"a": "\x80" * 900}]) * 40])
def test_the_shortest_and_the_longest_lines_fit_the_memory(content: bytes) -> None:
    array = with_file(content)
    result = array.run(items=URL, shards=20, indexes=[0])
    assert result["state"] == "SUCCEEDED"
    assert max(execution.peak_bytes for execution in array.arrays) < 400_000


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "`items` is a list of 1 to 10000 maps"),
        (["a"], "`items[0]` is not a map of names"),
        ([{"a": 1}, {"b": None}], "`items[1]` is not a map of names"),
        ([{"a": [1]}], "`items[0]` is not a map of names"),
        ([{"a-b": 1}], "`items[0]` is not a map of names"),
        ([{"": 1}], "`items[0]` is not a map of names"),
        ([{"1a": 1}], "`items[0]` is not a map of names"),
        ({"a": 1}, "`items` is of type map; it takes: list or string"),
        ("https://x/y", "`items` is a list of 1 to 10000 maps, or the gs:// URL"),
        ("gs://bucket", "`items` is a list of 1 to 10000 maps, or the gs:// URL"),
        ([{}] * 10_001, "a list of 1 to 10000 maps"),
    ],
)
def test_wrong_items_are_an_error(items: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "check_argument", lambda _argument: None)
    array = Array()
    array.run(items=items)
    assert array.error["tags"] == ["InvalidArgument"]
    assert words in array.error["message"]
    assert not array.tasks


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "text/plain", "have no lines"),
        (b"\n \n", "text/plain", "have no lines"),
        (
            lines(ITEMS[:25]) + b"[1]\n" + lines(ITEMS[:5]),
            "text/plain",
            "line 26 of gs://data/in/items.jsonl is not a map of names",
        ),
        (b'{"a": 1}\n\n{"a": 1}\n', "text/plain", "line 2 of gs://data/in/items.jsonl is not a map of names"),
        (lines(ITEMS) + b'{"a": {}}\n', "text/plain", "line 121 of gs://data/in/items.jsonl is not a map of names"),
        (b'{"a": 1}\n' * 10_001, "text/plain", "have more than 10000 lines"),
        (b'{"a": "' + b"x" * 70_000 + b'"}\n', "text/plain", "a line of items has 4000 bytes at most"),
        (lines(ITEMS[:3]), "application/json", "--content-type=text/plain"),
        (lines(ITEMS[:3]), "application/json; charset=utf-8", "--content-type=text/plain"),
    ],
)
def test_a_wrong_object_is_an_error_before_any_task_is_run(content: bytes, kind: str, words: str) -> None:
    array = with_file(content, kind)
    array.run(items=URL, shards=20)
    assert array.error["tags"] == ["InvalidArgument"]
    assert words in array.error["message"]
    assert not array.tasks


def test_a_number_of_tasks_that_is_not_that_of_the_items_is_an_error() -> None:
    array = with_file(lines(ITEMS[:3]))
    array.run(items=URL, tasks=4)
    assert array.error["message"] == "`tasks` is 4, and there are 3 items; leave it out"
    array.run(items=ITEMS[:3], tasks=4)
    assert array.error["message"] == "`tasks` is 4, and there are 3 items; leave it out"
    assert array.run(items=URL, tasks=3)["state"] == "SUCCEEDED"


def test_an_object_that_may_not_be_read_is_an_error_that_says_what_to_grant() -> None:
    array = Array()
    array.cloud.storage_answers = [FORBIDDEN]
    array.run(items=URL)
    assert array.error["tags"] == ["RequestFailed"]
    assert array.error["message"].startswith(
        "failed to read the items gs://data/in/items.jsonl: HTTP 403, no storage.objects.get;"
    )
    assert "roles/storage.objectViewer" in array.error["message"]
    array.run(items="gs://data/nothing")
    assert "HTTP 404" in array.error["message"]


def test_a_storage_that_stumbles_is_asked_again() -> None:
    array = with_file(lines(ITEMS[:30]))
    array.cloud.storage_answers = [(503, "try again"), (429, "slow down")]
    assert array.run(items=URL, shards=2)["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "line", ['{"n": 01}', '{"n": 1.2.3}', '{"n": 1.}', '{"n": "\\x"}', '{"n": "\\u12"}', '{"n": "a\tb"}'], ids=ascii
)
def test_a_line_that_is_no_json_is_named_before_anything_is_started(line: str) -> None:
    array = with_file(lines(ITEMS[:12]) + line.encode() + b"\n")
    array.run(items=URL)
    assert array.error["tags"] == ["InvalidArgument"]
    assert array.error["message"].startswith(f"line 13 of {URL} is not a map")
    assert not array.tasks


@pytest.mark.parametrize(
    "value", [0, -0.0, 10, -1.5, 1e300, 1e-7, '"', "\\", "/", "\x00\t\x7f\x85", "ü€𝄞\u2028", True], ids=ascii
)
def test_every_value_of_an_item_is_given_as_it_is(value: Any) -> None:
    array = with_file(lines([{"n": value}]))
    array.run(items=URL)
    assert given(array) == {0: {"n": value}}
    array = Array()
    array.run(items=[{"n": value}])
    assert given(array) == {0: {"n": value}}


def test_a_byte_order_mark_is_named() -> None:
    array = with_file(b"\xef\xbb\xbf" + lines(ITEMS[:2]))
    array.run(items=URL)
    assert array.error["tags"] == ["InvalidArgument"]
    assert "byte order mark" in array.error["message"]
