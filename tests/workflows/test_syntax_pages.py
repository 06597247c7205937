"""A second opinion on the workflow files, by Google's pages on the language and on nothing of the engine's or the driver's.

Sources: <https://cloud.google.com/workflows/docs/reference/syntax>, /expressions, /variables, /iteration, /parallel-steps,
<https://cloud.google.com/workflows/docs/reference/stdlib/overview>, <https://cloud.google.com/workflows/quotas>.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import re2
import yaml

WORKFLOWS = Path(__file__).parents[2] / "packaging" / "workflows"
FILES = ["run-job.yaml", "run-array.yaml", "reap.yaml"]
Steps = list[dict[str, Any]]

# How many arguments the functions of expressions take.
FUNCTIONS = {
    **{"default": (2, 2), "double": (1, 1), "if": (3, 3), "int": (1, 1), "keys": (1, 1), "len": (1, 1), "string": (1, 1)},
    **{"get_type": (1, 1), "base64.decode": (1, 2), "base64.encode": (1, 2), "json.decode": (1, 1), "json.encode": (1, 2)},
    **{"json.encode_to_string": (1, 2), "list.concat": (2, 2), "list.prepend": (2, 2), "map.delete": (2, 2), "map.get": (2, 2)},
    **{"map.merge": (2, 2), "map.merge_nested": (2, 2), "math.abs": (1, 1), "math.floor": (1, 1), "math.max": (2, 2)},
    **{"math.min": (2, 2), "sys.get_env": (1, 2), "sys.now": (0, 0), "text.decode": (1, 2), "text.encode": (1, 2)},
    **{"text.find_all": (2, 2), "text.find_all_regex": (2, 2), "text.match_regex": (2, 2), "text.replace_all": (3, 3)},
    **{"text.replace_all_regex": (3, 3), "text.split": (2, 2), "text.substring": (3, 3), "text.to_lower": (1, 1)},
    **{"text.to_upper": (1, 1), "text.url_decode": (1, 1), "text.url_encode": (1, 1), "text.url_encode_plus": (1, 1)},
    **{"time.format": (1, 2), "time.parse": (1, 1), "uuid.generate": (0, 0)},
}
# What `call` may name, with the arguments that must be there and those that may.
REQUEST = {"headers", "body", "query", "auth", "timeout", "private_service_name", "ca_certificate"}
CALLS = {
    "events.await_callback": ({"callback"}, {"timeout"}),
    "events.create_callback_endpoint": ({"http_callback_method"}, set()),
    "http.get": ({"url"}, REQUEST - {"body"}),
    "http.post": ({"url"}, REQUEST),
    "sys.log": (set(), {"data", "json", "severity", "text", "timeout"}),
    "sys.sleep": ({"seconds"}, set()),
}
SEVERITIES = {"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}
KEYWORDS = {"and", "or", "not", "in", "if", "true", "false", "null", "True", "False", "TRUE", "FALSE"}
LIBRARIES = {"base64", "events", "experimental", "googleapis", "hash", "http", "json", "list", "map", "math"} | {
    *("retry", "sys", "text", "time", "uuid")
}
STEP_KEYS = {"call", "args", "result", "assign", "for", "parallel", "switch", "try", "retry", "except", "raise", "return"} | {
    *("next", "steps")
}


@cache
def workflow(file: str) -> dict[str, Any]:
    return yaml.safe_load((WORKFLOWS / file).read_text())


def parts() -> Iterator[Any]:
    for file in FILES:
        for name, part in workflow(file).items():
            yield pytest.param(file, part, id=f"{file}:{name}")


FILES_AND_PARTS = list(parts())
PARTS = [pytest.param(param.values[1], id=param.id) for param in FILES_AND_PARTS]


def walk(steps: Steps) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step, also of the blocks in it."""
    for named in steps:
        ((name, step),) = named.items()
        yield name, step
        for block, _ in blocks(step):
            yield from walk(block)


