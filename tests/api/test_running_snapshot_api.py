# SPDX-License-Identifier: Apache-2.0
"""/vm/{vm}/snapshot of a guest that runs: its node takes it, and whoever waits hears what became of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
from api_cluster import Cluster, eventually

from pvc_core import changes, layout
from pvc_core.codec import decode, encode
from pvc_core.ports import Delete, Set
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.vm_snapshots import VmSnapshot, VmSnapshotState


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    document: dict[str, Any] = answer.json()
    return answer.status_code, document["code"], document["detail"]


def runs(api: httpx.Client, cluster: Cluster) -> None:
    """web1 runs."""
    cluster.has([a_node("hv1")], [a_vm("web1", state="running")])
    eventually(lambda: api.get("/vm/web1").status_code == 200)


def its_node_says(cluster: Cluster, state: str = "", problem: str = "") -> None:
    """The node has taken the snapshot, or could not."""
    stored = cluster.snapshot.vm("web1")
    name = stored.value.snapshots.taking
    key = layout.vm_snapshot(stored.value.uuid, name)
    entry = cluster.store.get(key)
    assert entry is not None
    snapshot = decode(entry, VmSnapshot)
    standing = stored.value.snapshots
    if problem:
        after = msgspec.structs.replace(stored.value, snapshots=standing.without(name, problem))
        cluster.store.transaction([changes.write_vm(stored, after), Delete(key, snapshot.version)])
        return
    after = msgspec.structs.replace(stored.value, snapshots=standing.at_rest(name))
    ready = msgspec.structs.replace(snapshot.value, state=VmSnapshotState(state), consistency="frozen")
    cluster.store.transaction([changes.write_vm(stored, after), Set(key, encode(ready), snapshot.version)])


def test_of_a_guest_that_runs_its_node_takes_it_and_the_answer_says_what_to_watch(
    api: httpx.Client, cluster: Cluster
) -> None:
    runs(api, cluster)
    answer = api.post("/vm/web1/snapshot", json={"name": "monday"})
    assert (answer.status_code, answer.json()["snapshot"]["state"]) == (202, "creating")
    watch = answer.json()["watch"].removeprefix("/api/v1")
    assert not api.get(watch).json()["settled"]
    assert problem(api.post("/vm/web1/snapshot", json={"name": "tuesday"})) == (
        409,
        "refused",
        "web1: its snapshot monday is being taken",
    )
    its_node_says(cluster, "ready")
    watched = api.get(watch, params={"wait": 10}).json()
    assert (watched["settled"], watched["snapshots"][0]["consistency"]) == (True, "frozen")


def test_one_that_its_node_could_not_take_is_a_problem_for_whoever_waits(api: httpx.Client, cluster: Cluster) -> None:

    def refuses() -> None:
        eventually(lambda: cluster.snapshot.vm("web1").value.snapshots.taking == "monday")
        its_node_says(cluster, problem="volume logs: is busy")

    runs(api, cluster)
    with ThreadPoolExecutor(1) as threads:
        node = threads.submit(refuses)
        answer = api.post("/vm/web1/snapshot", json={"name": "monday"}, params={"wait": 20})
        node.result()
    wanted = (409, "refused", "snapshot monday of web1: is not taken: volume logs: is busy")
    assert problem(answer) == wanted
    assert api.get("/vm/web1/snapshot").json()["problem"] == "volume logs: is busy"
