# SPDX-License-Identifier: Apache-2.0
"""The nodes of an embedded cluster have volumes in a folder that all of them reach, and each in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.tour_cluster import program


def test_the_nodes_of_an_embedded_cluster_share_a_pool_of_volumes(
    cluster: EmbeddedCluster, operator: Operator, require: Callable[[str], None]
) -> None:
    require("qemu-img")

    def all_share(snapshot: ClusterSnapshot) -> bool:
        reports = [snapshot.node(node).report for node in cluster.nodes]
        found = [report.value.storage.get("directory") for report in reports if report]
        return [each.usable and each.shared for each in found if each] == [True] * len(cluster.nodes)

    operator.wait(all_share, "every node to report that its folder can be used and is shared")


class WithOwnFolders(EmbeddedCluster):
    """Every node has the pool `own` in a folder that no other has."""

    def own(self, node: str) -> Path:
        return self.root / f"{node}-own"

    def pvc(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As a person runs it."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            [program("pvc"), *words], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def _configuration(self, node: str) -> str:
        self.own(node).mkdir(exist_ok=True)
        return f'{super()._configuration(node)}[plugin.directory.pools.own]\nfolder = "{self.own(node)}"\n'


@pytest.fixture
def apart(tmp_path: Path, require: Callable[[str], None]) -> Iterator[WithOwnFolders]:
    require("qemu-img")
    with WithOwnFolders(tmp_path) as cluster:
        yield cluster


def test_a_node_makes_a_volume_in_its_own_folder_for_a_vm_that_stays_with_it_and_removes_it(
    apart: WithOwnFolders,
) -> None:
    made = apart.pvc("storage", "directory", "volume", "add", "own", "disk", "10MiB", "--node", "hv2")
    assert (made.returncode, made.stdout) == (0, "hv2 has done it: make volume own/disk of 10 MiB\n"), made.stderr
    assert [(apart.own(node) / "disk.qcow2").exists() for node in apart.nodes] == [False, True, False]
    again = apart.pvc("storage", "directory", "volume", "add", "own", "disk", "10MiB", "--node", "hv2")
    assert again.returncode != 0
    assert "a volume 'disk' exists already" in again.stderr

    with an_operator(apart.store_url, len(apart.nodes)) as operator:
        operator.define("web1", target="hv2", start=False)
    added = apart.pvc("vm", "volume", "add", "web1", "directory", "own/disk", "-o", "json")
    assert json.loads(added.stdout)["volume"]["node"] == "hv2", added.stderr
    listed = apart.pvc("storage", "directory", "volume", "list", "own", "--node", "hv2")
    assert [row.split()[0::5] for row in listed.stdout.splitlines()] == [["NAME"], ["disk", "web1"]], listed.stderr
    other = apart.pvc("storage", "directory", "volume", "list", "own", "--node", "hv1")
    assert other.stdout == "pool own of hv1 has no volumes\n", other.stderr
    refused = apart.pvc("storage", "directory", "volume", "remove", "own", "disk", "--node", "hv2", "-y")
    assert "is a volume of web1 already" in refused.stderr
    apart.pvc("vm", "volume", "remove", "web1", "vda")
    removed = apart.pvc("storage", "directory", "volume", "remove", "own", "disk", "--node", "hv2", "-y")
    assert removed.returncode == 0, removed.stderr
    assert not (apart.own("hv2") / "disk.qcow2").exists()


def test_one_node_is_not_asked_for_what_all_share_nor_all_for_what_one_has(apart: WithOwnFolders) -> None:
    shared = apart.pvc("storage", "directory", "volume", "add", "default", "disk", "10MiB", "--node", "hv2")
    assert "pool default: is shared by all nodes: no single one is asked for it" in shared.stderr
    listed = apart.pvc("storage", "directory", "volume", "list", "default", "--node", "hv2")
    assert "pool default: is shared by all nodes: no single one is asked for it" in listed.stderr
    own = apart.pvc("storage", "directory", "volume", "add", "own", "disk", "10MiB")
    assert "pool own: is each node's own: volumes are listed, made and removed there with --node" in own.stderr
