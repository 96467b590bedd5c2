# SPDX-License-Identifier: Apache-2.0
"""vm_volumes: /vm/{vm}/volume and what is below it: which volumes are disks of a VM, and what they are called."""

from __future__ import annotations

import falcon

from pvc_api.bodies import RenameBody, VmVolumeBody, VmVolumeQuery, VolumeRepairBody, WaitQuery, WatchQuery
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.lookup import Lookup
from pvc_api.services import Services
from pvc_api.vm_answers import RETRY_AFTER_S
from pvc_api.volume_views import (
    UnfinishedVolumes,
    VmVolumeList,
    VmVolumeOutcome,
    is_settled,
    unfinished,
    volume_view,
    volumes_of_vm,
    volumes_settled,
)
from pvc_core.errors import StoreUnavailable
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.volume_commands import VolumeOutcome


class VmVolumeCollection:
    """/vm/{vm}/volume"""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: VmVolumeList}, problems=(404, 409), query=WatchQuery, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """List the volumes of a VM, and hold the answer until its guest has them."""
        query: WatchQuery = req.context.query
        uuid = self._lookup.vm(vm)[1].value.uuid
        self._services.waiter.wait(volumes_settled(uuid, query.since), query.wait)
        snapshot, stored = self._lookup.vm(uuid)
        resp.set_header("ETag", etag(stored.version))
        resp.media = VmVolumeList(
            vm=stored.value.name,
            uuid=uuid,
            volumes=volumes_of_vm(stored.value, snapshot),
            settled=stored.version >= query.since and is_settled(stored.value, snapshot),
            version=stored.version,
        )

    @documented(
        "VMs",
        "operator",
        {201: VmVolumeOutcome, 202: VmVolumeOutcome},
        problems=(404, 409, 412),
        body=VmVolumeBody,
        query=WaitQuery,
        headers={"Location": "The volume's URL"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Make a volume, which there is or which is made with a size, a disk of a VM.

        With a guest that runs the answer is 202 until it has it.
        """
        body: VmVolumeBody = req.context.json
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._add(uuid, body)
        _answer(self._services, req, resp, outcome, done_status=201)
        resp.location = f"/api/v1/vm/{uuid}/volume/{outcome.volume.device}"

    def _add(self, uuid: str, body: VmVolumeBody) -> VolumeOutcome:
        commands, volume = self._services.commands, (body.backend, body.pool, body.name)
        if body.size_bytes is None:
            return commands.add_volume(uuid, *volume, device=body.device)
        return commands.create_volume(uuid, *volume, body.size_bytes, device=body.device)


class VmVolume:
    """/vm/{vm}/volume/{device}"""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lookup = Lookup(services.view, services.store)

    @documented(
        "VMs", "operator", {200: VmVolumeOutcome, 202: VmVolumeOutcome}, problems=(404, 409, 412), query=VmVolumeQuery
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, vm: str, device: str) -> None:
        """Let a volume be no disk of a VM any more. It stays, with what it holds, or is deleted.

        With a guest that runs the answer is 202 until that has let go of it; as long it is no other VM's.
        """
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            commands = self._services.commands
            outcome = (commands.delete_volume if req.context.query.delete else commands.remove_volume)(uuid, device)
        _answer(self._services, req, resp, outcome, done_status=200)


class VmVolumeRename:
    """/vm/{vm}/volume/{device}/rename"""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "operator", {200: VmVolumeOutcome}, problems=(404, 409, 412), body=RenameBody, query=WaitQuery)
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str, device: str) -> None:
        """Give the volume that is this disk of a VM another name in its pool: in the storage and in PVC, or not at all.

        The VM has to be off, and does not start until that is over.
        """
        body: RenameBody = req.context.json
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._services.commands.rename_volume(uuid, device, body.name)
        _answer(self._services, req, resp, outcome, done_status=200)


class VolumeRepair:
    """/cluster/volume-repair"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Cluster", "viewer", {200: UnfinishedVolumes})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List what was begun with volumes of VMs and has not come to an end, and what does not fit together."""
        resp.media = unfinished(self._commands.unfinished_volumes())

    @documented("Cluster", "operator", {200: UnfinishedVolumes}, body=VolumeRepairBody)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Bring it to an end; the answer is what is left. Volumes that were to be deleted are."""
        resp.media = unfinished(self._commands.repair_volumes())


def _answer(
    services: Services, req: falcon.Request, resp: falcon.Response, outcome: VolumeOutcome, done_status: int
) -> None:
    """Wait for the guest to follow; 202 and what to watch when it has not."""
    req.context.outcome = outcome.reason
    uuid, wait_s = outcome.vm.uuid, req.context.query.wait
    record, snapshot, version, settled = outcome.vm, ClusterSnapshot(), -1, False
    try:
        stored = services.view.snapshot().vms.get(uuid)
        version = stored.version if stored else -1
        settled = services.waiter.wait(volumes_settled(uuid, version), wait_s)
        snapshot = services.view.snapshot()
        record = snapshot.vms[uuid].value if uuid in snapshot.vms else record
    except StoreUnavailable as error:  # the command is in the store by now: losing that does not make it an error
        services.log.warning("outcome_unseen", vm=record.name, problem=error.problem)
    if not settled:
        resp.set_header("Retry-After", str(RETRY_AFTER_S))
    resp.status = done_status if settled else 202
    resp.media = VmVolumeOutcome(
        vm=record.name,
        uuid=uuid,
        volume=volume_view(outcome.volume, record, snapshot),
        changed=outcome.changed,
        reason=outcome.reason,
        watch="" if settled else f"/api/v1/vm/{uuid}/volume?since={version}",
    )