def blocks(step: dict[str, Any]) -> Iterator[tuple[Steps, str]]:
    """The blocks of steps in a step, each with its kind."""
    for kind in ("for", "try", "except"):
        if "steps" in step.get(kind, {}):
            yield step[kind]["steps"], kind
    for condition in step.get("switch", []):
        if "steps" in condition:
            yield condition["steps"], "switch"
    if "parallel" in step:
        parallel = step["parallel"]
        if "for" in parallel:
            yield parallel["for"]["steps"], "parallel"
        for branch in parallel.get("branches", []):
            yield next(iter(branch.values()))["steps"], "parallel"
    if "steps" in step:
        yield step["steps"], "steps"


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from strings(item)


def expressions(value: Any) -> Iterator[str]:
    for text in strings(value):
        if "${" in text:
            assert re.fullmatch(r"\$\{.*\}", text, re.DOTALL), f"an expression is the whole of a string: {text}"
            yield text[2:-1]


def parsed(expression: str) -> ast.Expression:
    """The expression as Python reads it: but for `if` and the constants the grammars are one."""
    words = {"if": "if_", "null": "None", "true": "True", "false": "False"}
    tokens = [
        (kind, words.get(text, text) if kind == tokenize.NAME else text)
        for kind, text, *_ in tokenize.generate_tokens(io.StringIO(f"({expression})").readline)
    ]
    return ast.parse(tokenize.untokenize(tokens).strip(), mode="eval")


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return {"if_": "if"}.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def assigned(step: dict[str, Any]) -> Iterator[str]:
    """The variables that a step itself writes."""
    for item in step.get("assign", []):
        yield re.split(r"[.\[]", next(iter(item)))[0]
    for call in (step, step.get("try", {})):
        if "result" in call:
            yield call["result"]


@pytest.mark.parametrize(("file", "part"), FILES_AND_PARTS)
def test_expressions_have_400_characters_and_only_functions_of_the_library(file: str, part: dict[str, Any]) -> None:
    subworkflows = set(workflow(file))
    for text in expressions(part):
        assert len(text) <= 400, text
        for node in ast.walk(parsed(text)):
            allowed = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Not, ast.UnaryOp, ast.USub, ast.BinOp, ast.Add, ast.Sub)
            allowed += (
                ast.Mult,
                ast.Div,
                ast.FloorDiv,
                ast.Mod,
                ast.Compare,
                ast.Eq,
                ast.NotEq,
                ast.Lt,
                ast.LtE,
                ast.Gt,
                ast.GtE,
            )
            allowed += (ast.In, ast.Call, ast.Constant, ast.Attribute, ast.Subscript, ast.Load, ast.Name, ast.List)
            assert isinstance(node, allowed), f"{type(node).__name__} in {text}"
            if isinstance(node, ast.Compare):
                assert len(node.ops) == 1, f"a chain of comparisons: {text}"
            if isinstance(node, ast.Call):
                name = name_of(node.func)
                assert name in FUNCTIONS, f"{name} in {text}"
                least, most = FUNCTIONS[name]
                assert least <= len(node.args) <= most, text
                assert not node.keywords, text
            if isinstance(node, ast.Name):
                assert name_of(node) not in subworkflows - {"main"}, f"a subworkflow as a value: {text}"


@pytest.mark.parametrize(("file", "part"), FILES_AND_PARTS)
def test_a_list_in_an_expression_is_a_range_or_a_path(file: str, part: dict[str, Any]) -> None:
    ranges = {step["range"][2:-1] for _, step in loops(part["steps"]) if "range" in step and isinstance(step["range"], str)}
    for text in expressions(part):
        tree = parsed(text)
        paths = {id(call.args[1]) for call in ast.walk(tree) if isinstance(call, ast.Call) and name_of(call.func) == "map.get"}
        lists = [node for node in ast.walk(tree) if isinstance(node, ast.List) and id(node) not in paths]
        assert not lists or text in ranges, f"{file}: {text}"


def loops(steps: Steps) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, step in walk(steps):
        loop = step.get("for", step.get("parallel", {}).get("for"))
        if loop:
            yield name, loop


@pytest.mark.parametrize("part", PARTS)
def test_literal_regular_expressions_are_of_re2(part: dict[str, Any]) -> None:
    for text in expressions(part):
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.Call) and name_of(node.func).endswith("_regex") and isinstance(node.args[1], ast.Constant):
                re2.compile(node.args[1].value)


