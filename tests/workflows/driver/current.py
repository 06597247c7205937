"""The execution that this thread works for, and the frames of its subworkflows: the engine's functions have no other way to
know."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driver.execution import Execution

_local = threading.local()


def execution() -> "Execution":
    return _local.execution


def frames() -> list[dict[str, Any]]:
    """The variables of each subworkflow that is under way, the innermost last."""
    return _local.frames


@contextlib.contextmanager
def entered(execution: "Execution", frames: list[dict[str, Any]]) -> Iterator[None]:
    before = dict(_local.__dict__)
    _local.execution, _local.frames = execution, frames
    execution.stacks[id(frames)] = frames
    try:
        yield
    finally:
        del execution.stacks[id(frames)]
        _local.__dict__.clear()
        _local.__dict__.update(before)
