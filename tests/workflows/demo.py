"""The whole story in one terminal: workflow → VM → agent → container → callback → result → VM deleted.

    tests/with-docker target/third-party/workflows/bin/python tests/workflows/demo.py [--svg FILE]

Real are the workflow file and its engine, the agent, and the container; told are Google's own minutes: a VM is there after
12 s (its boot is not told), and deleted after 35 s. Prints what happens when it happens, and at the end how long each phase
took; with --svg that is also drawn.
"""

import argparse
import datetime
import html
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from driver.clock import RealClock
from driver.cloud import Cloud
from driver.compute import DELETE_S, INSERT_S, Instance, Machine
from driver.endpoints import Endpoints
from driver.execution import Execution
from driver.process_vm import ProcessVm

SCRIPT = """echo hello
for i in 1 2 3; do echo "step $i of 3"; sleep 1; done
echo '{"loss": 0.5}' >$JOB_RESULT_FILE
"""
JOB = {"id": "demo", "container": {"image": "vmjob/busybox:test", "args": ["sh", "-c", SCRIPT]}}
WIDTH, ROW, LEFT, RIGHT, TOP = 860, 30, 250, 60, 16
COLOURS = {"workflow": "#4285f4", "vm": "#34a853", "job": "#fbbc04"}


class Told(Cloud):
    """Prints each call of the API, but not the polls."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.began = time.time()

    def say(self, words: str) -> None:
        print(f"{time.time() - self.began:6.1f} s  {words}", flush=True)

    def request(self, verb: str, url: str, query: dict[str, Any], body: Any) -> tuple[int, Any]:
        if "/operations/" not in url:
            self.say(f"workflow: {verb} {url.partition('/projects/')[2]}")
        return super().request(verb, url, query, body)

    def post(self, path: str, payload: Any, method: str = "POST") -> int:
        status = super().post(path, payload, method)
        self.called_at = time.time()
        self.say(f"agent:    {method} the report to the callback endpoint, answered {status}")
        return status


class LateVm:
    """A real VM that starts when Google has made it."""

    def __init__(self, cloud: Told, instance: Instance) -> None:
        self.cloud, self.instance = cloud, instance
        self.vm: ProcessVm | None = None
        self.timer = threading.Timer(INSERT_S, self.boot)
        self.timer.start()

    def boot(self) -> None:
        self.booted_at = time.time()
        self.vm = ProcessVm(self.instance)
        self.cloud.say("VM:       boots; the agent reads the job from the metadata")

    def status(self) -> str:
        return self.vm.status() if self.vm else "STAGING"

    def guest_attribute(self, key: str) -> str | None:
        return self.vm.guest_attribute(key) if self.vm else None

    def console(self) -> str:
        return self.vm.console() if self.vm else ""

    def power_off(self) -> None:
        self.timer.cancel()
        if self.vm:
            self.vm.power_off()


def run() -> list[tuple[str, str, float, float]]:
    """The phases: what, of whom, from when to when in seconds."""
    vms: list[LateVm] = []

    def boot(instance: Instance) -> Machine:
        vms.append(LateVm(cloud, instance))
        return vms[-1]

    cloud = Told(RealClock(), boot)
    with Endpoints(cloud, lambda token: any(vm.vm is not None and token == vm.vm.token() for vm in vms)):
        execution = Execution(cloud)
        report = execution.run({"job": JOB, "baked": True})
    ended = time.time() - cloud.began
    cloud.say(f"workflow: returns {json.dumps({key: report[key] for key in ('state', 'exit_code', 'result')})}")
    print(f"          the job said: {json.dumps(report['logs']['tail'])}")
    print(f"          {execution.steps} steps, {execution.api_calls} API calls, {execution.polls} of them polls")

    def at(name: str) -> float:
        return datetime.datetime.fromisoformat(report["times"][name]).timestamp() - cloud.began

    booted, called = vms[0].booted_at - cloud.began, cloud.called_at - cloud.began
    return [
        ("workflow: until the VM is asked for", "workflow", 0.0, booted - INSERT_S),
        (f"Google: the VM is made (told: {INSERT_S:.0f} s)", "vm", booted - INSERT_S, booted),
        ("agent: start to container", "vm", booted, at("started_at")),
        ("job: the container runs", "job", at("started_at"), at("finished_at")),
        ("agent: exit to callback", "vm", at("finished_at"), called),
        (f"workflow: the VM is deleted (told: {DELETE_S:.0f} s)", "workflow", called, ended),
    ]


def table(phases: list[tuple[str, str, float, float]]) -> str:
    lines = [f"{start:7.2f} … {end:7.2f} s  {end - start:6.2f} s  {name}" for name, _, start, end in phases]
    return "\n".join(["", "the timeline", *lines])


def svg(phases: list[tuple[str, str, float, float]]) -> str:
    whole = max(end for *_, end in phases)
    scale = (WIDTH - LEFT - RIGHT) / whole
    height = TOP + ROW * len(phases) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for row, (name, kind, start, end) in enumerate(phases):
        y, x, width = TOP + row * ROW, LEFT + start * scale, max(2.0, (end - start) * scale)
        parts += [
            f'<text x="8" y="{y + 14}" fill="#222">{html.escape(name)}</text>',
            f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="18" rx="2" fill="{COLOURS[kind]}"/>',
            f'<text x="{x + width + 4:.1f}" y="{y + 15}" fill="#444">{end - start:.2f} s</text>',
        ]
    axis = TOP + ROW * len(phases)
    parts.append(f'<line x1="{LEFT}" y1="{axis}" x2="{WIDTH - RIGHT}" y2="{axis}" stroke="#999"/>')
    for second in range(0, int(whole) + 1, 10):
        parts.append(f'<text x="{LEFT + second * scale:.1f}" y="{axis + 16}" text-anchor="middle" fill="#666">{second} s</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, help="where to draw the timeline")
    arguments = parser.parse_args()
    phases = run()
    print(table(phases))
    if arguments.svg:
        arguments.svg.write_text(svg(phases))
        print(f"drawn: {arguments.svg}")


if __name__ == "__main__":
    main()
