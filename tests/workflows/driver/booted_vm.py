"""A VM that boots: a machine with its own init, in which Google's script runner fetches and starts what its metadata say.

The machine is made by the program `boot` of the crate `vm` (BOOT names it); it has a Docker engine of its own, and is
switched off by its own `on_finish`.
"""

import os
import subprocess
import threading
from pathlib import Path

from driver.compute import Instance
from driver.process_vm import AGENT
from driver.real_vm import SHUTDOWN_S, RealVm

BOOT = os.environ.get("BOOT", "boot")
STARTUP_SCRIPT = Path(__file__).parents[3] / "packaging/startup/startup-script.sh"
# What is in the bucket `agents`.
OBJECTS = {"vmjob-agent": AGENT, "startup-script.sh": STARTUP_SCRIPT}


class BootedVm(RealVm):
    def __init__(self, instance: Instance, callback_url: str) -> None:
        self.console_file: Path | None = None
        self.is_off = threading.Event()
        program = [BOOT, "--callback", callback_url.removeprefix("http://")]
        for name, path in OBJECTS.items():
            program += ["--object", f"{name}={path}"]
        super().__init__(instance, program)

    def said(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "console":
            self.console_file = Path(rest)
        elif word == "off":
            self.is_off.set()

    def console(self) -> str:
        return self.console_file.read_text(errors="replace") if self.console_file else ""

    def preempt(self) -> None:
        self.set("instance/preempted", "TRUE")
        self._end("shutdown")

    def vanish(self) -> None:
        self._end("cut")

    def _end(self, order: str) -> None:
        self.order(order)
        if not self.is_off.wait(SHUTDOWN_S):
            raise TimeoutError(f"{order}: the machine is still on")
        self.gone = True

    def power_off(self) -> None:
        assert self.program.stdin
        self.program.stdin.close()
        try:
            self.program.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self.program.kill()
        self.folder.cleanup()
