# SPDX-License-Identifier: Apache-2.0
"""plans: what an operator asks before acting: what a flush or migration would do, where a VM would go, what is left.

Nothing here changes the cluster; the answers are made by `pvc_core.questions`.
"""

from __future__ import annotations

import falcon

from pvc_api.bodies import CapacityQuery, NewVmQuery, VmPlanQuery
from pvc_api.documentation import documented
from pvc_api.lookup import Lookup
from pvc_api.services import Services
from pvc_core.capacity import Capacity, VmSize
from pvc_core.errors import InvalidInput
from pvc_core.metadata import split_names
from pvc_core.model import VmMetadata
from pvc_core.placement import Decision
from pvc_core.plan_document import BalanceDocument, PlanDocument
from pvc_core.snapshot_file import SnapshotFile, document_of


class NodePlan:
    """/node/{node}/plan"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Nodes", "viewer", {200: PlanDocument}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Plan a flush of a node, by the code that would do it. Nothing changes."""
        resp.media = self._commands.questions().flush(node)


class VmPlan:
    """/vm/{vm}/plan"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._lookup = Lookup(services.view, services.store)

    @documented("VMs", "viewer", {200: PlanDocument}, problems=(404, 409), query=VmPlanQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response, vm: str) -> None:
        """Plan a migration (for a time) or a move (for good) of a VM, and what has to make room first.

        Nothing changes.
        """
        query: VmPlanQuery = req.context.query
        uuid = self._lookup.vm(vm)[1].value.uuid
        resp.media = self._commands.questions().migrate(
            uuid, query.target, permanent=query.action == "move", make_room=query.make_room
        )


class ClusterBalance:
    """/cluster/balance"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Cluster", "viewer", {200: BalanceDocument})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Recommend migrations that repair violated rules and limits and spread the VMs evenly. Nothing changes.

        POST the answer to /cluster/plan to have it carried out.
        """
        resp.media = self._commands.questions().balance()


class ClusterCapacity:
    """/cluster/capacity"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Cluster", "viewer", {200: Capacity}, problems=(404,), query=CapacityQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell which VMs would not come back if a node were lost, and how many more of a size fit."""
        query: CapacityQuery = req.context.query
        if (query.fit_memory_mib is None) != (query.fit_vcpus is None):
            raise InvalidInput("fit_memory_mib", "goes together with fit_vcpus: the size of the VMs to fit")
        size = None
        if query.fit_memory_mib is not None and query.fit_vcpus is not None:
            size = VmSize(query.fit_memory_mib, query.fit_vcpus)
        resp.media = self._commands.questions().capacity(size, query.node)


class ClusterPlacement:
    """/cluster/placement"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Cluster", "viewer", {200: Decision}, query=NewVmQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Explain where a VM that does not exist yet would be placed now. Nothing changes."""
        query: NewVmQuery = req.context.query
        metadata = VmMetadata(
            node_limit=split_names(query.node_limit, "node_limit"),
            node_selector=query.node_selector,
            tags=split_names(query.tags, "tags"),
        )
        resp.media = self._commands.questions().explain_new(VmSize(query.memory_mib, query.vcpus), metadata)


class ClusterSnapshotFile:
    """/cluster/snapshot"""

    def __init__(self, services: Services) -> None:
        self._view = services.view

    @documented("Cluster", "viewer", {200: SnapshotFile})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the cluster as a file that can be planned with elsewhere: what placements are made from, by name."""
        resp.media = document_of(self._view.snapshot())
