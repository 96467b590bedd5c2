# SPDX-License-Identifier: Apache-2.0
"""backend: the whole of the storage backend `ceph` as one host has it; what it does is in the modules beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pvc_core.errors import PvcError, StorageUnavailable
from pvc_core.host_secrets import HostSecret
from pvc_core.storage import StorageCapability, StorageHealth
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.connection import Connection, ask
from pvc_storage_backends.ceph.contents import CephContents
from pvc_storage_backends.ceph.disks import disk_element, monitor_addresses, secret_uuid
from pvc_storage_backends.ceph.failures import CLUSTER, meaning
from pvc_storage_backends.ceph.fencing import FOR_GOOD_S, CephFencing
from pvc_storage_backends.ceph.mending import CephMending
from pvc_storage_backends.ceph.options import Options
from pvc_storage_backends.ceph.snapshots import CephSnapshots
from pvc_storage_backends.ceph.users import NodeClients, boot_id, known_nodes, with_connection, write_node
from pvc_storage_backends.ceph.volumes import CephVolumes

CLUSTER_IS_FULL = "OSD_FULL"


class CephBackend(CephVolumes, CephSnapshots, CephContents, CephMending, CephFencing):
    """Implements `StorageBackend` and the Protocols of all capabilities. node: "" outside nodes."""

    def __init__(self, node: str, options: Options) -> None:
        super().__init__(Connection(options, self._introduce))
        self._node = node
        self._options = options
        self._not_introduced = ""

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """See `StorageBackend`."""
        return frozenset(StorageCapability)

    def health(self) -> StorageHealth:
        """See `StorageBackend`: it is usable when the monitors have a quorum and an OSD answers this client."""
        try:
            status = self.connection.command("status")
            pools = self.pools()
            if pools:
                with self.opened(pools[0]) as ioctx:
                    bindings.load().rbd.RBD().list(ioctx)
        except PvcError as error:
            return StorageHealth(False, error.problem if isinstance(error, StorageUnavailable) else error.sentence())
        said = [self._not_introduced] if self._not_introduced else []
        health = status["health"]
        said += [f"{name}: {check['summary']['message']}" for name, check in sorted(health["checks"].items())]
        if CLUSTER_IS_FULL in health["checks"]:
            return StorageHealth(False, "; ".join(said))
        return StorageHealth(True, "; ".join(said) or ("" if pools else "no pool is given to RBD"))

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """See `StorageBackend`."""
        with self.image(pool, name, whole=True):
            pass
        monitors = monitor_addresses(self.connection.command("mon dump"))
        return disk_element(pool, name, device, monitors, self._options.guests, self._secret_uuid())

    def host_secrets(self) -> Sequence[HostSecret]:
        """See `KeepsHostSecrets`: the key of the user that guests are."""
        user = f"client.{self._options.guests}"
        key = self.connection.command("auth get-key", entity=user)["key"]
        return (HostSecret(self._secret_uuid(), "ceph", f"{user} of PVC", key),)

    def close(self) -> None:
        """End the connection once nobody uses it any more."""
        self.connection.reset()

    def _secret_uuid(self) -> str:
        if self._options.secret:
            return self._options.secret
        with self.connection.using() as rados:
            return secret_uuid(rados.get_fsid(), self._options.guests)

    def _introduce(self, rados: Any) -> None:
        """Write by which addresses this node reaches Ceph, so that it can be shut out when it is lost.

        A node that is shut out, and comes with another address than before, is shut out by that one as well.
        """
        if not self._node:
            return
        try:
            before = known_nodes(rados).get(self._node, NodeClients())
            now = with_connection(before, boot_id(), rados.get_addrs())
            write_node(rados, self._node, now)
        except StorageUnavailable:
            raise
        except PvcError as error:
            self._not_introduced = f"{self._node} cannot be fenced by its storage: {error.sentence()}"
            return
        self._not_introduced = ""
        for address in now.addresses if now.fenced else ():
            entry = {"blocklistop": "add", "addr": address, "expire": FOR_GOOD_S}
            code, _, said = ask(rados, "osd blocklist", "mon", entry)
            if code:
                raise meaning(code, CLUSTER, said)
