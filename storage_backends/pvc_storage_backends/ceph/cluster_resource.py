# SPDX-License-Identifier: Apache-2.0
"""cluster_resource: what all resources below /storage/ceph have in common: they ask a cluster that has a quorum."""

from __future__ import annotations

from typing import Any, cast

from pvc_core.contributions import ApiSite
from pvc_core.storage_serving import OpenedOnce
from pvc_storage_backends.ceph.answers import CephOutcome
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.connection import Connection


class OfTheCluster:
    """What all of them share."""

    def __init__(self, opened: OpenedOnce, site: ApiSite) -> None:
        self.opened = opened
        self.site = site

    def ceph(self) -> CephBackend:
        """The cluster, whose monitors have a quorum. Raises `StorageUnavailable`, within bounded time."""
        backend = cast(CephBackend, self.opened.at(self.site))
        backend.check_quorum()
        return backend

    def connection(self) -> Connection:
        """To the same."""
        return self.ceph().connection


def outcome(req: Any, reason: str) -> CephOutcome:
    """The answer to a change; the reason also stands in the audit log."""
    req.context.outcome = reason
    return CephOutcome(reason=reason)
