# SPDX-License-Identifier: Apache-2.0
"""vm_snapshots: /vm/{vm}/snapshot and what is below it: what a VM was, and the way back to it."""

from __future__ import annotations

import falcon

from pvc_api.bodies import RollbackBody, VmSnapshotBody, WaitQuery, WatchQuery
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.lookup import Lookup
from pvc_api.services import Services
from pvc_api.snapshot_views import (
    VmSnapshotInfo,
    VmSnapshotList,
    VmSnapshotOutcome,
    none_is_taken,
    snapshot_info,
    snapshot_list,
    snapshot_view,
)
from pvc_api.vm_answers import RETRY_AFTER_S
from pvc_core.errors import Refused
from pvc_core.vm_snapshot_commands import SnapshotOutcome
from pvc_core.vm_snapshots import VmSnapshot as Snapshot
from pvc_core.vm_snapshots import VmSnapshotState


class VmSnapshotCollection:
    """/vm/{vm}/snapshot"""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: VmSnapshotList}, problems=(404, 409), query=WatchQuery, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """List the snapshots of a VM, oldest first, and hold the answer while its node takes one."""
        query: WatchQuery = req.context.query
        uuid = self._lookup.vm(vm)[1].value.uuid
        self._services.waiter.wait(none_is_taken(uuid, query.since), query.wait)
        _, stored = self._lookup.vm(uuid)
        resp.set_header("ETag", etag(stored.version))
        resp.media = snapshot_list(stored, self._services.commands.snapshots(uuid), query.since)

    @documented(
        "VMs",
        "operator",
        {201: VmSnapshotOutcome, 202: VmSnapshotOutcome},
        problems=(404, 409, 412),
        body=VmSnapshotBody,
        query=WaitQuery,
        headers={"Location": "The snapshot's URL"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Remember what a VM is now, with all its volumes at one moment.

        With a guest that runs the answer is 202 until its node has taken it.
        """
        body: VmSnapshotBody = req.context.json
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._services.commands.take_snapshot(uuid, body.name, keep=body.keep)
        req.context.outcome = outcome.reason
        watch, snapshot = self._watched(outcome, req.context.query.wait)
        if watch:
            resp.set_header("Retry-After", str(RETRY_AFTER_S))
        resp.status = 202 if watch else 201
        resp.location = f"/api/v1/vm/{uuid}/snapshot/{snapshot.name}"
        resp.media = _outcome(outcome, snapshot, watch)

    def _watched(self, outcome: SnapshotOutcome, wait_s: float) -> tuple[str, Snapshot]:
        """What to watch until it is there, and the snapshot. Raises `Refused` when its node could not take it."""
        snapshot, uuid = outcome.snapshot, outcome.vm.uuid
        assert snapshot is not None
        if snapshot.state is VmSnapshotState.READY:
            return "", snapshot
        stored = self._services.view.snapshot().vms.get(uuid)
        version = stored.version if stored else -1
        if not self._services.waiter.wait(none_is_taken(uuid, version), wait_s):
            return f"/api/v1/vm/{uuid}/snapshot?since={version}", snapshot
        record = self._lookup.newest_vm(uuid).value
        if snapshot.name not in record.snapshots.names:
            raise Refused(snapshot.title, f"is not taken: {record.snapshots.problem or 'it was called off'}")
        return "", self._services.commands.vm_snapshot(uuid, snapshot.name)


class VmSnapshot:
    """/vm/{vm}/snapshot/{name}"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: VmSnapshotInfo}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str, name: str) -> None:
        """Show a snapshot of a VM with its definition and metadata."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        resp.media = snapshot_info(self._commands.vm_snapshot(uuid, name))

    @documented("VMs", "operator", {200: VmSnapshotOutcome}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, vm: str, name: str) -> None:
        """Forget a snapshot of a VM; one that its node is to take is called off."""
        uuid = self._lookup.newest_vm(vm).value.uuid
        outcome = self._commands.remove_snapshot(uuid, name)
        req.context.outcome = outcome.reason
        resp.media = _outcome(outcome, outcome.snapshot)


class VmSnapshotRollback:
    """/vm/{vm}/snapshot/{name}/rollback"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "operator", {200: VmSnapshotOutcome}, problems=(404, 409, 412), body=RollbackBody)
    def on_post(self, req: falcon.Request, resp: falcon.Response, vm: str, name: str) -> None:
        """Let a VM that is off be what it was at a snapshot: volumes, definition and metadata, but not its name.

        What its volumes hold now is lost.
        """
        uuid = self._lookup.newest_vm(vm).value.uuid
        with if_match(req, lambda snapshot: snapshot.vm(uuid).version, vm):
            outcome = self._commands.roll_back(uuid, name)
        req.context.outcome = outcome.reason
        resp.media = _outcome(outcome, outcome.snapshot)


def _outcome(outcome: SnapshotOutcome, snapshot: Snapshot | None, watch: str = "") -> VmSnapshotOutcome:
    return VmSnapshotOutcome(
        vm=outcome.vm.name,
        uuid=outcome.vm.uuid,
        snapshot=snapshot_view(snapshot) if snapshot else None,
        reason=outcome.reason,
        warnings=outcome.warnings,
        watch=watch,
    )
