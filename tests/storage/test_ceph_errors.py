# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with Ceph is told in a sentence, in a bounded time, and nothing else is affected."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from pvc_core.errors import AlreadyExists, NotFound, PluginError, PvcError, Refused, StorageUnavailable, meaning_of
from pvc_core.storage import StorageHealth
from pvc_core.testing.storage_bench import unreported
from pvc_lab.ceph_cluster import MONITOR, CephCluster
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.connection import parsed
from pvc_storage_backends.ceph.failures import Subject, meaning
from pvc_storage_backends.ceph.options import Options
from storage.ceph_storage import options

MIB = 2**20
PATIENCE_S = 2.0


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CephCluster]:
    """A cluster that a test can harm, with one pool."""
    with CephCluster(tmp_path / "ceph", osds=2) as cluster:
        cluster.create_pool("vms")
        yield cluster
    cluster.remove()


@pytest.fixture
def backend(cluster: CephCluster) -> Iterator[CephBackend]:
    """The backend of a node, which does not wait for long."""
    backend = CephBackend("hv1", options(cluster, timeout_s=PATIENCE_S).machine)
    backend.create_volume("vms", "disk", 8 * MIB)
    yield backend
    backend.close()


# ------------------------------------------------------------------------------------------------------ away


@pytest.mark.ceph
def test_monitors_that_do_not_answer_are_an_error_in_time_and_all_is_well_when_they_do(
    cluster: CephCluster, backend: CephBackend
) -> None:
    cluster.freeze(MONITOR)
    health = backend.health()
    with pytest.raises(StorageUnavailable, match="not answered in time"):
        backend.create_volume("vms", "another", MIB)
    cluster.thaw(MONITOR)
    assert health == StorageHealth(False, health.detail)
    assert "not answered in time" in health.detail
    wait_for(lambda: backend.health().usable, "the backend is usable again")
    assert [volume.name for volume in backend.volumes("vms")] == ["disk"]


@pytest.mark.ceph
def test_osds_that_do_not_answer_are_an_error_in_time_and_the_connection_is_made_anew(
    cluster: CephCluster, backend: CephBackend
) -> None:
    before = connection_of(backend)
    for osd in cluster.osd_names:
        cluster.freeze(osd)
    with pytest.raises(StorageUnavailable, match="not answered in time"):
        backend.volumes("vms")
    assert not backend.health().usable
    for osd in cluster.osd_names:
        cluster.thaw(osd)
    wait_for(lambda: backend.health().usable, "the backend is usable again")
    assert connection_of(backend) != before


@pytest.mark.ceph
def test_a_backend_outlives_a_restart_of_the_whole_cluster(cluster: CephCluster, backend: CephBackend) -> None:
    cluster.stop()
    assert not backend.health().usable
    cluster.start()
    wait_for(lambda: backend.health().usable, "the backend is usable again")
    assert backend.volume("vms", "disk").size_bytes == 8 * MIB


@pytest.mark.ceph
def test_a_pool_that_has_reached_its_quota_takes_nothing_more_and_is_emptied(
    cluster: CephCluster, backend: CephBackend
) -> None:
    backend.create_volume("vms", "full", 4 * MIB)
    backend.upload_volume("vms", "full", BytesIO(b"x" * 4 * MIB), unreported)
    cluster.admin.command("osd pool set-quota", pool="vms", field="max_bytes", val=str(MIB))
    wait_for(lambda: backend.usage("vms").free_bytes == 0, "the quota counts")
    with pytest.raises(Refused, match="0 are free"):
        backend.create_volume("vms", "more", MIB)
    wait_for(lambda: "POOL_FULL" in cluster.admin.command("health")["checks"], "the pool is full")
    with pytest.raises(Refused, match=r"full|quota"):
        backend.upload_volume("vms", "disk", BytesIO(b"x" * 4 * MIB), unreported)
    backend.remove_volume("vms", "full")
    assert [volume.name for volume in backend.volumes("vms")] == ["disk"]


