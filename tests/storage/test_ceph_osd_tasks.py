# SPDX-License-Identifier: Apache-2.0
"""OSDs are made on a disk and removed without losing a copy: by `ceph-volume`, on a loop device, in a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pvc_lab.ceph_cluster import CephCluster
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph.options import Options
from pvc_storage_backends.ceph.osd_tasks import ADD, REMOVE
from pvc_storage_backends.ceph.osd_tool import OsdOnDisk, _laid_by_lvm
from storage.osd_host import OsdHost

PATIENCE_S = 120


class Host:
    """A node with a free disk, and the cluster that it belongs to."""

    def __init__(self, host: OsdHost, cluster: CephCluster, device: str, namespace: int) -> None:
        self._host, self.cluster, self.device, self._namespace = host, cluster, device, namespace

    def begin(self, kind: str, **parameters: Any) -> subprocess.Popen[str]:
        return self._host.task(self._namespace, kind, **parameters)

    def do(self, kind: str, **parameters: Any) -> tuple[list[str], dict[str, Any]]:
        """What a task reports, and how it ends."""
        with self.begin(kind, **parameters) as task:
            lines = [json.loads(line) for line in task.communicate(timeout=PATIENCE_S)[0].splitlines()]
        return [line["sentence"] for line in lines[:-1]], lines[-1]

    def osds(self) -> dict[int, dict[str, Any]]:
        return {osd["osd"]: osd for osd in self.cluster.admin.command("osd dump")["osds"]}

    def groups_of(self, number: int) -> int:
        osds = self.cluster.admin.command("osd df", to="mgr")["nodes"]
        return next(osd["pgs"] for osd in osds if osd["id"] == number)


@pytest.fixture
def host(require: Callable[[str], None], tmp_path: Path) -> Iterator[Host]:
    require("lab")
    with CephCluster(tmp_path / "ceph", osds=2) as cluster:
        host = OsdHost(tmp_path, cluster.conf_path)
        with host.disk() as device, host.namespace() as namespace:
            try:
                yield Host(host, cluster, device, namespace.pid)
            finally:
                namespace.kill()


@pytest.mark.ceph
def test_an_osd_is_made_on_a_disk_and_removed_and_the_disk_is_free_again(host: Host) -> None:
    for _ in range(2):
        told, end = host.do(ADD, device=host.device, device_class="nvme")
        assert end == {"result": {"osd": "osd.2", "device": host.device}}
        assert told[:3] == [f"looking at {host.device}", f"preparing {host.device}", "starting osd.2"]
        assert host.osds()[2]["up"] == 1
        assert host.cluster.admin.command("osd crush class ls-osd", **{"class_": "nvme"}) == [2]
        _, end = host.do(ADD, device=host.device, device_class="")
        assert f"{host.device}: is not free: " in end["problem"]

        told, end = host.do(REMOVE, osd=2)
        assert end == {"result": {"osd": "osd.2", "device": host.device}}
        assert told[-1] == "removing osd.2"
        assert sorted(host.osds()) == [0, 1]


@pytest.mark.ceph
def test_an_osd_whose_copies_have_no_other_place_stays_and_takes_part_again_when_that_is_called_off(host: Host) -> None:
    host.do(ADD, device=host.device, device_class="")
    host.cluster.admin.command("osd pool create", pool="three", pg_num=4, size=3)
    wait_for(lambda: host.groups_of(2) == 4, "osd.2 has a copy of everything")
    with host.begin(REMOVE, osd=2) as task:
        assert task.stdout
        assert task.stdin
        moving = next(line for line in task.stdout if "holds to others: " in line)
        assert host.osds()[2]["in"] == 0
        task.stdin.write("called off\n")
        task.stdin.flush()
        *_, end = task.stdout
    assert "placement groups use it" in moving
    assert json.loads(end) == {"cancelled": True}
    assert (host.osds()[2]["in"], host.osds()[2]["up"]) == (1, 1)


@pytest.mark.ceph
def test_what_is_no_free_disk_is_refused_before_anything_is_made(host: Host, tmp_path: Path) -> None:
    _, end = host.do(ADD, device="/dev/null", device_class="")
    assert end == {"problem": "/dev/null: is no block device of this host"}
    subprocess.run(["mkfs.ext4", "-q", host.device], check=True)
    _, end = host.do(ADD, device=host.device, device_class="")
    assert f"{host.device}: is not free: " in end["problem"]
    _, end = host.do(REMOVE, osd=0)
    assert end == {"problem": "osd.0: has no disk of hv1"}
    assert sorted(host.osds()) == [0, 1]


def test_an_osd_on_a_logical_volume_is_found_by_its_block_volume() -> None:
    tags = {"ceph.osd_fsid": "1b910dc7"}
    answer = {
        "3": [
            {"type": "db", "devices": ["/dev/nvme0n1"], "tags": tags},
            {"type": "block", "devices": ["/dev/sdb"], "tags": tags},
        ]
    }
    assert list(_laid_by_lvm(answer)) == [OsdOnDisk(3, "1b910dc7", "/dev/sdb")]


def test_a_command_for_osds_begins_with_a_whole_path() -> None:
    with pytest.raises(ValueError, match="does not begin with the whole path of a program"):
        Options(osd_start=("systemctl", "start", "ceph-osd@{osd}"))
