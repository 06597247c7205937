"""The driver's own rules: a limit that is not enforced in the tests would be met first on Google's side."""

import pytest

from driver import limits
from driver.expressions import assign, compiled, evaluate


def test_a_long_expression_is_refused() -> None:
    assert evaluate("1 + 1" + " " * 395, {}) == 2
    with pytest.raises(limits.ResourceLimitError):
        compiled("1 + 1" + " " * 396)


def test_a_long_string_is_refused() -> None:
    with pytest.raises(limits.ResourceLimitError):
        evaluate("a + a", {"a": "x" * (limits.STRING_BYTES // 2 + 1)})


def test_a_long_argument_is_refused() -> None:
    limits.check_argument({"a": "x" * 32_000})
    with pytest.raises(limits.ResourceLimitError):
        limits.check_argument({"a": "x" * 33_000})


def test_memory_is_counted_by_googles_table() -> None:
    assert limits.size("This is a string of 28 bytes") == 36
    assert limits.size({"a": [1, True, None]}) == 8 + 9 + 8 + 24


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('if(1 < 2, "a", "b")', "a"),
        ('"if(" + "x"', "if(x"),
        ('map.get(m, ["a", "x", "y"])', None),
        ('default(map.get(m, "x"), null) == null', True),
        ("m.a.b[1].c", 5),
        ('"a" in m and not("b" in m)', True),
        ("7 // 2 + 7 % 4", 6),
        ('text.find_all_regex("1h30m", "[0-9]+[a-z]")', [{"index": 0, "match": "1h"}, {"index": 2, "match": "30m"}]),
        ("json.encode_to_string(m.a)", '{"b":[0,{"c":5}]}'),
    ],
)
def test_expressions(expression: str, value: object) -> None:
    assert evaluate(expression, {"m": {"a": {"b": [0, {"c": 5}]}}}) == value


@pytest.mark.parametrize("expression", ["'single quotes'", "str(1)", "None", "m.nothing", "nobody"])
def test_what_is_not_of_the_language_is_an_error(expression: str) -> None:
    with pytest.raises((SyntaxError, KeyError, NameError)):
        evaluate(expression, {"m": {}})


def test_a_part_of_a_variable_is_assigned() -> None:
    variables = {"body": {"disks": [{"type": "a"}]}, "i": 0}
    assert assign("body.disks[i].type", "b", variables) == ("body", {"disks": [{"type": "b"}]})
    assert variables["body"]["disks"][0]["type"] == "a"
