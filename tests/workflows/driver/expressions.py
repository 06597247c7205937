"""Workflows expressions: `${…}`, evaluated as Google does, and held to Google's limits.

The emulator evaluates them too, but passes every value through text: null becomes the string "None", a map loses its
newlines, `if()` is a syntax error, and each evaluation copies all variables. So this module takes the place of its
`render_config` and `assign_var`. Source: <https://cloud.google.com/workflows/docs/reference/syntax/expressions>.
"""

import copy
import io
import re
import tokenize
from functools import cache
from types import CodeType, SimpleNamespace
from typing import Any

from driver import stdlib
from driver.limits import EXPRESSION_CHARS, STRING_BYTES, ResourceLimitError

WHOLE = re.compile(r"\$\{(.*)\}", re.DOTALL)
PYTHONS_OWN = {"None", "else", "for", "is", "lambda", "await"}
ATTRIBUTE = re.compile(r"\.([A-Za-z_]\w*)|\[([^\]]*(?:\[[^\]]*\][^\]]*)*)\]")


class Map(dict):
    """A map as expressions see it."""

    def __getitem__(self, key: str) -> Any:
        try:
            return seen(super().__getitem__(key))
        except KeyError:
            raise KeyError(f"key not found: {key}") from None


class List(list):
    """A list whose maps are such maps."""

    def __getitem__(self, index: Any) -> Any:
        return seen(super().__getitem__(index))


def seen(value: Any) -> Any:
    """A value as expressions see it."""
    if isinstance(value, dict):
        return value if isinstance(value, Map) else Map(value)
    return List(value) if type(value) is list else value


def plain(value: Any) -> Any:
    """The value itself: variables are passed by value, as dictionaries and lists of Python's own kind."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value.encode()) > STRING_BYTES:
        raise ResourceLimitError(f"a string of {len(value)} characters")
    return value


class Scope(dict):
    """The names of an expression: the functions, and the variables before them."""

    def __init__(self, variables: dict[str, Any]) -> None:
        super().__init__(stdlib.names())
        self.variables = variables

    def __getitem__(self, name: str) -> Any:
        if name in self.variables:
            return seen(self.variables[name])
        try:
            return super().__getitem__(name)
        except KeyError:
            raise KeyError(f"variable not found: {name}") from None


@cache
def compiled(expression: str) -> CodeType:
    """Python's code for an expression. The languages differ in `if`, which is a function here, in the constants, and in the
    dot: `args.items` is `args["items"]`, unless it stands after the name of a library."""
    if len(expression) > EXPRESSION_CHARS:
        raise ResourceLimitError(f"an expression of {len(expression)} characters: {expression}")
    tokens: list[tuple[int, str]] = []
    for kind, text, *_ in tokenize.generate_tokens(io.StringIO(f"({expression})").readline):
        if kind == tokenize.STRING and not text.startswith('"'):
            raise SyntaxError(f"strings stand in double quotes: {expression}")
        if kind == tokenize.NAME and text in PYTHONS_OWN:
            raise SyntaxError(f"not of the Workflows language: {text} in {expression}")
        if kind == tokenize.NAME and tokens[-1][1] == "." and not is_library(tokens[-2:-4:-1]):
            tokens[-1:] = [(tokenize.OP, "["), (tokenize.STRING, f'"{text}"'), (tokenize.OP, "]")]
            continue
        tokens.append((kind, "if_" if (kind, text) == (tokenize.NAME, "if") else text))
    return compile(tokenize.untokenize(tokens).strip(), expression, "eval")


def is_library(before: list[tuple[int, str]]) -> bool:
    """Whether the token before a dot, and the one before that, are the name of a library such as `text`."""
    library = isinstance(stdlib.EXPRESSIONS.get(before[0][1]), SimpleNamespace)
    return library and (len(before) < 2 or before[1][1] != ".")


def evaluate(expression: str, variables: dict[str, Any]) -> Any:
    """The value of what stands between `${` and `}`."""
    return plain(eval(compiled(expression), {"__builtins__": {}}, Scope(variables)))  # noqa: S307 files of our own


def render(value: Any, variables: dict[str, Any]) -> Any:
    """The value with every expression in it evaluated, keys too. A string is one expression or none."""
    if isinstance(value, str):
        whole = WHOLE.fullmatch(value)
        if whole:
            return evaluate(whole[1], variables)
        if "${" in value:
            raise SyntaxError(f"an expression is a whole string: {value}")
        return plain(value)
    if isinstance(value, dict):
        return {render(key, variables): render(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, variables) for item in value]
    return value


def assign(target: str, value: Any, variables: dict[str, Any]) -> tuple[str, Any]:
    """The variable that `target` (as in `body.disks[0].type`) belongs to, and its new value."""
    root = re.match(r"[A-Za-z_]\w*", target)
    if not root:
        raise SyntaxError(f"not a variable: {target}")
    path: list[Any] = []
    rest = target[root.end() :]
    while rest:
        part = ATTRIBUTE.match(rest)
        if not part:
            raise SyntaxError(f"not a variable: {target}")
        path.append(part[1] or evaluate(part[2], variables))
        rest = rest[part.end() :]
    if not path:
        return root[0], value
    whole = copy.deepcopy(variables[root[0]])
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return root[0], whole
