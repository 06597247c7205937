"""What the real VMs have in common: a program that plays the metadata server of this one instance, and takes orders.

In: an instance as it was inserted. Out: what its agent writes to the guest attributes, its token.
"""

import json
import secrets
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from driver.compute import Instance

START_DEADLINE_S, STOP_DEADLINE_S = 180, 60
# What a VM that is shut down has until the power goes.
SHUTDOWN_S = 300
HEADERS = {"Metadata-Flavor": "Google"}


class RealVm:
    """`program` is `fakecloud serve --control`, or what takes the same options and begins to speak in the same way."""

    def __init__(self, instance: Instance, program: list[str]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="vmjob-workflow-")
        self.path = Path(self.folder.name)
        self.gone = False
        self.machine_type = instance.body["machineType"]
        self.id = 17_446_744_073_709_551_615 - secrets.randbelow(10**15)
        words = ["--set", f"instance/name={instance.name}", "--set", f"instance/id={self.id}"]
        words += ["--set", f"instance/zone=projects/123456789012/zones/{instance.zone}"]
        for key, value in instance.attributes().items():
            file = self.path / key
            file.write_text(self.attribute(key, value))
            words += ["--attribute-file", f"{key}={file}"]
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(program + words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.host = self._address()
        threading.Thread(target=self._listen, daemon=True).start()

    def attribute(self, _key: str, value: str) -> str:
        """What the VM gets instead of what the workflow gave it."""
        return value

    def _address(self) -> str:
        """The first line that it prints, `metadata HOST:PORT`."""
        assert self.program.stdout
        watchdog = threading.Timer(START_DEADLINE_S, self.program.kill)
        watchdog.start()
        line = self.program.stdout.readline()
        watchdog.cancel()
        if not line.startswith("metadata "):
            raise RuntimeError(f"{self.program.args} did not start: {line!r}")
        return line.split()[1]

    def _listen(self) -> None:
        """The later lines: they have to be read away, at least."""
        assert self.program.stdout
        for line in self.program.stdout:
            self.said(line.strip())

    def said(self, line: str) -> None: ...

    def order(self, line: str) -> None:
        assert self.program.stdin
        self.program.stdin.write(f"{line}\n")
        self.program.stdin.flush()

    def set(self, path: str, value: str) -> None:
        """Changes what the metadata server answers, and returns when it does."""
        self.order(f"{path}={value}")
        deadline = time.monotonic() + STOP_DEADLINE_S
        while self._read(path) != value and time.monotonic() < deadline:
            time.sleep(0.01)

    def status(self) -> str:
        return "GONE" if self.gone else "RUNNING"

    def guest_attribute(self, key: str) -> str | None:
        return self._read(f"instance/guest-attributes/{key}")

    def token(self) -> str:
        whole = self._read("instance/service-accounts/default/token")
        return json.loads(whole)["access_token"] if whole else ""

    def console(self) -> str:
        raise NotImplementedError

    def preempt(self) -> None:
        """The metadata server says so as the power button is pressed, and the VM is gone when it is off."""
        raise NotImplementedError

    def vanish(self) -> None:
        """A power cut: no last word of anybody. The job must not have an `id`: then its container is named by the VM's."""
        raise NotImplementedError

    def power_off(self) -> None:
        """As instances.delete does it."""
        raise NotImplementedError

    def _read(self, path: str) -> str | None:
        request = urllib.request.Request(f"http://{self.host}/computeMetadata/v1/{path}", headers=HEADERS)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 loopback
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None
