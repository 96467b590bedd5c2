# SPDX-License-Identifier: Apache-2.0
"""storage_suite: what every storage backend must do; a subclass with a name is enough where it has a pool.

    from pvc_core.testing.storage_suite import StorageBackendSuite

    class TestAcmeSan(StorageBackendSuite):
        name = "acme-san"

        def pool(self, backend):
            return "scratch"  # a pool that nothing else uses meanwhile; the backend's first one otherwise

Rules about a capability run where the backend names it and are skipped otherwise. `site` says what is configured for
the backend, `client` how another node sees the storage, `attached` how a guest uses a volume: see `StorageRules`.
"""

from __future__ import annotations

from pvc_core.testing.storage_bench import ELSEWHERE, HERE, StorageBench
from pvc_core.testing.storage_rules_contents import CloneRules, ContentRules, ResizeRules
from pvc_core.testing.storage_rules_nodes import NodeRules, ThreadRules
from pvc_core.testing.storage_rules_pools import PoolRules
from pvc_core.testing.storage_rules_snapshots import SnapshotRules
from pvc_core.testing.storage_rules_volumes import VolumeRules

__all__ = ["ELSEWHERE", "HERE", "StorageBackendSuite", "StorageBench"]


class StorageBackendSuite(
    PoolRules, VolumeRules, ContentRules, ResizeRules, CloneRules, SnapshotRules, ThreadRules, NodeRules
):
    """All rules of `pvc_core.storage`. A subclass has a `name`."""
