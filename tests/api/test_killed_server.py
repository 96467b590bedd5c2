# SPDX-License-Identifier: Apache-2.0
"""An API worker that is killed (SIGKILL) in the middle of a command leaves the old state of a volume or the new one."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_cluster import Cluster, eventually
from real_server import RealServer, real_server

MIB = 2**20
OCTETS = {"Content-Type": "application/octet-stream"}
TIMES = 3
COMMANDS: dict[str, tuple[str, dict[str, str]]] = {
    "rename": ("/disk-{of}/rename", {"name": "new-{of}"}),
    "clone": ("/disk-{of}/clone", {"name": "new-{of}"}),
    "snapshot": ("/disk-{of}/snapshot", {"name": "later"}),
    "rollback": ("/disk-{of}/snapshot/then/rollback", {}),
}


@pytest.fixture(params=["directory", pytest.param("ceph", marks=pytest.mark.ceph)])
def backend(
    request: pytest.FixtureRequest, tmp_path: Path, require: Callable[[str], None]
) -> Iterator[tuple[str, str]]:
    """The name of a backend with the pool vms, and its configuration."""
    if request.param == "directory":
        require("qemu-img")
        (tmp_path / "volumes").mkdir()
        yield "directory", f'[plugin.directory.pools.vms]\nfolder = "{tmp_path}/volumes"\nshared = true\n'
        return
    require("ceph")
    from pvc_lab.ceph_cluster import CephCluster

    with CephCluster(tmp_path / "ceph", osds=1) as made:
        made.admin.command("config set", who="osd", name="osd_client_watch_timeout", value="2")
        made.create_pool("vms")
        yield "ceph", f'[plugin.ceph]\nconf = "{made.conf_path}"\ntimeout_s = 2\n'
    made.remove()


def test_whatever_it_was_at_the_volume_is_as_before_or_as_after_and_repair_leaves_nothing(
    cluster: Cluster, tmp_path: Path, backend: tuple[str, str]
) -> None:
    name, section = backend
    with real_server(tmp_path, cluster, section) as server, server.client(server.token("operator")) as api:
        at = f"/storage/{name}/pool/vms/volume"
        killed = 0
        for command in COMMANDS:
            prepare(api, at, f"{command}-whole")
            old = state(api, at, f"{command}-whole")
            began_s = time.monotonic()
            asked(api, at, command, f"{command}-whole")
            lasts_s, new = time.monotonic() - began_s, state(api, at, f"{command}-whole")
            assert new != old
            for number in range(TIMES):
                of = f"{command}-{number}"
                prepare(api, at, of)
                killed += kill_in_the_middle(server, api, at, command, of, random.uniform(0.1, 0.9) * lasts_s)
                found = state(api, at, of)
                if command == "rollback" and name == "ceph" and "is on its way back" in found["disk"][-1]:
                    continue  # nobody can use it; that repair ends it is looked at below
                assert found in (old, new), f"{command}, {number}"
        assert killed > TIMES, "most commands were over before they were killed"

        def is_repaired() -> bool:
            answer = api.post(f"/storage/{name}/repair", json={}).json()
            return answer["left"] == answer["problems"] == []

        eventually(is_repaired, 60)
        assert api.get(f"/storage/{name}/repair").json() == {"leftovers": [], "problems": []}
        for number in range(TIMES):
            assert "refused" not in str(state(api, at, f"rollback-{number}")["disk"])


def prepare(api: httpx.Client, at: str, of: str) -> None:
    """A volume with a snapshot and other contents since."""
    assert api.post(at, json={"name": f"disk-{of}", "size_bytes": 12 * MIB}).status_code == 201
    for text in (b"then", b"now."):
        filled = api.put(f"{at}/disk-{of}/contents", content=text * (2 * MIB), headers=OCTETS)
        assert filled.status_code == 200, filled.text
        if text == b"then":
            assert api.post(f"{at}/disk-{of}/snapshot", json={"name": "then"}).status_code == 201


def asked(api: httpx.Client, at: str, command: str, of: str) -> httpx.Response:
    path, body = COMMANDS[command]
    return api.post(f"{at}{path.format(of=of)}", json={key: value.format(of=of) for key, value in body.items()})


def kill_in_the_middle(server: RealServer, api: httpx.Client, at: str, command: str, of: str, after_s: float) -> bool:
    """Whether the command had no answer; once the server serves again."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        with suppress(httpx.TransportError):
            answers.append(asked(api, at, command, of))

    worker = server.worker
    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(after_s)  # the moment is what is tried out
    os.kill(worker, signal.SIGKILL)
    asking.join(30)

    def serves_again() -> bool:
        with suppress(httpx.TransportError, IndexError, FileNotFoundError):
            return server.worker != worker and api.get("/vm").status_code == 200
        return False

    eventually(serves_again, 60)
    return not answers


def state(api: httpx.Client, at: str, of: str) -> dict[str, Any]:
    """What there is under either name, as clients see it."""
    listed = {volume["name"] for volume in api.get(at).json()["volumes"]}
    return {kind: volume(api, at, f"{kind}-{of}", listed) for kind in ("disk", "new")}


def volume(api: httpx.Client, at: str, name: str, listed: set[str]) -> Any:
    found = api.get(f"{at}/{name}")
    if found.status_code != 200:
        assert name not in listed
        return None
    assert name in listed
    snapshots = [each["name"] for each in api.get(f"{at}/{name}/snapshot").json()["snapshots"]]
    held = api.get(f"{at}/{name}/contents")
    if held.status_code == 409:
        return [found.json()["size_bytes"], snapshots, f"refused: {held.json()['detail']}"]
    assert held.status_code == 200, held.text
    return [found.json()["size_bytes"], snapshots, sha256(held.content).hexdigest()]
