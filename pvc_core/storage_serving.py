# SPDX-License-Identifier: Apache-2.0
"""storage_serving: what all resources of a backend share: how this process sees it, and whose its volumes are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pvc_core.contributions import ApiSite
from pvc_core.errors import Refused
from pvc_core.plugin_types import PluginOptions
from pvc_core.storage import StorageBackend, StorageBackendEntry, StorageCapability, StorageSite
from pvc_core.storage_answers import StorageVolumeOutcome, volume_view
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import VmVolume, claim_key
from pvc_core.volume_claims import claim_on, claims_on, refuse_claimed

NOT_HERE = (404, 409)
NOT_SO = (404, 409, 422)
VOLUMES = "/pool/{pool}/volume"
VOLUME = f"{VOLUMES}/{{volume}}"


class OpenedOnce:
    """A backend as this process sees it, opened once for all its resources, and anew when it is configured anew."""

    def __init__(self, entry: StorageBackendEntry) -> None:
        self.entry = entry
        self._opened: tuple[PluginOptions, StorageBackend] | None = None

    def at(self, site: ApiSite) -> StorageBackend:
        """The backend, whatever it can do."""
        options = site.options()
        opened = self._opened
        if opened is None or opened[0] != options:
            opened = self._opened = (options, self.entry.open(StorageSite("", options)))
        return opened[1]


class Served:
    """What all resources share: the backend as this process sees it."""

    def __init__(self, opened: OpenedOnce, site: ApiSite) -> None:
        self._opened = opened
        self._entry = opened.entry
        self._site = site

    def backend(self) -> StorageBackend:
        """The backend, whatever it can do."""
        return self._opened.at(self._site)

    def reaching(self, pool: str) -> StorageBackend:
        """The backend, where it can work on this pool from here. Raises `NotFound`, and `Refused` where it cannot."""
        backend = self.backend()
        if not backend.is_shared(pool):
            reason = "is each node's own: volumes are listed, made and removed there with --node, and nothing else"
            raise Refused(f"pool {pool}", reason)
        return backend

    def able(self, pool: str, capability: StorageCapability) -> Any:
        """As `reaching`; raises `Refused` also where the backend has not got the capability."""
        backend = self.reaching(pool)
        if capability not in backend.capabilities:
            raise Refused(f"storage backend {self._entry.name}", f"has not got the capability {capability}")
        return backend

    def owner(self, pool: str, volume: str) -> str:
        """The VM that the volume is a disk of, or is being made or removed for; "" when it is nobody's."""
        return self.owners(pool, [volume]).get(volume, "")

    def owners(self, pool: str, volumes: Sequence[str], node: str = "") -> dict[str, str]:
        """Those of these volumes that belong to a VM, and its name. node: whose own the pool is."""
        backend = self._entry.name
        named = {name: VmVolume(device="", backend=backend, pool=pool, name=name, node=node) for name in volumes}
        claims = claims_on(self._site.store, named.values())
        vms = self._site.snapshot().vms if claims else {}
        owners: dict[str, str] = {}
        for name, volume in named.items():
            if claim := claims.get(claim_key(volume)):
                vm = vms.get(claim.value.vm)
                owners[name] = vm.value.name if vm else claim.value.vm_name
        return owners

    def check_nobodys(self, pool: str, volume: str) -> None:
        """Raises `Refused` for a volume that is a disk of a VM."""
        if vm := self.owner(pool, volume):
            raise Refused(f"volume {volume}", f"belongs to VM {vm}; `pvc vm volume list {vm}` shows as what")

    def check_fillable(self, pool: str, volume: str) -> None:
        """Raises `Refused` for a volume of a VM whose guest may have it, or that is being made or removed."""
        wanted = VmVolume(device="", backend=self._entry.name, pool=pool, name=volume)
        claim = claim_on(self._site.store, claim_key(wanted))
        if claim is None:
            return
        vm = self._site.snapshot().vms.get(claim.value.vm)
        if claim.value.purpose != "attached" or vm is None:
            refuse_claimed(self._site.store, claim.key)
        elif vm.value.state not in OFF:
            reason = f"is a disk of VM {vm.value.name}, which is {vm.value.state}: stop it first"
            raise Refused(f"volume {volume}", reason)

    def outcome(self, req: Any, pool: str, reason: str, volume: str = "") -> StorageVolumeOutcome:
        """The answer to a change, with the volume as it is now; the reason also stands in the audit log."""
        req.context.outcome = reason
        if not volume:
            return StorageVolumeOutcome(reason=reason)
        shown = volume_view(self.backend().volume(pool, volume), self.owner(pool, volume))
        return StorageVolumeOutcome(reason=reason, volume=shown)
