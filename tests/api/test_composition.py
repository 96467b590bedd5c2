# SPDX-License-Identifier: Apache-2.0
"""The composition roots: the real server, started and stopped by its process id, and the application in the CLI."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_api.server import check_address, gunicorn_settings, is_loopback
from pvc_api.wsgi import create_local_application
from pvc_core.configuration import ApiSection
from pvc_core.errors import InvalidInput, StoreUnavailable
from pvc_core.model import VmState
from pvc_core.testing.builders import a_node, a_vm
from pvc_lab.free_ports import free_port

PATIENCE_S = 20
"""Of what will come: a machine may be busy."""


def write_configuration(folder: Path, store_url: str, api: str = "") -> Path:
    file = folder / "pvc.toml"
    file.write_text(f'[cluster]\nstore = "{store_url}"\n[api]\n{api}\n')
    return file


class Server:
    """`python -m pvc_api.server` with a log file."""

    def __init__(self, configuration: Path, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.log = configuration.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pvc_api.server"],
                env={**os.environ, "PVC_CONFIG": str(configuration)},
                stderr=log,
                cwd=configuration.parent,
            )

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def held(self, path: str, secret: str) -> socket.socket:
        """A request that a worker has begun to answer: the server says so, because it was asked to."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        headers = (f"Authorization: Bearer {secret}", "Host: pvc", "Expect: 100-continue", "Connection: close")
        connection.sendall("\r\n".join((f"GET /api/v1{path} HTTP/1.1", *headers, "", "")).encode())
        expected, heard = b"HTTP/1.1 100 Continue\r\n\r\n", b""
        while len(heard) < len(expected) and (more := connection.recv(len(expected) - len(heard))):
            heard += more
        assert heard == expected
        return connection

    def is_to_stop(self) -> None:
        """SIGTERM to the process."""
        os.kill(self.process.pid, signal.SIGTERM)

    def has_stopped(self) -> None:
        """It ends well before those who wait would have waited long enough."""
        self.process.wait(PATIENCE_S)


def answer_on(connection: socket.socket) -> dict[str, Any]:
    """The document that comes after the server has said that it goes on."""
    with connection, HTTPResponse(connection) as answer:
        answer.begin()
        document: dict[str, Any] = json.loads(answer.read())
        return document


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    file = write_configuration(tmp_path, cluster.url, f'listen = "127.0.0.1:{port}"\nworkers = 2\nthreads = 6')
    running = Server(file, port)
    try:
        eventually(running.is_up, 20)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_the_real_server_serves_and_stops_cleanly_also_while_clients_wait(server: Server, cluster: Cluster) -> None:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state=VmState.STARTING)])
    maker = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    maker.connection.open()
    secret = maker.token("admin")
    maker.connection.close()
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        eventually(lambda: client.get("/vm").status_code == 200)
        assert client.post("/vm", json={"definition": xml("web2")}).status_code == 201
        assert client.get("/vm/web2/state").json()["settled"] is True

        heard = threading.Event()

        def follow_events() -> None:
            with client.stream("GET", "/events?follow=true&limit=1", timeout=70) as stream:
                for line in stream.iter_lines():
                    if line.startswith("data:") and "vm_defined" in line:
                        heard.set()

        following = threading.Thread(target=follow_events)
        following.start()
        assert heard.wait(PATIENCE_S)
        waiting = [server.held("/vm/web1/state?wait=60", secret) for _ in range(4)]
        server.is_to_stop()
        assert [answer_on(connection)["settled"] for connection in waiting] == [False] * 4
        following.join(PATIENCE_S)
        assert not following.is_alive()
    server.has_stopped()
    assert server.process.returncode == 0
    events = [json.loads(line)["event"] for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert events.count("worker_started") == 2
    assert events.count("worker_stopped") == 2
    assert "audit" in events
    assert secret not in server.log.read_text()


@pytest.mark.parametrize(
    ("api", "complaint"),
    [
        ('listen = "0.0.0.0:7370"', "not a loopback address"),
        ('listen = "127.0.0.1:7370"\ntls_key = "/nix"', "api.tls_certificate"),
        ('listen = "127.0.0.1:7370"\nport = 1', "port"),
    ],
)
def test_the_server_refuses_a_configuration_that_it_should_not_serve(tmp_path: Path, api: str, complaint: str) -> None:
    file = write_configuration(tmp_path, "sqlite:///nowhere", api)
    command = [sys.executable, "-m", "pvc_api.server", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_server_says_which_store_url_it_cannot_use_and_ends(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, "etcd://somewhere", f'listen = "127.0.0.1:{free_port()}"')
    command = [sys.executable, "-m", "pvc_api.server", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert "no driver is loaded for this URL's scheme" in ended.stderr


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/run/pvc.sock"])
def test_loopback_needs_no_tls(listen: str) -> None:
    assert is_loopback(listen)
    check_address(ApiSection(listen=listen))


@pytest.mark.parametrize("listen", ["0.0.0.0:1", ":1", "[::]:1", "10.0.0.1:1", "hv1:1", "localhost.evil:1"])
def test_any_other_address_needs_tls_or_an_explicit_word(listen: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="clear"):
        check_address(ApiSection(listen=listen))
    check_address(ApiSection(listen=listen, insecure=True))
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    with_tls = ApiSection(listen=listen, tls_certificate=str(certificate), tls_key=str(key))
    with pytest.raises(InvalidInput, match="can be read"):
        check_address(with_tls)
    for file in (certificate, key):
        file.touch()
    settings = gunicorn_settings(with_tls)
    assert (settings["certfile"], settings["keyfile"]) == (str(certificate), str(key))
    assert settings["bind"] == [listen]


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "7370", "127.0.0.1:http", "127.0.0.1:99999", "::1:7370"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(InvalidInput, match="not an address"):
        check_address(ApiSection(listen=listen))


def test_the_application_in_the_cli_needs_no_token_and_may_do_everything(cluster: Cluster, tmp_path: Path) -> None:
    app, close = create_local_application(str(write_configuration(tmp_path, cluster.url)))
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://local/api/v1") as client:
        made = client.post("/token", json={"name": "first", "role": "admin"})
        assert made.status_code == 201
        assert client.get("/token").json()["tokens"][0]["name"] == "first"
        assert client.post("/vm", json={"definition": xml()}).status_code == 201
        assert client.post("/cluster/settings", json={"default_selector": "load"}).status_code == 200
    close()
    other = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    other.connection.open()
    with other.client(made.json()["secret"]) as client:
        assert client.get("/vm").json()["total"] == 1
    other.connection.close()


def test_the_application_in_the_cli_prints_nothing(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    app, close = create_local_application(str(write_configuration(tmp_path, cluster.url)))
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://local/api/v1") as client:
        client.get("/vm")
        client.post("/vm", json={"definition": xml()})
        client.get("/nix")
    close()
    assert capfd.readouterr() == ("", "")


def test_the_application_in_the_cli_says_at_once_that_the_store_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "store.db"
    folder.mkdir()
    with pytest.raises(StoreUnavailable):
        create_local_application(str(write_configuration(tmp_path, f"sqlite://{folder}?request_timeout_s=0.2")))


def test_the_application_in_the_cli_names_a_configuration_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        create_local_application(str(tmp_path / "nix.toml"))
