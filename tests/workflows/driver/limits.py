"""Google's limits for Workflows. Source: <https://cloud.google.com/workflows/quotas>."""

import json
from typing import Any

EXPRESSION_CHARS = 400
STRING_BYTES = 256 * 1024
VARIABLES_BYTES = 512 * 1024
ARGUMENT_BYTES = 32 * 1024
SOURCE_BYTES = 128 * 1024
STEPS = 100_000
ASSIGNMENTS = 50
CONDITIONS = 50
CONCURRENT_BRANCHES = 20
CALL_DEPTH = 20


class ResourceLimitError(RuntimeError):
    """What Google raises as `ResourceLimitError`. A workflow does not catch it in these tests: it must not happen."""


def size(value: Any) -> int:
    """Memory of a value, in bytes. Source: <https://cloud.google.com/workflows/docs/reference/syntax/variables>."""
    if isinstance(value, str):
        return 8 + (len(value) if value.isascii() else len(value.encode()))
    if isinstance(value, bytes):
        return 8 + len(value)
    if isinstance(value, dict):
        return 8 + sum(size(key) + size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return 8 + sum(size(item) for item in value)
    return 8


def check_argument(argument: Any) -> None:
    """Raises where an execution's argument is too long as JSON."""
    length = len(json.dumps(argument, ensure_ascii=False).encode())
    if length > ARGUMENT_BYTES:
        raise ResourceLimitError(f"an argument of {length} bytes")
