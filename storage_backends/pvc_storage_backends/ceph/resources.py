# SPDX-License-Identifier: Apache-2.0
"""resources: what the API serves below /storage/ceph beside volumes: the cluster itself, and its pools.

Every answer begins with the question whether the monitors have a quorum: a connection from before goes on telling what
was then, that all is well among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pvc_core.contributions import ApiResource, api_method
from pvc_core.storage_serving import NOT_HERE, NOT_SO, OpenedOnce
from pvc_core.volume_claims import every_claim, owner_name
from pvc_storage_backends.ceph import administration, figures
from pvc_storage_backends.ceph.answers import (
    CephFlag,
    CephOutcome,
    CephPoolList,
    CephPoolSetting,
    CephStatus,
    CephUse,
    NewCephPool,
)
from pvc_storage_backends.ceph.cluster_resource import OfTheCluster, outcome
from pvc_storage_backends.ceph.osd_resources import OneOsd, Osds


def cluster_resources(opened: OpenedOnce) -> Sequence[ApiResource]:
    """The resources, which share a backend with those of its volumes."""
    served: tuple[tuple[str, type[OfTheCluster], str], ...] = (
        ("/status", Status, "How the Ceph cluster is"),
        ("/util", Use, "How full the Ceph cluster is"),
        ("/pool", Pools, "The pools of the Ceph cluster"),
        ("/pool/{pool}", OnePool, "A pool of the Ceph cluster"),
        ("/osd", Osds, "The OSDs of the Ceph cluster"),
        ("/osd/{osd}", OneOsd, "An OSD of the Ceph cluster"),
        ("/flag/{flag}", Flag, "A flag of all OSDs"),
    )
    return tuple(
        ApiResource(f"/storage/{opened.entry.name}{template}", partial(kind, opened), summary)
        for template, kind, summary in served
    )


class Status(OfTheCluster):
    """/status"""

    @api_method("viewer", CephStatus)
    def on_get(self, req: Any, resp: Any) -> None:
        """Show how the cluster is: its health and why, its monitors, OSDs and placement groups."""
        ask = self.connection().command
        resp.media = figures.status_of(ask("status"), ask("health", detail="detail"), ask("mon dump"))


class Use(OfTheCluster):
    """/util"""

    @api_method("viewer", CephUse)
    def on_get(self, req: Any, resp: Any) -> None:
        """Show how full the cluster is, by device class, and each of its pools."""
        ask = self.connection().command
        resp.media = figures.util_of(ask("osd pool ls", detail="detail"), ask("df", detail="detail"))


class Pools(OfTheCluster):
    """/pool"""

    @api_method("viewer", CephPoolList)
    def on_get(self, req: Any, resp: Any) -> None:
        """List all pools of the cluster, also those that are not for volumes."""
        ask = self.connection().command
        pools = figures.pools_of(ask("osd pool ls", detail="detail"), ask("df", detail="detail"))
        resp.media = CephPoolList(pools=pools)

    @api_method("admin", CephOutcome, status=201, body=NewCephPool, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any) -> None:
        """Make a pool for volumes."""
        body: NewCephPool = req.context.json
        administration.add_pool(self.ceph(), body.name, body.pg_num, body.size)
        resp.status = 201
        resp.media = outcome(req, f"pool {body.name} is made for volumes")


class OnePool(OfTheCluster):
    """/pool/{pool}"""

    @api_method("admin", CephOutcome, body=CephPoolSetting, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str) -> None:
        """Change one setting of a pool."""
        body: CephPoolSetting = req.context.json
        administration.set_pool(self.ceph(), pool, body.setting, body.value)
        resp.media = outcome(req, f"{body.setting} of pool {pool} is {body.value} now")

    @api_method("admin", CephOutcome, problems=NOT_HERE)
    def on_delete(self, req: Any, resp: Any, pool: str) -> None:
        """Remove a pool and all that is in it. Refused while a VM has a volume there, or somebody has one open."""
        administration.remove_pool(self.ceph(), pool, self._vms_in(pool))
        resp.media = outcome(req, f"pool {pool} is removed, with all that was in it")

    def _vms_in(self, pool: str) -> set[str]:
        store, backend = self.site.store, self.opened.entry.name
        claims = [stored.value for stored in every_claim(store)]
        return {owner_name(store, claim) for claim in claims if (claim.backend, claim.pool) == (backend, pool)}


class Flag(OfTheCluster):
    """/flag/{flag}"""

    @api_method("admin", CephOutcome, body=CephFlag, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, flag: str) -> None:
        """Set a flag of all OSDs, such as `noout`, or take it away."""
        wanted = req.context.json.set
        administration.set_flag(self.ceph(), flag, wanted)
        resp.media = outcome(req, f"{flag} is {'set' if wanted else 'set no longer'}")
