# SPDX-License-Identifier: Apache-2.0
"""A lost node is shut out of Ceph with all its clients and nobody else; what is not certain is not confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from pvc_core.errors import Refused
from pvc_core.fencing import FenceRequest
from pvc_lab.ceph_cluster import CephCluster
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.users import NodeClients, plain, with_connection, write_node
from storage.ceph_storage import Elsewhere, options

MIB = 2**20
LOST = FenceRequest("hv2")


class Site:
    """Two nodes and a pool with a volume."""

    def __init__(self, cluster: CephCluster, elsewhere: Elsewhere) -> None:
        self.cluster, self.elsewhere = cluster, elsewhere
        self.pool = f"fence-{uuid4().hex[:8]}"
        self.here = CephBackend("hv1", options(cluster).machine)
        self.there = CephBackend("hv2", options(cluster).machine)

    @contextmanager
    def guest(self) -> Iterator[Any]:
        """An image as a guest of the lost node has it: open, and written to."""
        import rbd

        connection = self.elsewhere.run(self._connected)
        try:
            with connection.open_ioctx(self.pool) as ioctx:
                image = rbd.Image(ioctx, "disk")
                image.write(b"before", 0)
                try:
                    yield image
                finally:
                    try:
                        image.close()
                    except rbd.Error as error:
                        print(f"closing an image that is shut out: {error}")
        finally:
            connection.shutdown()

    def _connected(self) -> Any:
        import rados

        timeouts = {"client_mount_timeout": "30", "rados_osd_op_timeout": "10"}
        connection = rados.Rados(conffile=str(self.cluster.conf_path), conf=timeouts)
        connection.connect()
        return connection


@pytest.fixture
def site(ceph_network: tuple[CephCluster, Elsewhere]) -> Iterator[Site]:
    site = Site(*ceph_network)
    site.cluster.create_pool(site.pool)
    site.elsewhere.run(site.there.health)
    site.here.create_volume(site.pool, "disk", 8 * MIB)
    yield site
    site.here.admit_clients(LOST)
    site.here.close()
    site.there.close()
    site.cluster.remove_pool(site.pool)


@pytest.mark.ceph
def test_a_guest_of_a_fenced_node_gets_an_error_on_its_next_write_and_another_node_goes_on(site: Site) -> None:
    import rbd

    with site.guest() as image:
        verdict = site.here.fence_clients(LOST)
        assert verdict.confirmed, verdict.detail
        assert site.elsewhere.address in verdict.detail
        assert "1 locks were broken" in verdict.detail
        with pytest.raises(rbd.Error) as raised:
            image.write(b"after", 0)
        assert raised.value.errno == 108
    with site.here.image(site.pool, "disk", writing=True) as elsewhere:
        assert elsewhere.read(0, 6) == b"before"
        elsewhere.write(b"moved", 0)


@pytest.mark.ceph
def test_a_guest_that_slept_through_its_fence_stays_out_when_its_node_is_admitted(site: Site) -> None:
    import rbd

    with site.guest() as image:
        assert site.here.fence_clients(LOST).confirmed
        site.here.admit_clients(LOST)
        with pytest.raises(rbd.Error):
            image.write(b"after", 0)
    with site.guest() as image:
        image.write(b"a new one writes", 0)


@pytest.mark.ceph
def test_nobody_is_let_in_again_by_the_end_of_a_term(site: Site) -> None:
    with site.guest():
        assert site.here.fence_clients(LOST).confirmed
        ends = {client: end for client, end in site.here.shut_out_until().items() if site.elsewhere.address in client}
    assert f"{site.elsewhere.address}:0/0" in ends
    assert len(ends) > 1, "the guest's client is not shut out by itself"
    in_a_year = (datetime.now() + timedelta(days=365)).isoformat()
    assert all(end > in_a_year for end in ends.values()), ends


@pytest.mark.ceph
def test_a_volume_that_a_guest_has_open_is_refused_by_its_node_s_name(site: Site) -> None:
    with site.guest(), pytest.raises(Refused, match=rf"in use by client\.\d+ at hv2 \({site.elsewhere.address}\)"):
        site.here.remove_volume(site.pool, "disk")


@pytest.mark.ceph
def test_of_a_node_that_has_never_connected_nothing_is_confirmed(site: Site) -> None:
    verdict = site.here.fence_clients(FenceRequest("hv9"))
    assert not verdict.confirmed
    assert "hv9 has never said" in verdict.detail


@pytest.mark.ceph
@pytest.mark.parametrize("other", ["hv3", "hv2"])
def test_an_address_that_another_node_has_too_is_not_shut_out(site: Site, other: str) -> None:
    shared = site.elsewhere.address if other == "hv3" else site.elsewhere.here_address
    with site.here.connection.using() as rados:
        write_node(rados, "hv4", NodeClients("boot", (shared,)))
        try:
            verdict = site.here.fence_clients(FenceRequest("hv4"))
        finally:
            rados.mon_command('{"prefix": "config-key rm", "key": "pvc/clients/hv4"}', b"")
    assert not verdict.confirmed
    assert f"{shared} is an address of" in verdict.detail
    assert site.here.blocklist() & {f"{shared}:0/0"} == set()


@pytest.mark.ceph
def test_without_an_answer_of_the_cluster_nothing_is_confirmed(site: Site, tmp_path: Any) -> None:
    away = CephBackend("hv1", options(site.cluster, timeout_s=2).machine)
    site.cluster.freeze("mon.a")
    try:
        verdict = away.fence_clients(LOST)
    finally:
        site.cluster.thaw("mon.a")
    assert not verdict.confirmed
    assert "nothing is certain of hv2" in verdict.detail


# --------------------------------------------------------------------------------------------------- addresses


def test_the_addresses_of_one_boot_are_kept_and_those_of_another_are_forgotten() -> None:
    first = with_connection(NodeClients(), "boot-1", "v1:10.0.0.1:0/11")
    second = with_connection(first, "boot-1", "10.0.0.2:0/12")
    assert second.addresses == ("10.0.0.1", "10.0.0.2")
    assert second.instances == ("10.0.0.1:0/11", "10.0.0.2:0/12")
    assert with_connection(second, "boot-2", "10.0.0.3:0/13").addresses == ("10.0.0.3",)


def test_a_node_that_is_shut_out_stays_so_over_a_boot() -> None:
    assert with_connection(NodeClients("boot-1", ("10.0.0.1",), (), True), "boot-2", "10.0.0.2:0/1").fenced


@pytest.mark.parametrize("instance", ["v2:[fd00::1]:0/42", "[fd00::1]:0/42"])
def test_an_instance_is_named_without_the_version_of_its_protocol(instance: str) -> None:
    assert plain(instance) == "[fd00::1]:0/42"
