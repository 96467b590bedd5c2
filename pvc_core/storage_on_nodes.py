# SPDX-License-Identifier: Apache-2.0
"""storage_on_nodes: volumes in pools that each node has for itself: that node lists, makes and removes them, as tasks.

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

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from pvc_core.contributions import ApiResource, answer_task, api_method
from pvc_core.errors import NotFound, Refused
from pvc_core.sizes import size_words
from pvc_core.storage import (
    StorageBackend,
    StorageBackendEntry,
    StorageSite,
    Volume,
    check_volume_name,
    check_volume_size,
)
from pvc_core.storage_answers import NewStorageVolume, NodeVolumeList, NodeVolumeQuery, StorageVolumeView
from pvc_core.storage_serving import NOT_HERE, NOT_SO, VOLUME, VOLUMES, OpenedOnce, Served
from pvc_core.task_entries import NodeTask, NodeTaskEntry, TaskReport, TaskRequest
from pvc_core.task_records import TaskView
from pvc_core.vm_volumes import VmVolume, claim_key
from pvc_core.volume_claims import refuse_claimed

LIST_S = 30.0
"""How long a node may take to list its volumes."""
PAGE_BYTES = 48 * 1024
"""Of volumes in one answer, well below what the result of a task may have."""
NO_ANSWER = (*NOT_HERE, 504)


def volume_tasks(entry: StorageBackendEntry) -> tuple[NodeTaskEntry, ...]:
    """The tasks by which a node lists, makes and removes volumes in its own pools."""
    return (
        NodeTaskEntry(
            _listing(entry), f"list the volumes of {entry.name} on the host", partial(_list, entry), resumable=True
        ),
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


def _listing(entry: StorageBackendEntry) -> str:
    return f"{entry.name}-volume-list"


def _making(entry: StorageBackendEntry) -> str:
    return f"{entry.name}-volume-add"


def _removing(entry: StorageBackendEntry) -> str:
    return f"{entry.name}-volume-remove"


# -------------------------------------------------------------------------------------------------- on the node


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """What a node answers: name, size and room in bytes of each volume; how many there are; whether more come after."""

    volumes: tuple[tuple[str, int, int | None], ...]
    total: int
    more: bool


def page_of(volumes: Sequence[Volume], after: str, limit: int) -> _Page:
    """Those whose names come after `after`: at most `limit` (0: any number), and no more than a task's result holds."""
    later = sorted((each for each in volumes if each.name > after), key=lambda each: each.name)
    rows: list[tuple[str, int, int | None]] = []
    size_bytes = 0
    for each in later[: limit or None]:
        row = (each.name, each.size_bytes, each.used_bytes)
        size_bytes += len(json.dumps(row)) + len(", ")
        if rows and size_bytes > PAGE_BYTES:
            break
        rows.append(row)
    return _Page(volumes=tuple(rows), total=len(volumes), more=len(rows) < len(later))


def _list(entry: StorageBackendEntry, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
    asked = request.parameters
    page = page_of(_opened(entry, request).volumes(asked["pool"]), asked["after"], asked["limit"])
    answer: Mapping[str, Any] = msgspec.to_builtins(page)
    return answer


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
    def check_own(self, pool: str) -> None:
        """Raises `Refused` for a pool that all nodes share, as far as this process knows of it."""
        backend = self.backend()
        if pool in backend.pools() and backend.is_shared(pool):
            raise Refused(f"pool {pool}", "is shared by all nodes: no single one is asked for it")

    def give(self, resp: Any, task: NodeTask) -> None:
        """Raises as `check_own`."""
        self.check_own(task.parameters["pool"])
        answer_task(resp, self._site.give_task(task))


class NodeVolumes(_Giving):
    """/node/{node}/pool/{pool}/volume"""

    @api_method("operator", NodeVolumeList, query=NodeVolumeQuery, problems=NO_ANSWER)
    def on_get(self, req: Any, resp: Any, node: str, pool: str) -> None:
        """List the volumes of a pool of a node's own, each with the VM that it belongs to, as the node finds them now.

        Waits for its daemon, 30 seconds at most. One answer holds some hundred volumes or more.
        """
        self.check_own(pool)
        asked: NodeVolumeQuery = req.context.query
        parameters = {"pool": pool, "after": asked.after, "limit": asked.limit}
        task = NodeTask(node, _listing(self._entry), f"list the volumes of pool {pool}", parameters)
        page = msgspec.convert(self._site.ask_node(task, LIST_S), _Page)
        owners = self.owners(pool, [name for name, *_ in page.volumes], node)
        volumes = (
            StorageVolumeView(pool=pool, name=name, size_bytes=size, used_bytes=used, vm=owners.get(name, ""))
            for name, size, used in page.volumes
        )
        resp.media = NodeVolumeList(volumes=tuple(volumes), total=page.total, more=page.more)

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
