# SPDX-License-Identifier: Apache-2.0
"""addresses: where other nodes' hypervisors are reached: what their records say, or their names."""

from __future__ import annotations

from pvc_core import layout
from pvc_core.codec import decode
from pvc_core.model import NodeRecord
from pvc_core.ports import ClusterStore


class NodeAddresses:
    """Looks a node's address up when it is needed, which is once per migration."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store

    def address_of(self, node: str) -> str:
        """Host name or IP address. Raises `BrokenRecord`, `StoreUnavailable`."""
        entry = self._store.get(layout.node(node))
        return (decode(entry, NodeRecord).value.address if entry else "") or node
