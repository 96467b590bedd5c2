# SPDX-License-Identifier: Apache-2.0
"""Volumes of a real Ceph cluster are filled and read through the API, also when the cluster goes away meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from api_cluster import ApiProcess, Cluster
from real_server import real_server

from pvc_cli.in_process import InProcessTransport
from pvc_core.errors import StorageUnavailable
from pvc_core.registry import Registry

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster

pytestmark = pytest.mark.ceph

MIB = 2**20
OCTETS = {"Content-Type": "application/octet-stream"}
SENT_BYTES = 104 * MIB
TIMEOUT_S = 2


def sent(size_bytes: int = SENT_BYTES, block: bytes = os.urandom(MIB)) -> Iterator[bytes]:
    for number in range(size_bytes // MIB):
        yield number.to_bytes(8) + block[8:]


@contextmanager
def streaming_api(cluster: Cluster, conf: Path) -> Iterator[httpx.Client]:
    """An API in this process, to which a body goes as it comes."""
    registry = Registry.load((), {"ceph": {"conf": str(conf), "timeout_s": TIMEOUT_S}}, disabled_env="")
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    headers = {"Authorization": f"Bearer {process.token('operator')}"}
    with httpx.Client(
        transport=InProcessTransport(process.app), base_url="http://api/api/v1", headers=headers
    ) as client:
        yield client
    process.connection.close()


def test_a_hundred_mib_go_in_and_come_out_through_the_server_without_filling_its_memory(
    cluster: Cluster, tmp_path: Path, ceph_cluster: CephCluster, ceph_pool: str
) -> None:
    at = f"/storage/ceph/pool/{ceph_pool}/volume"
    section = f'[plugin.ceph]\nconf = "{ceph_cluster.conf_path}"\n'
    with real_server(tmp_path, cluster, section) as server, server.client(server.token("operator")) as api:
        assert api.post(at, json={"name": "disk", "size_bytes": SENT_BYTES}).status_code == 201
        before_bytes, most_bytes = server.worker_rss_bytes, 0
        for _ in range(4):
            assert api.put(f"{at}/disk/contents", content=sent(), headers=OCTETS).status_code == 200
            with api.stream("GET", f"{at}/disk/contents") as held:
                read = held.iter_raw(MIB)
                assert all(next(read) == expected for expected in sent())
            most_bytes = max(most_bytes, server.worker_rss_bytes)
        # Ceph's library has its caches, and each thread of the server a heap; eight times as much has passed.
        assert most_bytes - before_bytes < 2 * SENT_BYTES


def test_an_upload_during_which_the_cluster_goes_away_ends_in_time(cluster: Cluster, own_ceph: CephCluster) -> None:
    with streaming_api(cluster, own_ceph.conf_path) as api:
        at = "/storage/ceph/pool/vms/volume"
        assert api.post(at, json={"name": "disk", "size_bytes": SENT_BYTES}).status_code == 201

        def until_it_is_gone() -> Iterator[bytes]:
            for number, piece in enumerate(sent()):
                if number == 20:
                    own_ceph.freeze("osd.0")
                yield piece

        began_s = time.monotonic()
        answer = api.put(f"{at}/disk/contents", content=until_it_is_gone(), headers=OCTETS)
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), answer.text
        assert time.monotonic() - began_s < 60
        own_ceph.thaw("osd.0")
        again = api.put(f"{at}/disk/contents", content=b"again", headers=OCTETS)
        assert again.status_code == 200, again.text


def test_a_download_during_which_the_cluster_goes_away_breaks_off_in_time(
    cluster: Cluster, own_ceph: CephCluster
) -> None:
    with streaming_api(cluster, own_ceph.conf_path) as api:
        at = "/storage/ceph/pool/vms/volume"
        assert api.post(at, json={"name": "disk", "size_bytes": SENT_BYTES}).status_code == 201
        assert api.put(f"{at}/disk/contents", content=sent(), headers=OCTETS).status_code == 200
        with api.stream("GET", f"{at}/disk/contents") as held:
            pieces = held.iter_raw()
            next(pieces)
            own_ceph.freeze("osd.0")
            began_s = time.monotonic()
            with pytest.raises(StorageUnavailable):
                list(pieces)
            assert time.monotonic() - began_s < 60
        own_ceph.thaw("osd.0")


@pytest.fixture
def own_ceph(tmp_path: Path, require: Callable[[str], None]) -> Iterator[CephCluster]:
    """A cluster that may be harmed, with the pool vms."""
    require("ceph")
    from pvc_lab.ceph_cluster import CephCluster

    with CephCluster(tmp_path / "ceph", osds=1) as harmed:
        harmed.create_pool("vms")
        yield harmed
    harmed.remove()
