# SPDX-License-Identifier: Apache-2.0
"""vm_volumes: /vm/{vm}/volume and /vm/{vm}/volume/{device}: which volumes are disks of a VM."""

from __future__ import annotations

import falcon

from pvc_api.bodies import VmVolumeBody
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.lookup import Lookup
from pvc_api.services import Services
from pvc_api.volume_views import VmVolumeList, VmVolumeOutcome, volume_view, volumes_of_vm
from pvc_core.volume_commands import VolumeOutcome


class VmVolumeCollection:
    """/vm/{vm}/volume"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: VmVolumeList}, problems=(404, 409), headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """List the volumes of a VM."""
        _, stored = self._lookup.vm(vm)
        resp.set_header("ETag", etag(stored.version))
        resp.media = VmVolumeList(
            vm=stored.value.name,
            uuid=stored.value.uuid,
            volumes=volumes_of_vm(stored.value),
            version=stored.version,
        )

    @documented(
        "VMs",
        "operator",
        {201: VmVolumeOutcome},
        problems=(404, 409, 412),
        body=VmVolumeBody,
        headers={"Location": "The volume's URL"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Make a volume a disk of a VM. A guest that runs has it from its next start."""
        body: VmVolumeBody = req.context.json
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.add_volume(uuid, body.backend, body.pool, body.name, device=body.device)
        _answer(req, resp, outcome)
        resp.status = 201
        resp.location = f"/api/v1/vm/{uuid}/volume/{outcome.volume.device}"


class VmVolume:
    """/vm/{vm}/volume/{device}"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "operator", {200: VmVolumeOutcome}, problems=(404, 409, 412))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, vm: str, device: str) -> None:
        """Let a volume be no disk of a VM any more. It stays, with what it holds."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.remove_volume(uuid, device)
        _answer(req, resp, outcome)


def _answer(req: falcon.Request, resp: falcon.Response, outcome: VolumeOutcome) -> None:
    req.context.outcome = outcome.reason
    resp.media = VmVolumeOutcome(
        vm=outcome.vm.name,
        uuid=outcome.vm.uuid,
        volume=volume_view(outcome.volume),
        changed=True,
        reason=outcome.reason,
    )
