# SPDX-License-Identifier: Apache-2.0
"""lookup: the VM or node that a URL names, also when this process's copy of the cluster is a moment behind.

Reading takes what the copy has: no request. What another worker has just defined is found by one request for its
name. A command starts from the newest record (one request), because "nothing to do" must not be said of an old one.
"""

from __future__ import annotations

from pvc_core import layout
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import Stored
from pvc_core.domain_xml import canonical_uuid, check_vm_name
from pvc_core.errors import InvalidInput, NotFound
from pvc_core.model import VmRecord
from pvc_core.ports import ClusterStore
from pvc_core.snapshot import ClusterSnapshot


class Lookup:
    """Finds VMs and nodes by what people call them."""

    def __init__(self, view: ClusterView, store: ClusterStore) -> None:
        self._view = view
        self._store = store

    def vm(self, reference: str) -> tuple[ClusterSnapshot, Stored[VmRecord]]:
        """The VM with this name or UUID, and the snapshot it is in. Raises `NotFound` or `BrokenRecord`."""
        snapshot = self._view.snapshot()
        try:
            return snapshot, snapshot.vm(reference)
        except NotFound:
            uuid = self._uuid_in_store(reference)
            if uuid is None:
                raise
        self._view.refresh([layout.vm(uuid)])
        snapshot = self._view.snapshot()
        return snapshot, snapshot.vm(uuid)

    def newest_vm(self, reference: str) -> Stored[VmRecord]:
        """The VM as it is in the store now. Raises as `vm`."""
        _, stored = self.vm(reference)
        self._view.refresh([stored.key])
        return self._view.snapshot().vm(stored.value.uuid)

    def refresh_node(self, name: str) -> None:
        """Read the node's record anew. Raises `NotFound` with the known names."""
        node = self._view.snapshot().node(name)
        self._view.refresh([node.record.key])

    def _uuid_in_store(self, reference: str) -> str | None:
        """The UUID that the reference is or that has this name; None without asking for what can be neither."""
        try:
            return canonical_uuid(reference)
        except InvalidInput:
            pass
        try:
            check_vm_name(reference)
        except InvalidInput:
            return None
        entry = self._store.get(layout.vm_name(reference))
        return entry.data.decode() if entry else None