@pytest.mark.parametrize(("file", "part"), FILES_AND_PARTS)
def test_calls_are_of_the_library_with_its_arguments(file: str, part: dict[str, Any]) -> None:
    whole = workflow(file)
    for name, step in walk(part["steps"]):
        for call in (step, step.get("try", {})):
            target = call.get("call", "main")
            if target in whole or target.startswith("googleapis."):
                continue
            required, optional = CALLS[target]
            given = set(call.get("args", {}))
            assert required <= given <= required | optional, f"{name}: {given}"
            if target == "sys.log":
                assert len(given & {"data", "json", "text"}) == 1, name
                severity = call["args"].get("severity", "INFO")
                assert severity in SEVERITIES or severity.startswith("${"), name
            if target.startswith("http."):
                assert call["args"].get("auth") == {"type": "OAuth2"}, f"{name}: Google's APIs want a token"
                assert 0 < call["args"]["timeout"] <= 1800, f"{name}: a request has a deadline"


@pytest.mark.parametrize(("file", "part"), FILES_AND_PARTS)
def test_names_are_no_words_of_the_language(file: str, part: dict[str, Any]) -> None:
    variables = set(part.get("params", []))
    for name, step in walk(part["steps"]):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name), name
        assert name not in {"end", "break", "continue"}, name
        assert set(step) <= STEP_KEYS, f"{name}: {set(step) - STEP_KEYS}"
        variables |= set(assigned(step)) | ({step["except"]["as"]} if "except" in step else set())
    for _, loop in loops(part["steps"]):
        variables |= {loop["value"], *([loop["index"]] if "index" in loop else [])}
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) for variable in variables)
    functions = {name.partition(".")[0] for name in FUNCTIONS}
    assert not variables & (KEYWORDS | LIBRARIES | functions | set(workflow(file)))


@pytest.mark.parametrize("part", PARTS)
def test_a_branch_writes_only_its_own_variables_and_shared_ones(part: dict[str, Any]) -> None:
    """What is known before a parallel step and not shared cannot be assigned in it: such a file cannot be deployed."""
    for name, step in walk(part["steps"]):
        if "parallel" not in step:
            continue
        ((block, _),) = blocks(step)
        shared = set(step["parallel"].get("shared", []))
        inside = {id(inner) for _, inner in walk(block)}
        outside = set(part.get("params", []))
        for _, other in walk(part["steps"]):
            outside |= set(assigned(other)) if id(other) not in inside else set()
        own = {step["parallel"]["for"]["value"]} if "for" in step["parallel"] else set()
        assert shared <= outside, f"{name}: shared, but not made before: {shared - outside}"
        written = {variable for _, inner in walk(block) for variable in assigned(inner)}
        assert not (written - own) & (outside - shared), f"{name}: {(written - own) & (outside - shared)}"
        assert shared <= written, f"{name}: shared for nothing: {shared - written}"
        assert not own & outside, name


@pytest.mark.parametrize("part", PARTS)
def test_no_branch_returns_breaks_or_jumps_out(part: dict[str, Any]) -> None:
    for name, step in walk(part["steps"]):
        for block, kind in blocks(step):
            if kind != "parallel":
                continue
            inside = {inner for inner, _ in walk(block)}
            text = [line for _, inner in walk(block) for line in strings_of_flow(inner)]
            assert not [line for line in text if line not in inside], f"{name}: {set(text) - inside}"
            assert not [inner for inner, inner_step in walk(block) if "parallel" in inner_step], "one level of branches"


def strings_of_flow(step: dict[str, Any]) -> Iterator[str]:
    """Where a step leads, other than to the next."""
    for place in (step, *step.get("switch", [])):
        if "next" in place:
            yield place["next"]
        if "return" in place:
            yield "return"


@pytest.mark.parametrize("part", PARTS)
def test_break_and_continue_stand_in_loops(part: dict[str, Any]) -> None:
    def check(steps: Steps, in_loop: bool) -> None:
        for named in steps:
            ((name, step),) = named.items()
            leads = set(strings_of_flow(step)) & {"break", "continue"}
            assert in_loop or not leads, name
            for block, kind in blocks(step):
                check(block, kind == "for" or (in_loop and kind in ("switch", "try", "except", "steps")))

    check(part["steps"], False)


