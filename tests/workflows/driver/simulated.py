"""A VM that is only told about: what its agent would do, on the clock of a pretended cloud."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from driver.clock import VirtualClock
from driver.compute import Instance

if TYPE_CHECKING:
    from driver.cloud import Cloud

BOOT_S, HEARTBEAT_S = 25.0, 60.0


def report(instance: Instance, **differing: Any) -> dict[str, Any]:
    """A report of the agent's form."""
    return {
        "version": 1,
        "job": {"id": "job", "attempt": 1, "task_index": 0, "task_count": 1},
        "state": "SUCCEEDED",
        "cause": "NONE",
        "exit_code": 0,
        "message": "the job exited with 0",
        "evidence": [],
        "retryable": False,
        "logs": {"head": "", "tail": "done\n"},
        "vm": {"name": instance.name, "zone": instance.zone},
        **differing,
    }


@dataclass
class SimulatedVm:
    """By default: boots, runs for `run_s`, POSTs its report, and stays."""

    cloud: "Cloud"
    instance: Instance
    run_s: float = 300.0
    # What the report says, beyond that of a success; None: it never ends.
    outcome: dict[str, Any] | None = field(default_factory=dict)
    # The agent: never starts; falls silent so long after the boot; cannot POST.
    starts: bool = True
    silent_after_s: float = float("inf")
    posts: bool = True
    guest_attributes: bool = True
    serial: str = ""
    # The state that it writes, from when on.
    states: dict[float, str] = field(default_factory=dict)
    # What becomes of the VM itself, when.
    ends_after_s: float = float("inf")
    ends_as: str = "TERMINATED"
    on_post: Callable[[int], None] = lambda _status: None

    def __post_init__(self) -> None:
        clock = self.cloud.clock
        assert isinstance(clock, VirtualClock)
        self.booted_at = clock.now() + BOOT_S
        self.report: dict[str, Any] | None = None
        self.off = False
        if self.starts and self.outcome is not None:
            clock.after(BOOT_S + self.run_s, self.finish)

    def age(self) -> float:
        return self.cloud.clock.now() - self.booted_at

    def finish(self) -> None:
        if self.off or self.age() >= min(self.ends_after_s, self.silent_after_s):
            return
        self.report = report(self.instance, **(self.outcome or {}))
        if self.posts:
            self.on_post(self.cloud.post(self.instance.attributes()["callback-url"], self.report))

    def status(self) -> str:
        return self.ends_as if self.age() >= self.ends_after_s else "RUNNING"

    def guest_attribute(self, key: str) -> str | None:
        age = min(self.age(), self.silent_after_s, self.ends_after_s)
        if not self.starts or not self.guest_attributes or age < 0:
            return None
        if key == "vmjob/heartbeat":
            return f"beat {int(age / HEARTBEAT_S)}"
        if key == "vmjob/state":
            return next((state for at, state in sorted(self.states.items(), reverse=True) if at <= age), "RUNNING")
        return json.dumps(self.report) if key == "vmjob/report" and self.report else None

    def console(self) -> str:
        return self.serial

    def power_off(self) -> None:
        self.off = True
