# SPDX-License-Identifier: Apache-2.0
"""What calls that died have left in a pool of Ceph is nobody's volume, is named, and is mended; nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from pvc_core.errors import NotFound, Refused
from pvc_core.storage import MendsLeftovers
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.begun import Begun, id_object, mending, noted, packed, working
from pvc_storage_backends.ceph.options import Options

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster

pytestmark = pytest.mark.ceph

MIB = 2**20


@pytest.fixture
def backend(ceph_cluster: CephCluster) -> Iterator[CephBackend]:
    opened = CephBackend("", Options(conf=str(ceph_cluster.conf_path)))
    opened.call_s = 1.0
    yield opened
    opened.close()


@pytest.fixture
def ioctx(backend: CephBackend, ceph_pool: str) -> Iterator[Any]:
    with backend.opened(ceph_pool) as opened:
        yield opened


class DiedError(Exception):
    """Stands for the end of a process in the middle of a call."""


def half_begun(ioctx: Any, begun: Begun) -> None:
    with pytest.raises(DiedError), noted(ioctx, begun):
        raise DiedError


def test_a_healthy_pool_has_nothing_to_mend_and_keeps_what_it_has(backend: CephBackend, ceph_pool: str) -> None:
    backend.create_volume(ceph_pool, "disk", MIB)
    backend.create_snapshot(ceph_pool, "disk", "kept")
    backend.clone_volume(ceph_pool, "disk", "copy")
    backend.rename_volume(ceph_pool, "copy", "other")
    assert isinstance(backend, MendsLeftovers)
    assert (backend.leftovers(ceph_pool), backend.mend(ceph_pool)) == ((), ())
    assert [volume.name for volume in backend.volumes(ceph_pool)] == ["disk", "other"]
    assert [each.name for each in backend.snapshots(ceph_pool, "disk")] == ["kept"]


def test_half_a_name_is_none_and_is_free_once_it_is_mended(backend: CephBackend, ioctx: Any, ceph_pool: str) -> None:
    backend.create_volume(ceph_pool, "disk", MIB)
    with backend.image(ceph_pool, "disk") as image:
        image_id = image.id()
    half_begun(ioctx, Begun(call="rename", volume="disk", new_name="new", image_id=image_id))
    ioctx.write_full(id_object("new"), packed(image_id))
    with pytest.raises(NotFound):
        backend.volume(ceph_pool, "new")
    with pytest.raises(Refused, match="pvc storage ceph repair"):
        backend.create_volume(ceph_pool, "new", MIB)
    (found,) = backend.leftovers(ceph_pool)
    assert found.what == "volume disk has also half the name new"
    assert backend.mend(ceph_pool) == ()
    assert backend.leftovers(ceph_pool) == ()
    backend.create_volume(ceph_pool, "new", MIB)
    assert [volume.name for volume in backend.volumes(ceph_pool)] == ["disk", "new"]


def test_a_volume_half_the_way_back_is_read_copied_filled_and_started_by_nobody_until_it_is_all_the_way(
    backend: CephBackend, ioctx: Any, ceph_pool: str
) -> None:
    backend.create_volume(ceph_pool, "disk", MIB)
    backend.upload_volume(ceph_pool, "disk", BytesIO(b"then"), lambda _: None)
    backend.create_snapshot(ceph_pool, "disk", "then")
    backend.upload_volume(ceph_pool, "disk", BytesIO(b"half"), lambda _: None)
    with backend.image(ceph_pool, "disk") as image:
        image_id = image.id()
    half_begun(ioctx, Begun(call="roll-back", volume="disk", snapshot="then", image_id=image_id))
    for ask in (
        lambda: backend.disk_xml(ceph_pool, "disk", "vda"),
        lambda: backend.clone_volume(ceph_pool, "disk", "copy"),
        lambda: backend.create_snapshot(ceph_pool, "disk", "half"),
        lambda: backend.upload_volume(ceph_pool, "disk", BytesIO(b"new"), lambda _: None),
        lambda: backend.download_volume(ceph_pool, "disk", BytesIO(), lambda _: None),
    ):
        with pytest.raises(Refused, match="on its way back to snapshot then"):
            ask()
    (found,) = backend.leftovers(ceph_pool)
    assert found.remedy == "it goes all the way"
    assert backend.mend(ceph_pool) == ()
    held = BytesIO()
    backend.download_volume(ceph_pool, "disk", held, lambda _: None)
    assert held.getvalue()[:4] == b"then"


def test_a_name_without_an_image_is_no_volume_and_goes(backend: CephBackend, ioctx: Any, ceph_pool: str) -> None:
    backend.create_volume(ceph_pool, "disk", MIB)
    ioctx.execute("rbd_directory", "rbd", "dir_add_image", packed("half") + packed("0123abcd"))
    assert [volume.name for volume in backend.volumes(ceph_pool)] == ["disk"]
    with pytest.raises(Refused, match="has left something under this name"):
        backend.create_volume(ceph_pool, "half", MIB)
    assert [each.what for each in backend.leftovers(ceph_pool)] == ["volume half is half made, or all but removed"]
    assert backend.mend(ceph_pool) == ()
    backend.create_volume(ceph_pool, "half", MIB)


def test_what_somebody_has_open_stays_and_says_why(backend: CephBackend, ioctx: Any, ceph_pool: str) -> None:
    backend.create_volume(ceph_pool, "disk", MIB)
    with backend.image(ceph_pool, "disk", writing=True) as image:
        image.create_snap(".pvc-clone-1")
        begun = Begun(call="clone", volume="disk", new_name=".pvc-new-1", snapshot=".pvc-clone-1", image_id=image.id())
        half_begun(ioctx, begun)
        (left,) = backend.mend(ceph_pool)
        assert "has it open, or has just died: try again in half a minute" in left.problem
    assert backend.mend(ceph_pool) == ()
    with backend.image(ceph_pool, "disk") as image:
        assert list(image.list_snaps()) == []


def test_nobody_mends_while_somebody_works_and_the_other_way_round_and_a_dead_one_holds_nobody_up_for_long(
    backend: CephBackend, ioctx: Any, ceph_pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        working(ioctx, ceph_pool, 30),
        working(ioctx, ceph_pool, 30),
        pytest.raises(Refused, match="something is being done in it"),
    ):
        backend.leftovers(ceph_pool)
    with working(ioctx, ceph_pool, 1):  # runs out while it is held, as that of a process that died

        def looked_over() -> bool:
            try:
                return backend.leftovers(ceph_pool) == ()
            except Refused:
                return False

        wait_for(looked_over, "the lock has run out", deadline_s=10)
    monkeypatch.setattr("pvc_storage_backends.ceph.begun.PATIENCE_S", 0.3)
    with mending(ioctx, ceph_pool, 30), pytest.raises(Refused, match="is being repaired"):
        backend.create_volume(ceph_pool, "new", MIB)
    backend.create_volume(ceph_pool, "new", MIB)
