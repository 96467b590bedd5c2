# SPDX-License-Identifier: Apache-2.0
"""A real Ceph cluster in a folder: it is up in seconds, its daemons can be harmed, and nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pvc_lab.ceph_admin import CephCommandError
from pvc_lab.ceph_bindings import NoBindingsError, link
from pvc_lab.ceph_cluster import MANAGER, MONITOR, CephCluster, CephError
from pvc_lab.processes import ProcessIdentity
from pvc_lab.waiting import wait_for

MIB = 2**20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[CephCluster]:
    """A small cluster that a test can harm."""
    with CephCluster(tmp_path / "ceph", osds=2) as cluster:
        yield cluster
    cluster.remove()


@pytest.mark.ceph
def test_an_image_holds_what_is_written_on_a_cluster_that_is_healthy(ceph_cluster: CephCluster, ceph_pool: str) -> None:
    write(ceph_cluster, ceph_pool, b"kept")
    assert read(ceph_cluster, ceph_pool) == b"kept"
    wait_for(lambda: ceph_cluster.admin.command("health")["status"] == "HEALTH_OK", "the cluster is healthy")


@pytest.mark.ceph
def test_two_clusters_run_side_by_side(ceph_cluster: CephCluster, cluster: CephCluster) -> None:
    first, second = (each.admin.command("osd stat") for each in (ceph_cluster, cluster))
    assert (first["num_up_osds"], second["num_up_osds"]) == (3, 2)
    assert ceph_cluster.admin.rados.get_fsid() != cluster.admin.rados.get_fsid()


@pytest.mark.ceph
def test_what_is_stored_is_there_after_all_daemons_were_killed(cluster: CephCluster) -> None:
    cluster.create_pool("vms")
    write(cluster, "vms", b"kept")
    identities = [ProcessIdentity.of(process.pid) for process in cluster.processes.values()]
    cluster.stop()
    assert not any(identity.is_alive for identity in identities), "daemons are left"
    cluster.start()
    assert read(cluster, "vms") == b"kept"


@pytest.mark.ceph
def test_a_killed_osd_is_down_until_it_is_launched_again(cluster: CephCluster) -> None:
    cluster.kill("osd.1")
    wait_for(lambda: cluster.admin.command("osd stat")["num_up_osds"] == 1, "the OSD is down")
    cluster.launch("osd.1")
    cluster.wait_until_up()


@pytest.mark.ceph
def test_a_frozen_manager_is_missed_and_goes_on_when_it_is_thawed(cluster: CephCluster) -> None:
    cluster.freeze(MANAGER)
    # One that does not answer commands; how long monitors take to miss it does not matter.
    status = Path(f"/proc/{cluster.processes[MANAGER].pid}/status")
    wait_for(lambda: "State:\tT" in status.read_text(), "the manager is stopped")
    cluster.thaw(MANAGER)
    assert cluster.admin.command("osd df", to="mgr")["nodes"]


@pytest.mark.ceph
def test_an_osd_is_added_and_another_removed_with_its_disk(cluster: CephCluster) -> None:
    assert cluster.add_osd() == "osd.2"
    cluster.remove_osd("osd.0")
    assert cluster.admin.command("osd ls") == [1, 2]
    assert cluster.osd_names == ["osd.1", "osd.2"]
    assert not (cluster.folder / "osd.0").exists()


@pytest.mark.ceph
def test_a_user_can_do_what_it_was_given_and_nothing_else(ceph_cluster: CephCluster) -> None:
    import rados

    keyring = ceph_cluster.create_user("guest", {"mon": "profile rbd", "osd": "profile rbd"})
    assert keyring.stat().st_mode & 0o077 == 0
    as_guest = {"keyring": str(keyring), "client_mount_timeout": "10"}
    with rados.Rados(conffile=str(ceph_cluster.conf_path), name="client.guest", conf=as_guest) as connection:
        code, _, _ = connection.mon_command('{"prefix": "osd set", "key": "noout"}', b"")
    assert code == -13


@pytest.mark.ceph
def test_a_daemon_that_cannot_start_is_told_with_its_log_and_nothing_is_left(cluster: CephCluster) -> None:
    cluster.stop()
    (cluster.folder / "osd.1" / "block").unlink()
    with pytest.raises(CephError, match=r"osd\.1 ended"):
        cluster.start()
    assert all(process.poll() is not None for process in cluster.processes.values()), "daemons are left"


@pytest.mark.ceph
def test_a_daemon_runs_once_and_a_refused_command_is_an_error(ceph_cluster: CephCluster) -> None:
    with pytest.raises(CephError, match="already running"):
        ceph_cluster.launch(MONITOR)
    with pytest.raises(CephCommandError) as raised:
        ceph_cluster.admin.command("osd pool get", pool="no-such-pool", var="size")
    assert raised.value.code == 2


# ------------------------------------------------------------------------------------------------- bindings


def test_bindings_are_linked_where_they_fit(tmp_path: Path) -> None:
    source, target = debian_folder(tmp_path, ".cpython-311-x86_64-linux-gnu.so")
    made = link(source, target, ".cpython-311-x86_64-linux-gnu.so")
    assert [path.resolve().parent for path in made] == [source, source]
    assert link(source, target, ".cpython-311-x86_64-linux-gnu.so") == [], "they are linked again"


def test_bindings_for_another_python_are_not_linked_and_the_reason_names_both(tmp_path: Path) -> None:
    source, target = debian_folder(tmp_path, ".cpython-311-x86_64-linux-gnu.so")
    with pytest.raises(NoBindingsError, match=r"cpython-311.*needs rados\.cpython-313-x86_64-linux-gnu\.so"):
        link(source, target, ".cpython-313-x86_64-linux-gnu.so")
    assert list(target.iterdir()) == []


def test_bindings_that_are_not_installed_are_named_with_their_package(tmp_path: Path) -> None:
    with pytest.raises(NoBindingsError, match="apt install python3-rados"):
        link(tmp_path, tmp_path)


def debian_folder(folder: Path, suffix: str) -> tuple[Path, Path]:
    """A folder with both bindings for one Python, and an empty one."""
    source, target = folder / "dist-packages", folder / "site-packages"
    source.mkdir()
    target.mkdir()
    for name in ("rados", "rbd"):
        (source / f"{name}{suffix}").touch()
    return source, target


# ---------------------------------------------------------------------------------------------------- images


def write(cluster: CephCluster, pool: str, data: bytes) -> None:
    """Put data at the beginning of a new image."""
    import rbd

    with cluster.admin.rados.open_ioctx(pool) as ioctx:
        rbd.RBD().create(ioctx, "image", 8 * MIB)
        with image(ioctx) as opened:
            opened.write(data, 0)


def read(cluster: CephCluster, pool: str) -> bytes:
    """What the image begins with."""
    with cluster.admin.rados.open_ioctx(pool) as ioctx, image(ioctx) as opened:
        return bytes(opened.read(0, 4))


def image(ioctx: Any) -> Any:
    """The one that `write` makes."""
    import rbd

    return rbd.Image(ioctx, "image")
