# SPDX-License-Identifier: Apache-2.0
"""resources: what the API serves below /storage/ceph beside volumes: the cluster itself and its pools.

Every answer begins with the question whether the monitors have a quorum: a connection from before goes on telling what
was then, that all is well among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from pvc_core.contributions import ApiResource, ApiSite, api_method
from pvc_core.storage_resources import OpenedOnce
from pvc_storage_backends.ceph import figures
from pvc_storage_backends.ceph.answers import CephPoolList, CephStatus, CephUse
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.connection import Connection


def cluster_resources(opened: OpenedOnce) -> Sequence[ApiResource]:
    """The resources, which share a backend with those of its volumes."""
    served: tuple[tuple[str, type[_OfTheCluster], str], ...] = (
        ("/status", Status, "How the Ceph cluster is"),
        ("/util", Use, "How full the Ceph cluster is"),
        ("/pool", Pools, "The pools of the Ceph cluster"),
    )
    return tuple(
        ApiResource(f"/storage/{opened.entry.name}{template}", partial(kind, opened), summary)
        for template, kind, summary in served
    )


class _OfTheCluster:
    """What all of them share."""

    def __init__(self, opened: OpenedOnce, site: ApiSite) -> None:
        self._opened = opened
        self._site = site

    def ceph(self) -> CephBackend:
        """The cluster, whose monitors have a quorum. Raises `StorageUnavailable`, within bounded time."""
        backend = cast(CephBackend, self._opened.at(self._site))
        backend.check_quorum()
        return backend

    def connection(self) -> Connection:
        """To the same."""
        return self.ceph().connection


class Status(_OfTheCluster):
    """/status"""

    @api_method("viewer", CephStatus)
    def on_get(self, req: Any, resp: Any) -> None:
        """Show how the cluster is: its health and why, its monitors, OSDs and placement groups."""
        ask = self.connection().command
        resp.media = figures.status_of(ask("status"), ask("health", detail="detail"), ask("mon dump"))


class Use(_OfTheCluster):
    """/util"""

    @api_method("viewer", CephUse)
    def on_get(self, req: Any, resp: Any) -> None:
        """Show how full the cluster is, by device class, and each of its pools."""
        ask = self.connection().command
        resp.media = figures.util_of(ask("osd pool ls", detail="detail"), ask("df", detail="detail"))


class Pools(_OfTheCluster):
    """/pool"""

    @api_method("viewer", CephPoolList)
    def on_get(self, req: Any, resp: Any) -> None:
        """List all pools of the cluster, also those that are not for volumes."""
        ask = self.connection().command
        pools = figures.pools_of(ask("osd pool ls", detail="detail"), ask("df", detail="detail"))
        resp.media = CephPoolList(pools=pools)
