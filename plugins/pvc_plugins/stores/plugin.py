# SPDX-License-Identifier: Apache-2.0
"""Stores: a ZooKeeper ensemble for clusters, an SQLite file for one machine."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import ClusterStore, StoreEntry, hookimpl


def _open_zookeeper(url: str) -> ClusterStore:
    # Imported on use: whoever runs on one store does not pay for the other's libraries.
    from pvc_plugins.stores.zookeeper import ZooKeeperStore

    return ZooKeeperStore(url)


def _open_sqlite(url: str) -> ClusterStore:
    from pvc_plugins.stores.embedded import SqliteStore

    return SqliteStore(url)


@hookimpl
def pvc_stores() -> Sequence[StoreEntry]:
    return (
        StoreEntry("zookeeper", "a ZooKeeper ensemble: zookeeper://host1,host2,host3/chroot", _open_zookeeper),
        StoreEntry("sqlite", "a file on one machine: sqlite:///path", _open_sqlite),
    )