# ------------------------------------------------------------------------------------- what a machine lacks


def test_a_machine_without_the_bindings_is_told_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ceph.conf").touch()
    monkeypatch.setitem(sys.modules, "rados", None)
    health = CephBackend("hv1", Options(conf=str(tmp_path / "ceph.conf"))).health()
    assert not health.usable
    assert "apt install python3-rados python3-rbd" in health.detail


def test_a_machine_without_a_configuration_file_names_it(tmp_path: Path) -> None:
    backend = CephBackend("hv1", Options(conf=str(tmp_path / "ceph.conf")))
    assert backend.health() == StorageHealth(False, f"the configuration file {tmp_path}/ceph.conf cannot be read")
    with pytest.raises(StorageUnavailable, match=r"ceph\.conf cannot be read"):
        backend.volumes("vms")


@pytest.mark.ceph
def test_a_user_without_a_key_is_an_error_that_says_so(ceph_cluster: CephCluster) -> None:
    health = CephBackend("hv1", options(ceph_cluster, user="nobody", timeout_s=PATIENCE_S).machine).health()
    assert not health.usable
    assert health.detail


@pytest.mark.ceph
def test_a_node_whose_user_may_not_write_its_addresses_says_that_it_cannot_be_fenced(
    ceph_cluster: CephCluster, ceph_pool: str
) -> None:
    keyring = ceph_cluster.create_user("poor", {"mon": "profile rbd", "osd": "profile rbd"})
    backend = CephBackend("hv1", options(ceph_cluster, user="poor", keyring=str(keyring)).machine)
    health = backend.health()
    backend.close()
    assert health.usable
    assert "hv1 cannot be fenced by its storage" in health.detail


@pytest.mark.parametrize(
    "wrong", [{"conf": "ceph.conf"}, {"user": "client.admin"}, {"guest_user": "client.vm"}, {"secret": "none"}]
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Options(**wrong)


# ---------------------------------------------------------------------------------------------- error numbers


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.ENOENT, NotFound, "no volume is called 'a'"),
        (errno.EEXIST, AlreadyExists, "a volume 'b' exists already"),
        (errno.EBUSY, Refused, "volume a: it is in use"),
        (errno.ENOTEMPTY, Refused, "volume a: it has snapshots"),
        (errno.EROFS, Refused, "volume a: another client has it locked"),
        (errno.ENOSPC, Refused, "volume a: the pool or the cluster is full"),
        (errno.EDQUOT, Refused, "volume a: the quota of the pool is reached"),
        (errno.EACCES, Refused, "volume a: Ceph does not allow it to the user that is configured"),
        (errno.ETIMEDOUT, StorageUnavailable, "not answered in time"),
        (errno.ESHUTDOWN, StorageUnavailable, "on the blocklist"),
        (errno.EIO, PluginError, "volume a: broken (errno 5)"),
    ],
)
def test_ceph_s_error_numbers_are_sentences(code: int, kind: type[PvcError], said: str) -> None:
    error = meaning(code, Subject("volume", "a", "b"), "broken")
    assert type(error) is kind
    assert said in error.sentence()


def test_storage_that_is_away_is_no_fault_of_the_command() -> None:
    assert (
        meaning_of(StorageUnavailable("ceph", "")).http_status,
        meaning_of(StorageUnavailable("ceph", "")).exit_code,
    ) == (503, 7)


def connection_of(backend: CephBackend) -> object:
    """What Ceph calls the connection that the backend has now."""
    with backend.connection.using() as rados:
        return rados.get_instance_id()


@pytest.mark.parametrize(("text", "read"), [('[{"a": 1}][]', [{"a": 1}]), ("", ""), ("done", "done"), ("{}\n", {})])
def test_an_answer_is_its_first_document_or_its_text(text: str, read: object) -> None:
    assert parsed(text) == read