@pytest.mark.parametrize("file", FILES)
def test_calls_are_not_too_deep(file: str) -> None:
    """20 at most; a subworkflow that calls itself goes one deeper, as a map in a map."""
    whole = workflow(file)

    def depth(name: str, above: tuple[str, ...]) -> int:
        called = {
            call["call"] for _, step in walk(whole[name]["steps"]) for call in (step, step.get("try", {})) if "call" in call
        }
        below = [depth(one, (*above, name)) for one in called & set(whole) if one not in (*above, name)]
        return 1 + max(below, default=0) + (name in called)

    assert depth("main", ()) <= 10


@pytest.mark.parametrize("file", FILES)
def test_sizes_and_keys(file: str) -> None:
    text = (WORKFLOWS / file).read_text()
    assert len(text.encode()) <= 128 * 1024
    for name, step in (found for part in workflow(file).values() for found in walk(part["steps"])):
        assert 1 <= len(step.get("assign", [1])) <= 50, name
        assert 1 <= len(step.get("switch", [1])) <= 50, name
        # `on`, `yes` and `no` are no strings to YAML 1.1.
        assert all(isinstance(key, str) for key in keys(step)), name


def keys(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from keys(item)


BAD = [
    (test_expressions_have_400_characters_and_only_functions_of_the_library, "- a: {assign: [x: '${str(1)}']}"),
    (test_expressions_have_400_characters_and_only_functions_of_the_library, "- a: {assign: [x: '${map.get(y)}']}"),
    (test_expressions_have_400_characters_and_only_functions_of_the_library, "- a: {assign: [x: '${1 < y < 2}']}"),
    (test_expressions_have_400_characters_and_only_functions_of_the_library, "- a: {assign: [x: 'a ${y}']}"),
    (test_expressions_have_400_characters_and_only_functions_of_the_library, "- a: {assign: [x: '${" + "1 + " * 100 + "1}']}"),
    (test_a_list_in_an_expression_is_a_range_or_a_path, "- a: {assign: [x: '${list.concat([], 1)}']}"),
    (test_calls_are_of_the_library_with_its_arguments, "- a: {call: sys.log, args: {message: x}}"),
    (test_calls_are_of_the_library_with_its_arguments, "- a: {call: sys.log, args: {text: x, severity: WARN}}"),
    (test_calls_are_of_the_library_with_its_arguments, "- a: {call: http.get, args: {url: x, timeout: 60}}"),
    (test_names_are_no_words_of_the_language, "- a: {assign: [text: 1]}"),
    (test_names_are_no_words_of_the_language, "- a: {assign: [reap: 1]}"),
    (test_names_are_no_words_of_the_language, "- continue: {assign: [x: 1]}"),
    (test_names_are_no_words_of_the_language, "- a: {assing: [x: 1]}"),
    (
        test_a_branch_writes_only_its_own_variables_and_shared_ones,
        "- a: {assign: [x: 1]}\n- b: {parallel: {for: {value: v, range: [0, 1], steps: [{c: {assign: [x: 2]}}]}}}",
    ),
    (
        test_a_branch_writes_only_its_own_variables_and_shared_ones,
        "- b: {parallel: {shared: [x], for: {value: v, range: [0, 1], steps: [{c: {assign: [x: 2]}}]}}}",
    ),
    (
        test_no_branch_returns_breaks_or_jumps_out,
        "- b: {parallel: {for: {value: v, range: [0, 1], steps: [{c: {return: 1}}]}}}",
    ),
    (
        test_no_branch_returns_breaks_or_jumps_out,
        "- b: {parallel: {for: {value: v, range: [0, 1], steps: [{c: {assign: [y: 1], next: d}}]}}}\n- d: {return: 1}",
    ),
    (test_break_and_continue_stand_in_loops, "- a: {assign: [x: 1], next: break}"),
]


@pytest.mark.parametrize(("check", "steps"), BAD)
def test_each_check_finds_what_it_is_for(check: Callable[..., None], steps: str) -> None:
    part = {"steps": yaml.safe_load(steps)}
    with pytest.raises(AssertionError):
        check("reap.yaml", part) if check.__code__.co_varnames[0] == "file" else check(part)
