"""The startup script as far as the workflow depends on it, as a process on this machine: `tests/vm` boots it for real.

Its paths lie in a directory of the test, and its metadata server is one of the test's own.
"""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from driver.execution import WORKFLOWS, checked
from test_files import steps

SCRIPT = WORKFLOWS.parent / "startup/startup-script.sh"
ATTRIBUTE = "/computeMetadata/v1/instance/attributes/"
GUEST = "/computeMetadata/v1/instance/guest-attributes/vmjob/"


class Server:
    """The metadata server, the bucket and the callback endpoint in one. `attributes` are answered, the rest is noted."""

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}
        self.guest: list[tuple[str, str]] = []
        self.posted: list[tuple[str, bytes]] = []
        self.callback_status = 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:
                value = server.attributes.get(self.path.removeprefix(ATTRIBUTE))
                if value is not None:
                    self.answer(200, value)
                elif "/attributes/" in self.path or "/service-accounts/" in self.path:
                    self.answer(404)
                else:
                    self.answer(200, "projects/1/zones/us-a1-a")

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def do_PUT(self) -> None:
                server.guest.append((self.path.removeprefix(GUEST), self.body().decode()))
                self.answer(200)

            def do_POST(self) -> None:
                server.posted.append((self.path, self.body()))
                self.answer(server.callback_status)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def beats(self) -> list[str]:
        return [value for key, value in self.guest if key == "heartbeat"]


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def start(server: Server, folder: Path, **bounds: int) -> subprocess.Popen[str]:
    """Starts the script with other bounds. There is no systemd, and no agent."""
    text = SCRIPT.read_text()
    for name, value in bounds.items():
        text, count = re.subn(rf"(?m)^{name}=\d+", f"{name}={value}", text)
        assert count == 1, name
    for path in ("/var/lib/vmjob", "/usr/bin/vmjob-agent", "/var/lib/google/vmjob/vmjob-agent", "/run/$"):
        assert path in text, path
        text = text.replace(path, f"{folder}{path}")
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "run").mkdir(exist_ok=True)
    for name in ("systemctl", "sync"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\nexit {int(name == 'systemctl')}\n")
        (folder / "bin" / name).chmod(0o755)
    script = folder / "startup.sh"
    script.write_text(text)
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "GCE_METADATA_HOST": server.address}
    pipe = subprocess.PIPE
    return subprocess.Popen(["/bin/bash", str(script)], env=environment, stdout=pipe, stderr=pipe, text=True)


def run(server: Server, folder: Path, **bounds: int) -> tuple[int, str]:
    """Its exit status, and what it said."""
    script = start(server, folder, **bounds)
    said = script.communicate(timeout=60)[1]
    return script.returncode, said


def test_a_script_that_is_still_at_work_gives_signs_of_life(server: Server, tmp_path: Path) -> None:
    """Here it cannot get its report out. Afterwards there are no more: the last one was its own."""
    server.callback_status = 503
    server.attributes = {"callback-url": f"http://{server.address}/callback"}
    run(server, tmp_path, HEARTBEAT_S=1, REPORT_PATIENCE_S=5)
    beats = server.beats()
    assert len(beats) >= 3
    assert len(set(beats)) == len(beats), "a heartbeat that stays the same is none"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ startup-script", beat) for beat in beats)
    time.sleep(3)
    assert server.beats() == beats


def test_a_script_that_is_quickly_done_gives_none_as_the_agents_own_follow(server: Server, tmp_path: Path) -> None:
    server.attributes = {"callback-url": f"http://{server.address}/callback"}
    status, said = run(server, tmp_path)
    assert status == 1
    assert server.beats() == []
    assert [path for path, _ in server.posted] == ["/callback"]
    assert "Terminated" not in said


def test_a_script_that_is_killed_gives_no_signs_of_life(server: Server, tmp_path: Path) -> None:
    server.callback_status = 503
    server.attributes = {"callback-url": f"http://{server.address}/callback"}
    with start(server, tmp_path, HEARTBEAT_S=1) as script:
        while not server.beats():
            time.sleep(0.1)
        script.kill()
    time.sleep(2.5)
    beats = server.beats()
    time.sleep(2.5)
    assert server.beats() == beats


@pytest.mark.parametrize("around", ["\n", " ", "\r\n", "\t \n\n"], ids=repr)
def test_a_value_may_have_spaces_and_line_ends_around_it(server: Server, tmp_path: Path, around: str) -> None:
    server.attributes = {
        "callback-url": f"{around}http://{server.address}/callback{around}",
        "agent-url": f"{around}gs://{around}",
        "agent-sha256": f"{around}{'ab' * 32}{around}",
    }
    run(server, tmp_path)
    ((path, body),) = server.posted
    assert path == "/callback"
    assert "fetched from gs://: neither a gs:// nor" in json.loads(body)["message"]


GOOD = "https://workflowexecutions.googleapis.com"


@pytest.mark.parametrize(
    ("url", "gets_it"),
    [
        (f"{GOOD}/v1/projects/p", True),
        (GOOD, True),
        (f"{GOOD}:443?a=b", True),
        ("HTTPS://WorkflowExecutions.GoogleAPIs.com/v1", True),
        ("http://127.0.0.1:8080/callback", False),
        ("http://workflowexecutions.googleapis.com/v1", False),
        ("https://.googleapis.com/", False),
        ("https://..googleapis.com/", False),
        ("https://a..googleapis.com/", False),
        ("https://googleapis.com/", False),
        ("https://a.googleapis.com./", False),
        ("https://a.googleapis.com.example.com/", False),
        ("https://user@a.googleapis.com/", False),
        ("https://example.com\\.googleapis.com/", False),
        (f"{GOOD}/v1\n", False),
        (f"{GOOD}/v1\nhttps://example.com/", False),
        (f"{GOOD}\n/", False),
        (f"https://example.com/\n{GOOD}/", False),
        (f"{GOOD}/v1\r", False),
        (f"{GOOD}/a b", False),
        ("https://example.com", False),
        ("", False),
    ],
)
def test_the_token_goes_to_a_host_of_google_alone(url: str, gets_it: bool) -> None:
    functions = f"source <(sed '/^main$/d' {SCRIPT}); may_have_token \"$1\""
    assert (subprocess.run(["/bin/bash", "-c", functions, "bash", url], check=False).returncode == 0) == gets_it


NO_URLS = ["https://.googleapis.com/", f"{GOOD}/v1\nhttps://example.com/", "https://a b/", "nowhere"]


@pytest.mark.parametrize("url", NO_URLS, ids=repr)
def test_a_callback_url_of_no_host_is_refused_at_once(server: Server, tmp_path: Path, url: str) -> None:
    server.attributes = {"callback-url": url}
    began = time.monotonic()
    status, said = run(server, tmp_path)
    assert (status, server.posted) == (1, [])
    assert "callback-url is no URL" in said
    assert time.monotonic() - began < 20


def test_the_workflow_waits_longer_for_a_sign_of_life_than_the_script_takes_to_give_one() -> None:
    heartbeat_s = int(re.findall(r"(?m)^HEARTBEAT_S=(\d+)", SCRIPT.read_text())[0])
    assigned = dict(steps(checked(WORKFLOWS / "run-job.yaml")["describe_vms"]))["begin"]["assign"]
    (vm,) = [item["vm"] for item in assigned if "vm" in item]
    silence = int(re.findall(r"\d+", vm["silence"])[0])
    assert silence >= 5 * heartbeat_s
    explain = str(checked(WORKFLOWS / "run-job.yaml")["write_report"])
    assert "startup-script" in explain, "such signs of life are none of the agent"
