# SPDX-License-Identifier: Apache-2.0
"""`pvc` as a process: on a terminal, in a pipe whose reader leaves, and when somebody presses Ctrl-C."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_runner import a_vm, an_outcome

from pvc_cli.connections import connections_path, load_connections

PVC = str(Path(sys.executable).with_name("pvc"))


class Api(BaseHTTPRequestHandler):
    """A cluster with very many VMs, on which a start never ends."""

    vms: ClassVar[list[dict[str, Any]]] = []
    watching: ClassVar[threading.Event]

    def do_GET(self) -> None:
        if self.path == "/api/v1/vm/web1":
            self._answer(a_vm(state="stopped"))
        elif self.path == "/api/v1/vm/db2":
            self._answer(a_vm("db2", state="migrating", target="hv2"))
        elif "/state" in self.path:
            self.watching.set()
            self._answer({"vm": a_vm(state="starting"), "settled": False})
        else:
            self._answer({"vms": self.vms, "total": len(self.vms)})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(an_outcome(a_vm(state="starting"), "/api/v1/vm/web1/state?since=1"))

    def _answer(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Api.vms = [a_vm("web1", state="failed"), a_vm("db1", state="stopped", held=True, node="hv2")]
    Api.watching = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def environment(server: ThreadingHTTPServer, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "PVC_API_URL": f"http://127.0.0.1:{server.server_port}",
    }


def on_a_terminal(
    words: list[str], environment: dict[str, str], columns: int = 80, asked: str = "", answer: str = ""
) -> tuple[int, str]:
    """Run `pvc` on a terminal of this width, give `answer` when it has `asked`: its exit status and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PVC, [PVC, *words], {**environment, "COLUMNS": str(columns)})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # how Linux says that the other side of a terminal has closed
                raise
            part = b""
        if not part:
            break
        shown += part
        if asked and asked.encode() in shown:
            os.write(terminal, answer.encode())
            asked = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode().replace("\r\n", "\n")


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", shown)


def test_a_reader_that_leaves_ends_it_quietly(environment: dict[str, str]) -> None:
    Api.vms = [a_vm(f"web{n}") for n in range(2000)]  # more than a pipe holds, in any form
    for form in ("table", "json", "yaml"):
        process = subprocess.Popen(
            [PVC, "vm", "list", "-o", form], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 141


def test_ctrl_c_ends_the_wait_and_says_that_the_operation_goes_on(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [PVC, "vm", "start", "web1", "--wait"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert Api.watching.wait(30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "pvc: interrupted; the operation goes on, see `pvc vm info web1`"


def test_a_terminal_of_80_columns_shows_a_row_per_vm_in_colour(environment: dict[str, str]) -> None:
    status, shown = on_a_terminal(["vm", "list"], environment)
    assert status == 0
    assert "\x1b[31m\x1b[1mfailed\x1b[0m" in shown
    lines = plain(shown).splitlines()
    assert len(lines) == 3
    assert max(len(line) for line in lines) <= 80
    assert lines[2].split() == ["db1", "stopped", "hv2", "hv1", "512", "MiB", "1", "any", "default", "no", "held"]


def test_a_terminal_that_is_too_narrow_shows_long_limits_and_notes_below_their_row(
    environment: dict[str, str],
) -> None:
    limit = [f"hypervisor{n}" for n in range(3)]
    Api.vms = [
        a_vm("a-rather-long-name", node_limit=limit, held=True, limit_violated=True, state="shutting-down"),
        a_vm("web1"),
    ]
    _, shown = on_a_terminal(["vm", "list"], environment)
    assert plain(shown).splitlines() == [
        "NAME               STATE         NODE HOME  MEMORY VCPUS SELECTOR AUTO",
        "a-rather-long-name shutting-down hv1  -    512 MiB     1 default  no",
        "    limit hypervisor0,hypervisor1,hypervisor2",
        "    note held, outside limit",
        "web1               running       hv1  -    512 MiB     1 default  no",
    ]


def test_no_color_is_honoured_on_a_terminal(environment: dict[str, str]) -> None:
    _, shown = on_a_terminal(["vm", "list"], {**environment, "NO_COLOR": "1"})
    assert "\x1b" not in shown
    _, shown = on_a_terminal(["vm", "info", "web1"], {**environment, "NO_COLOR": "1", "PVC_API_URL": "ftp://x"})
    assert shown.startswith("pvc: PVC_API_URL 'ftp://x'")


def test_progress_on_a_terminal_is_one_line_that_is_rewritten(environment: dict[str, str]) -> None:
    status, shown = on_a_terminal(["vm", "start", "web1", "--timeout", "0.2"], environment)
    assert status == 9
    assert "\r\x1b[Kweb1 is starting on hv1" in shown
    assert plain(shown).strip().splitlines()[-1].rpartition("\r")[2].startswith("pvc: still waiting for web1")


def test_a_token_is_asked_for_without_an_echo(environment: dict[str, str], tmp_path: Path) -> None:
    words = ["connection", "add", "prod", "https://hv1"]
    status, shown = on_a_terminal(words, environment, asked="Token (empty for none): ", answer="pvc_secret\n")
    assert status == 0
    assert "pvc_secret" not in shown
    assert load_connections(connections_path({"HOME": str(tmp_path)})).get("prod").token == "pvc_secret"


def test_before_a_vm_is_given_up_it_is_said_where_its_guest_may_still_run(environment: dict[str, str]) -> None:
    words = ["vm", "undefine", "db2", "--force"]
    status, shown = on_a_terminal(words, environment, columns=400, asked="[y/N]: ", answer="n\n")
    assert status == 1
    assert "Its guest may still be running on hv1 or hv2 and write to its disks; nothing will recover it." in shown
    assert (
        "may still be running"
        not in on_a_terminal(["vm", "undefine", "web1", "--force"], environment, asked="[y/N]: ", answer="n\n")[1]
    )


def test_a_no_changes_nothing(environment: dict[str, str]) -> None:
    status, shown = on_a_terminal(["vm", "undefine", "web1"], environment, asked="[y/N]: ", answer="n\n")
    assert status == 1
    assert "web1 (11111111-2222-4333-8444-555555555555) is stopped on hv1. Forget it?" in shown
    assert plain(shown).endswith("pvc: nothing was changed\n")


@pytest.mark.parametrize("program", ["pvc", "pvc-node", "pvc-api"])
def test_every_program_says_its_version(program: str) -> None:
    path = Path(PVC).with_name(program)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == (f"{program} {version('pvc')}\n", "")
