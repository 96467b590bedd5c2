# SPDX-License-Identifier: Apache-2.0
"""`pvc node fence-device` and `fence-test`: what can switch a node off; a secret never stands on a command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cli_runner import Cli, FakeApi, problem
from test_cli_process import on_a_terminal

SECRET = "Swordfish-4711"
AGENTS = [{"name": "pdu", "summary": "outlets", "secrets": ["password", "pin"]}]
LIST = "GET /node/hv1/fence-device"
ADD = "POST /node/hv1/fence-device"


def listed(*devices: dict[str, Any], broken: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
    return {"node": "hv1", "devices": list(devices), "agents": AGENTS, "broken": list(broken)}


def a_device(number: int = 1, **fields: Any) -> dict[str, Any]:
    parameters = {"ip": "10.0.0.11", "password": "***"}
    return {"number": number, "agent": "pdu", "level": 1, "parameters": parameters, "problem": "", **fields}


def outcome(reason: str, number: int = 0) -> dict[str, Any]:
    return {"node": "hv1", "devices": [], "changed": True, "reason": reason, "number": number}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi({LIST: listed(), ADD: outcome("fence device 1 of hv1 added: pdu, level 2", 1)})


def add(run: Cli, api: FakeApi, *words: str, stdin: str = "") -> Any:
    return run("node", "fence-device", "add", "hv1", "pdu", *words, api=api, stdin=stdin)


def test_a_device_is_added_with_its_parameters_and_level(run: Cli, api: FakeApi) -> None:
    ran = add(run, api, "-p", "ip=10.0.0.11", "-p", "path=a=b", "-p", "greeting=@@home", "--level", "2")
    assert ran.out == "fence device 1 of hv1 added: pdu, level 2\n"
    assert "pvc node fence-test hv1" in ran.err
    parameters = {"ip": "10.0.0.11", "path": "a=b", "greeting": "@home"}
    assert api.bodies() == [{"agent": "pdu", "parameters": parameters, "level": 2}]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_a_file_or_stdin_without_the_end_of_its_line(
    run: Cli, api: FakeApi, tmp_path: Path, ending: str
) -> None:
    (tmp_path / "secret").write_text(f" {SECRET} {ending}", newline="")
    add(run, api, "-p", f"password=@{tmp_path}/secret", "-p", "pin=@-", stdin=f"0815{ending}")
    assert api.bodies()[0]["parameters"] == {"password": f" {SECRET} ", "pin": "0815"}


@pytest.mark.parametrize("name", ["password", "pin", "snmp_community", "Api-Key"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(run: Cli, api: FakeApi, name: str) -> None:
    ran = add(run, api, "-p", f"{name}={SECRET}")
    assert (ran.status, ran.out) == (2, "")
    assert f"say --secret {name} to be asked, or give {name}=@FILE" in ran.err
    assert SECRET not in ran.err
    assert api.bodies() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", SECRET), "NAME=VALUE"),
        (("-p", f"={SECRET}"), "NAME=VALUE"),
        (("-p", "ip=1", "-p", "ip=2"), "given twice"),
        (("-p", "password=@-", "--secret", "password"), "given twice"),
        (("-p", "password=@-", "-p", "pin=@-"), "one parameter only"),
        (("-p", "password=@/nowhere"), "cannot be read"),
        (("-p", "password=@-"), "is empty"),
        (("--secret", f"password={SECRET}"), "takes a name only"),
        (("--secret", "password"), "there is no terminal to ask"),
        (("--level", "10"), "level"),
    ],
)
def test_what_cannot_be_meant_sends_nothing(run: Cli, api: FakeApi, words: tuple[str, ...], said: str) -> None:
    ran = add(run, api, *words)
    assert (ran.status, said in ran.err, api.bodies()) == (2, True, []), ran.err
    assert SECRET not in ran.err


def test_devices_are_listed_with_masked_secrets(run: Cli) -> None:
    other = a_device(3, agent="old", level=2, problem="the fence agent old is not installed here")
    api = FakeApi({LIST: listed(a_device(), other)})
    first, second = [line.split() for line in run("node", "fence-device", "list", "hv1", api=api).out.splitlines()][1:]
    assert first == ["1", "1", "pdu", "ip=10.0.0.11", "password=***", "-"]
    assert " ".join(second).endswith("the fence agent old is not installed here")
    assert run("node", "fence-device", "list", "hv1", "-o", "names", api=api).out == "1\n3\n"


def test_a_node_without_devices_and_a_broken_record_say_what_to_do(run: Cli) -> None:
    broken = ({"key": "/fencing/hv1", "problem": "not JSON"},)
    ran = run("node", "fence-device", "list", "hv1", api=FakeApi({LIST: listed(broken=broken)}))
    assert "add one with `pvc node fence-device add`" in ran.out
    assert "/fencing/hv1 does not parse: not JSON; `pvc node fence-device clear hv1` replaces it" in ran.err


@pytest.mark.parametrize(("words", "path"), [(("remove", "hv1", "2"), "/2"), (("clear", "hv1"), "")])
def test_devices_are_removed_when_that_is_confirmed(run: Cli, words: tuple[str, ...], path: str) -> None:
    api = FakeApi({f"DELETE /node/hv1/fence-device{path}": outcome("gone")})
    refused = run("node", "fence-device", *words, api=api)
    assert (refused.status, "say --yes" in refused.err, api.asked) == (2, True, [])
    assert run("node", "fence-device", *words, "-y", api=api).out == "gone\n"


def a_check(number: int, power: str, problem: str = "") -> dict[str, Any]:
    detail = "the PDU answers"
    return {"number": number, "agent": "pdu", "level": 1, "power": power, "detail": detail, "problem": problem}


@pytest.mark.parametrize(
    ("devices", "status"),
    [
        ([a_check(1, "on"), a_check(2, "on")], 0),
        ([a_check(1, "on"), a_check(2, "unknown", "no route to the device")], 1),
        ([a_check(1, "off", "it says that hv1 is off, whose daemon is alive")], 1),
        ([a_check(1, "off")], 0),
        ([], 1),
    ],
)
def test_a_test_prints_a_line_per_device_and_fails_unless_all_would_be_of_use(
    run: Cli, devices: list[dict[str, Any]], status: int
) -> None:
    api = FakeApi({"POST /node/hv1/fence-test": {"node": "hv1", "devices": devices}})
    ran = run("node", "fence-test", "hv1", api=api)
    assert ran.status == status
    assert len(ran.out.splitlines()) == len(devices) + 1
    assert all((device["problem"] or "the PDU answers") in ran.out for device in devices)
    assert run("node", "fence-test", "hv1", "-o", "json", api=api).document["devices"] == devices


def test_a_test_that_the_api_refuses_says_why(run: Cli) -> None:
    busy = problem(503, "plugin_busy", "plugin fence-test is busy")
    ran = run("node", "fence-test", "hv1", api=FakeApi({"POST /node/hv1/fence-test": busy}))
    assert (ran.status, "is busy" in ran.err) == (7, True)


class Served(BaseHTTPRequestHandler):
    """An API that keeps the body of what is added."""

    added: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        self._answer(listed())

    def do_POST(self) -> None:
        self.added.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(outcome("fence device 1 of hv1 added", 1))

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
def url() -> Iterator[str]:
    Served.added = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_secret_that_is_asked_for_is_not_shown(url: str, tmp_path: Path) -> None:
    words = ["node", "fence-device", "add", "hv1", "pdu", "-p", "ip=10.0.0.11", "--secret", "password"]
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), "TERM": "dumb", "PVC_API_URL": url}
    asked = "password of the device of hv1:"
    status, shown = on_a_terminal(words, environment, asked=asked, answer=f"{SECRET}\n")
    assert (status, asked in shown, SECRET in shown) == (0, True, False)
    assert Served.added[0]["parameters"] == {"ip": "10.0.0.11", "password": SECRET}
