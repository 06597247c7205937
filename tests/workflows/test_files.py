"""What can be read off the workflow files: Google's schema, Google's limits, and slips that only show when a step is run."""

import io
import re
import tokenize
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from driver import discovery, limits, stdlib
from driver.execution import WORKFLOWS, checked
from driver.expressions import compiled

FILES = ["run-job.yaml", "run-array.yaml", "reap.yaml"]
RESERVED = {"continue", "break", "end"}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def steps(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step in a part of a file, those in blocks too."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "steps":
                for step in item:
                    yield from step.items()
            yield from steps(item)
    elif isinstance(value, list):
        for item in value:
            yield from steps(item)


def parts() -> Iterator[Any]:
    for file in FILES:
        whole = checked(WORKFLOWS / file)
        for name, part in whole.items():
            yield pytest.param(whole, part, id=f"{file}:{name}")


WHOLES_AND_PARTS = list(parts())
PARTS = [pytest.param(param.values[1], id=param.id) for param in WHOLES_AND_PARTS]


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_valid_by_googles_schema_and_small_enough(file: str) -> None:
    assert checked(WORKFLOWS / file)["main"]
    assert len((WORKFLOWS / file).read_bytes()) <= limits.SOURCE_BYTES


@pytest.mark.parametrize("file", FILES)
def test_every_expression_is_of_the_language_and_within_400_characters(file: str) -> None:
    expressions = [text for text in strings(checked(WORKFLOWS / file)) if "${" in text]
    assert len(expressions) > 40
    for text in expressions:
        whole = re.fullmatch(r"\$\{(.*)\}", text, re.DOTALL)
        assert whole, f"an expression is a whole string: {text}"
        assert len(whole[1]) <= limits.EXPRESSION_CHARS, text
        # Google documents an index or a field of a variable, not of what a function returns.
        assert not re.search(r"\)[.\[]", re.sub(r'"[^"]*"', "", whole[1])), text
        compiled(whole[1])


@pytest.mark.parametrize("file", FILES)
def test_no_key_stands_twice(file: str) -> None:
    """YAML's readers take the last one without a word."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{keys} at {node.start_mark}"
            return super().construct_mapping(node, deep)

    yaml.load((WORKFLOWS / file).read_text(), Strict)  # noqa: S506 a SafeLoader


@pytest.mark.parametrize("part", PARTS)
def test_steps_are_named_once_and_lead_somewhere(part: dict[str, Any]) -> None:
    named = [name for name, _ in steps(part)]
    assert len(named) == len(set(named)), sorted(name for name in named if named.count(name) > 1)
    targets = set(re.findall(r"'next': '(\w+)'", str(part))) - RESERVED
    assert targets <= set(named), targets - set(named)


@pytest.mark.parametrize("part", PARTS)
def test_no_step_jumps_out_of_a_try(part: dict[str, Any]) -> None:
    """Google does not say what becomes of it; so it is not done."""
    for name, step in steps(part):
        for block in ("try", "except"):
            inside = {inner for inner, _ in steps(step.get(block, {}))}
            targets = set(re.findall(r"'next': '(\w+)'", str(step.get(block)))) - RESERVED
            assert targets <= inside, f"{name} jumps to {targets - inside}"


@pytest.mark.parametrize("part", PARTS)
def test_assignments_and_conditions_are_within_their_limits(part: dict[str, Any]) -> None:
    for name, step in steps(part):
        assert len(step.get("assign", [])) <= limits.ASSIGNMENTS, name
        assert len(step.get("switch", [])) <= limits.CONDITIONS, name


@pytest.mark.parametrize("part", PARTS)
def test_no_variable_hides_a_function_or_a_word_of_the_language(part: dict[str, Any]) -> None:
    words = {*stdlib.EXPRESSIONS, "if", "in", "not", "and", "or", "events", "base64", "hash"}
    names = set(part.get("params", []))
    for _, step in steps(part):
        names |= {re.split(r"[.\[]", next(iter(item)))[0] for item in step.get("assign", [])}
        names |= {step.get("result", ""), step.get("for", {}).get("value", "")}
    assert not names & words


# Scopes. Source: <https://cloud.google.com/workflows/docs/reference/syntax/variables#variable-scope>: a variable that is made
# in a loop, a branch or an `except` block is gone after it, and a workflow that reads it there cannot be deployed.


def names_in(text: str) -> Iterator[str]:
    """The variables and functions of an expression."""
    before = ""
    for kind, token, *_ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind == tokenize.NAME and before != ".":
            yield token
        before = token


def used(value: Any) -> Iterator[str]:
    for text in strings(value):
        if text.startswith("${"):
            yield from names_in(text[2:-1])


def blocks(step: dict[str, Any]) -> Iterator[tuple[list[Any], list[str], bool]]:
    """The blocks of steps in a step, with the names that each brings, and whether it has a scope of its own."""
    for key, value in step.items():
        if key == "for":
            yield value["steps"], [value["value"], *([value["index"]] if "index" in value else [])], True
        elif key == "parallel" and "for" in value:
            yield from blocks({"for": value["for"]})
        elif key == "except":
            yield value["steps"], [value["as"]], True
        elif key == "try":
            yield from ((value["steps"], [], False),) if "steps" in value else ()
        elif key == "switch":
            for condition in value:
                if "steps" in condition:
                    yield condition["steps"], [], False


def made(steps_of_scope: list[Any]) -> Iterator[str]:
    for named in steps_of_scope:
        for step in named.values():
            for item in step.get("assign", []):
                yield re.split(r"[.\[]", next(iter(item)))[0]
            for call in (step, step.get("try", {})):
                if "result" in call:
                    yield call["result"]
            for inner, _, own in blocks(step):
                if not own:
                    yield from made(inner)


def own_expressions(step: dict[str, Any]) -> Any:
    """A step without the blocks in it."""
    found = {key: value for key, value in step.items() if key not in ("for", "parallel", "try", "except", "switch")}
    loop = step.get("for", step.get("parallel", {}).get("for", {}))
    found |= {"loop": [loop.get("in", ""), loop.get("range", "")], "switch": []}
    found["switch"] = [{k: v for k, v in condition.items() if k != "steps"} for condition in step.get("switch", [])]
    attempt = step.get("try", {})
    found["try"] = {key: value for key, value in attempt.items() if key != "steps"}
    return found


def out_of_scope(steps_of_scope: list[Any], known: set[str]) -> Iterator[str]:
    known = known | set(made(steps_of_scope))
    for named in steps_of_scope:
        for name, step in named.items():
            yield from (f"{name}: {word}" for word in used(own_expressions(step)) if word not in known)
            for inner, brought, own in blocks(step):
                yield from out_of_scope(inner, known | set(brought) if own else known)


@pytest.mark.parametrize(("whole", "part"), WHOLES_AND_PARTS)
def test_every_variable_is_read_where_google_knows_it(whole: dict[str, Any], part: dict[str, Any]) -> None:
    language = {*stdlib.EXPRESSIONS, "if", "in", "not", "and", "or", *whole}
    assert not list(out_of_scope(part["steps"], language | set(part.get("params", []))))


def test_a_variable_of_a_loop_or_an_except_block_is_not_read_after_it() -> None:
    """The check itself."""
    loop = {"for": {"value": "v", "in": "${l}", "steps": [{"a": {"assign": [{"x": "${v}"}]}}]}}
    attempt = {"try": {"call": "c"}, "except": {"as": "e", "steps": [{"b": {"assign": [{"y": "${e}"}]}}]}}
    assert list(out_of_scope([{"l": loop}, {"r": {"return": "${x + v}"}}], {"l"})) == ["r: x", "r: v"]
    assert list(out_of_scope([{"l": attempt}, {"r": {"return": "${y}"}}], set())) == ["r: y"]
    assert not list(out_of_scope([{"i": {"assign": [{"y": 1}]}}, {"l": attempt}, {"r": {"return": "${y}"}}], set()))


@pytest.mark.parametrize("part", PARTS)
def test_no_variable_of_a_loop_is_assigned_or_read_outside_of_it(part: dict[str, Any]) -> None:
    """Source: <https://cloud.google.com/workflows/docs/reference/syntax/iteration>."""

    def without(value: Any, variable: str) -> Any:
        """A part of the file without the loops of this variable."""
        if isinstance(value, dict):
            loops = variable in (value.get("value"), value.get("index"))
            return {} if loops else {key: without(item, variable) for key, item in value.items()}
        return [without(item, variable) for item in value] if isinstance(value, list) else value

    loops = [step.get("for", step.get("parallel", {}).get("for")) for _, step in steps(part)]
    for loop in filter(None, loops):
        for variable in filter(None, (loop["value"], loop.get("index"))):
            rest = without(part, variable)
            assigned = {re.split(r"[.\[]", next(iter(item)))[0] for _, step in steps(rest) for item in step.get("assign", [])}
            assert variable not in assigned | set(used(rest)) | set(part.get("params", [])), variable
            nested = [inner for _, step in steps(loop) for inner in [step.get("for", {}).get("value")] if inner == variable]
            assert not nested, variable


@pytest.mark.parametrize("part", PARTS)
def test_no_loop_stands_directly_in_a_try(part: dict[str, Any]) -> None:
    """A known issue: <https://cloud.google.com/workflows/docs/issues>. Such a file cannot be deployed."""
    assert not [name for name, step in steps(part) if "for" in step.get("try", {})]


@pytest.mark.parametrize(("whole", "part"), WHOLES_AND_PARTS)
def test_every_call_is_of_something_that_there_is_with_arguments_that_it_takes(
    whole: dict[str, Any], part: dict[str, Any]
) -> None:
    for name, step in steps(part):
        for call in (step, step.get("try", {})):
            if "call" not in call:
                continue
            target, given = call["call"], set(call.get("args", {}))
            if target in whole:
                assert given == set(whole[target].get("params", [])), name
            elif target.startswith("googleapis."):
                _, method = discovery.method(target)
                required = {key for key, value in method["parameters"].items() if value.get("required")}
                takes = {*method["parameters"], "connector_params", *(["body"] if "request" in method else [])}
                assert required <= given <= takes, name
            else:
                assert target in stdlib.CALLS, name


@pytest.mark.parametrize("file", FILES)
def test_no_subworkflow_is_left_over(file: str) -> None:
    text = (WORKFLOWS / file).read_text()
    for name in set(checked(WORKFLOWS / file)) - {"main"}:
        assert re.search(rf"call: {name}\n|\$\{{{name}\}}", text), name


def test_every_argument_is_in_the_description_at_the_top() -> None:
    """`check_arguments` knows the same words as the comment that people read."""
    text = (WORKFLOWS / "run-job.yaml").read_text()
    described = text[: text.index("\nmain:")]
    known = {}
    for assignment in dict(steps(checked(WORKFLOWS / "run-job.yaml")["check_arguments"]))["known"]["assign"]:
        known |= assignment
    kinds, types, parts = known["kinds"], known["types"], known["parts"]
    assert {*types.values(), *(kind for part in parts.values() for kind in part.values())} <= set(kinds)
    assert len(types) > 20
    assert set(parts) <= set(types)
    for word in [*types, *(name for part in parts.values() for name in part)]:
        assert re.search(rf"\b{word}\b", described), word
    page = (WORKFLOWS.parents[1] / "docs/workflows.md").read_text()
    table = page.partition("## Arguments of run-job\n")[2].partition("\n## ")[0]
    rows = [row.partition("|")[0] for row in re.findall(r"(?m)^\| (`.*)", table)]
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == set(types)


@pytest.mark.parametrize("name", ["run-array", "reap"])
def test_every_argument_of_the_other_files_is_in_their_descriptions_and_in_the_docs(name: str) -> None:
    text = (WORKFLOWS / f"{name}.yaml").read_text()
    assignments = [item for _, step in steps(checked(WORKFLOWS / f"{name}.yaml")) for item in step.get("assign", [])]
    (types,) = [item["types"] for item in assignments if "types" in item]
    arguments = set(types) - {"part"}
    described = set(re.findall(r"^#   ([a-z_]+)  ", text[: text.index("\nmain:")], re.MULTILINE))
    assert described == arguments
    table = (WORKFLOWS.parents[1] / "docs/workflows.md").read_text().partition(f"<!-- generated: {name}-arguments -->")[2]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", table.partition("<!-- end -->")[0], re.MULTILINE)) == arguments
