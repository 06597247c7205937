"""A VM that is a process: the static `vmjob-agent`, with `fakecloud serve` as the metadata server of this one instance.

In: an instance as it was inserted. Out: what its agent writes, its end. The container is run by a real Docker engine.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

from driver.compute import Instance

AGENT = os.environ.get("VMJOB_AGENT", "vmjob-agent")
FAKECLOUD = os.environ.get("FAKECLOUD", "fakecloud")
START_DEADLINE_S, STOP_DEADLINE_S = 20, 10
TIDY_UP_S = 5
# What a VM that is shut down has until the power goes.
SHUTDOWN_S = 90
HEADERS = {"Metadata-Flavor": "Google"}


class RealVm:
    def __init__(self, instance: Instance) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="vmjob-workflow-")
        self.path = Path(self.folder.name)
        self.on_finish = ""
        self.gone = False
        self.metadata = self._start_metadata(instance)
        self.host = self._address()
        self.agent = self._start_agent()

    def _start_metadata(self, instance: Instance) -> "subprocess.Popen[str]":
        self.id = 17_446_744_073_709_551_615 - secrets.randbelow(10**15)
        words = [FAKECLOUD, "serve", "--control", "--set", f"instance/name={instance.name}", "--set", f"instance/id={self.id}"]
        words += ["--set", f"instance/zone=projects/123456789012/zones/{instance.zone}"]
        for key, value in instance.attributes().items():
            file = self.path / key
            file.write_text(self._harmless(value) if key == "job-spec" else value)
            words += ["--attribute-file", f"{key}={file}"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE, text=True)

    def _harmless(self, spec: str) -> str:
        """The job without `on_finish`: this is no VM, and the machine is to stay on. Remembered for the tests."""
        job = json.loads(spec)
        self.on_finish = job.pop("on_finish", "none")
        return json.dumps(job)

    def _address(self) -> str:
        """The first line that it prints, `metadata HOST:PORT`. The later ones, one for each request, are read away."""
        assert self.metadata.stdout
        watchdog = threading.Timer(START_DEADLINE_S, self.metadata.kill)
        watchdog.start()
        line = self.metadata.stdout.readline()
        watchdog.cancel()
        if not line.startswith("metadata "):
            raise RuntimeError(f"{FAKECLOUD} did not start: {line!r}")
        threading.Thread(target=self.metadata.stdout.read, daemon=True).start()
        return line.split()[1]

    def _start_agent(self) -> "subprocess.Popen[bytes]":
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
            "GCE_METADATA_HOST": self.host,
            "STATE_DIRECTORY": str(self.path / "state"),
            "VMJOB_CALLBACK_ALLOW": "127.0.0.1",
        }
        (self.path / "state").mkdir(mode=0o700)
        with (self.path / "console").open("wb") as console:
            return subprocess.Popen([AGENT, "run"], env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console)

    def set(self, path: str, value: str) -> None:
        """Changes what the metadata server answers."""
        assert self.metadata.stdin
        self.metadata.stdin.write(f"{path}={value}\n")
        self.metadata.stdin.flush()

    def status(self) -> str:
        return "GONE" if self.gone else "RUNNING"

    def guest_attribute(self, key: str) -> str | None:
        return self._read(f"instance/guest-attributes/{key}")

    def token(self) -> str:
        whole = self._read("instance/service-accounts/default/token")
        return json.loads(whole)["access_token"] if whole else ""

    def console(self) -> str:
        return (self.path / "console").read_text(errors="replace")

    def preempt(self) -> None:
        """The metadata server says so as the power button is pressed, and the VM is gone when the agent has ended."""
        self.set("instance/preempted", "TRUE")
        self.agent.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.agent.wait(SHUTDOWN_S)
        self.gone = True

    def vanish(self) -> None:
        """A power cut: no last word of anybody. The job must not have an `id`: then its container is named by the VM's."""
        self.agent.kill()
        self.agent.wait(STOP_DEADLINE_S)
        self.gone = True
        command = ["docker", "rm", "--force", f"vmjob-{self.id}-1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def power_off(self) -> None:
        """As instances.delete does it. The agent may still be tidying up after its report."""
        for end in (lambda: None, self.agent.terminate, self.agent.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.agent.wait(TIDY_UP_S)
                break
        self.metadata.kill()
        self.metadata.wait(STOP_DEADLINE_S)
        self.folder.cleanup()

    def _read(self, path: str) -> str | None:
        request = urllib.request.Request(f"http://{self.host}/computeMetadata/v1/{path}", headers=HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 loopback
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None
