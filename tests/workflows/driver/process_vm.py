"""A VM that is a process: the static `vmjob-agent`, whose metadata server is `fakecloud serve`.

The container is run by a real Docker engine.
"""

import contextlib
import json
import os
import signal
import subprocess

from driver.compute import Instance
from driver.real_vm import SHUTDOWN_S, STOP_DEADLINE_S, RealVm

AGENT = os.environ.get("VMJOB_AGENT", "vmjob-agent")
FAKECLOUD = os.environ.get("FAKECLOUD", "fakecloud")
TIDY_UP_S = 60
END_S = 5


class ProcessVm(RealVm):
    def __init__(self, instance: Instance) -> None:
        self.on_finish = ""
        super().__init__(instance, [FAKECLOUD, "serve", "--control"])
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            "GCE_METADATA_HOST": self.host,
            "STATE_DIRECTORY": str(self.path / "state"),
            "VMJOB_CALLBACK_ALLOW": "127.0.0.1",
        }
        (self.path / "state").mkdir(mode=0o700)
        with (self.path / "console").open("wb") as console:
            self.agent = subprocess.Popen(
                [AGENT, "run"], env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    def attribute(self, key: str, value: str) -> str:
        """The job without `on_finish`: this is no VM, and the machine is to stay on. Remembered for the tests."""
        if key != "job-spec":
            return value
        job = json.loads(value)
        self.on_finish = job.pop("on_finish", "none")
        return json.dumps(job)

    def console(self) -> str:
        return (self.path / "console").read_text(errors="replace")

    def preempt(self) -> None:
        self.set("instance/preempted", "TRUE")
        self.agent.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.agent.wait(SHUTDOWN_S)
        self.gone = True

    def vanish(self) -> None:
        self.agent.kill()
        self.agent.wait(STOP_DEADLINE_S)
        self.gone = True
        command = ["docker", "rm", "--force", f"vmjob-{self.id}-1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def power_off(self) -> None:
        # After its report the agent may still be tidying up.
        is_told = self.guest_attribute("vmjob/state") == "DELIVERED"
        ends = (lambda: None, TIDY_UP_S if is_told else 0), (self.agent.terminate, END_S), (self.agent.kill, END_S)
        for end, patience_s in ends:
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.agent.wait(patience_s)
                break
        self.program.kill()
        self.program.wait(STOP_DEADLINE_S)
        self.folder.cleanup()
