# SPDX-License-Identifier: Apache-2.0
"""storage_on_nodes: volumes in pools that each node has for itself: made and removed by that node, as its tasks.

    @hookimpl
    def pvc_node_tasks():
        return volume_tasks(ENTRY)

    @hookimpl
    def pvc_api_resources():
        return (*volume_resources(ENTRY), *node_volume_resources(ENTRY))

serves them below /storage/<backend>/node/{node}/pool. What such a node is asked it answers by a task, for nobody else
reaches the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pvc_core.contributions import ApiResource, answer_task, api_method
from pvc_core.errors import NotFound, Refused
from pvc_core.sizes import size_words
from pvc_core.storage import StorageBackend, StorageBackendEntry, StorageSite, check_volume_name, check_volume_size
from pvc_core.storage_answers import NewStorageVolume
from pvc_core.storage_serving import NOT_HERE, NOT_SO, VOLUME, VOLUMES, OpenedOnce, Served
from pvc_core.task_entries import NodeTask, NodeTaskEntry, TaskReport, TaskRequest
from pvc_core.task_records import TaskView
from pvc_core.vm_volumes import VmVolume, claim_key
from pvc_core.volume_claims import refuse_claimed


def volume_tasks(entry: StorageBackendEntry) -> tuple[NodeTaskEntry, ...]:
    """The tasks by which a node makes and removes volumes in its own pools."""
    return (
        NodeTaskEntry(_making(entry), f"make a volume of {entry.name} on the host", partial(_make, entry)),
        NodeTaskEntry(
            _removing(entry), f"remove a volume of {entry.name} on the host", partial(_remove, entry), resumable=True
        ),
    )


def node_volume_resources(entry: StorageBackendEntry) -> tuple[ApiResource, ...]:
    """The resources that give these tasks."""
    opened = OpenedOnce(entry)
    below = f"/storage/{entry.name}/node/{{node}}"
    return (
        ApiResource(f"{below}{VOLUMES}", partial(NodeVolumes, opened), f"Volumes of {entry.name} on one host"),
        ApiResource(f"{below}{VOLUME}", partial(OneNodeVolume, opened), f"A volume of {entry.name} on one host"),
    )


def _making(entry: StorageBackendEntry) -> str:
    return f"{entry.name}-volume-add"


def _removing(entry: StorageBackendEntry) -> str:
    return f"{entry.name}-volume-remove"


# -------------------------------------------------------------------------------------------------- on the node


def _make(entry: StorageBackendEntry, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
    asked = request.parameters
    made = _opened(entry, request).create_volume(asked["pool"], asked["name"], asked["size_bytes"])
    return {"pool": made.pool, "name": made.name, "size_bytes": made.size_bytes}


def _remove(entry: StorageBackendEntry, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
    pool, name = request.parameters["pool"], request.parameters["name"]
    try:
        _opened(entry, request).remove_volume(pool, name)
    except NotFound as error:
        if not (request.resumed and error.kind == "volume"):  # else an earlier life of the daemon has removed it
            raise
    return {"pool": pool, "name": name}


def _opened(entry: StorageBackendEntry, request: TaskRequest) -> StorageBackend:
    return entry.open(StorageSite(request.node, request.options))


# ------------------------------------------------------------------------------------------------ in the API


class _Giving(Served):
    def give(self, resp: Any, task: NodeTask) -> None:
        """Raises `Refused` for a pool that all nodes share, as far as this process knows of it."""
        backend, pool = self.backend(), task.parameters["pool"]
        if pool in backend.pools() and backend.is_shared(pool):
            raise Refused(f"pool {pool}", "is shared by all nodes: no single one is asked for it")
        answer_task(resp, self._site.give_task(task))


class NodeVolumes(_Giving):
    """/node/{node}/pool/{pool}/volume"""

    @api_method("operator", TaskView, status=202, body=NewStorageVolume, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, node: str, pool: str) -> None:
        """Have a node make a volume in a pool of its own, as a task. It reads as zeros."""
        body: NewStorageVolume = req.context.json
        check_volume_name(body.name)
        check_volume_size(body.size_bytes)
        parameters = {"pool": pool, "name": body.name, "size_bytes": body.size_bytes}
        title = f"make volume {pool}/{body.name} of {size_words(body.size_bytes)}"
        self.give(resp, NodeTask(node, _making(self._entry), title, parameters))


class OneNodeVolume(_Giving):
    """/node/{node}/pool/{pool}/volume/{volume}"""

    @api_method("operator", TaskView, status=202, problems=NOT_HERE)
    def on_delete(self, req: Any, resp: Any, node: str, pool: str, volume: str) -> None:
        """Have a node remove a volume of a pool of its own, as a task. Refused while it is a disk of a VM."""
        wanted = VmVolume(device="", backend=self._entry.name, pool=pool, name=volume, node=node)
        refuse_claimed(self._site.store, claim_key(wanted))
        title = f"remove volume {pool}/{volume}"
        self.give(resp, NodeTask(node, _removing(self._entry), title, {"pool": pool, "name": volume}))
