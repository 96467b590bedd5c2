# SPDX-License-Identifier: Apache-2.0
"""osd_resources: what the API serves below /storage/ceph/osd: the OSDs; those with the disks make and remove them."""

from __future__ import annotations

from typing import Any

from pvc_core.contributions import answer_task, api_method
from pvc_core.errors import NotFound, Refused, StorageUnavailable
from pvc_core.storage_serving import NOT_HERE, NOT_SO
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import TaskView
from pvc_storage_backends.ceph import administration, figures
from pvc_storage_backends.ceph.answers import CephOsdList, CephOsdPart, CephOsdQuery, CephOutcome, NewCephOsd
from pvc_storage_backends.ceph.cluster_resource import OfTheCluster, outcome
from pvc_storage_backends.ceph.osd_tasks import ADD, REMOVE


class Osds(OfTheCluster):
    """/osd"""

    @api_method("viewer", CephOsdList)
    def on_get(self, req: Any, resp: Any) -> None:
        """List the OSDs, how full they are, and the flags that are set for all of them."""
        ask = self.connection().command
        tree, dump = ask("osd tree"), ask("osd dump")
        used: figures.Document = {}
        problem = ""
        try:
            used = ask("osd df", to="mgr")
        except StorageUnavailable as error:  # that no manager answers hides no OSD
            problem = f"no manager tells how full they are: {error.problem}"
        resp.media = figures.osds_of(tree, dump, administration.FLAGS, used, problem)

    @api_method("admin", TaskView, status=202, body=NewCephOsd, problems=NOT_HERE)
    def on_post(self, req: Any, resp: Any) -> None:
        """Make an OSD on a free disk of a node, which does so as a task: what is not free is refused by that."""
        body: NewCephOsd = req.context.json
        parameters = {"device": body.device, "device_class": body.device_class}
        answer_task(resp, self.site.give_task(NodeTask(body.node, ADD, f"make an OSD on {body.device}", parameters)))


class OneOsd(OfTheCluster):
    """/osd/{osd}"""

    @api_method("admin", CephOutcome, body=CephOsdPart, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, osd: str) -> None:
        """Let an OSD hold data, or no more: what it holds then moves to others."""
        wanted = req.context.json.in_cluster
        name = administration.take_part(self.ceph(), osd, wanted)
        resp.media = outcome(req, f"{name} is {'in' if wanted else 'out'}")

    @api_method("admin", TaskView, status=202, query=CephOsdQuery, problems=NOT_HERE)
    def on_delete(self, req: Any, resp: Any, osd: str) -> None:
        """Remove an OSD and free its disk, once everything that it holds is elsewhere: a task of its node."""
        number = administration.known_osd(self.ceph(), osd)
        node = req.context.query.node or self._node_of(number)
        task = NodeTask(node, REMOVE, f"remove osd.{number}", {"osd": number})
        answer_task(resp, self.site.give_task(task))

    def _node_of(self, number: int) -> str:
        """The node on whose host Ceph says it is. Raises `Refused`."""
        try:
            host = str(self.connection().command("osd metadata", id=number).get("hostname", ""))
        except NotFound:
            host = ""  # it has never run
        nodes = self.site.snapshot().nodes
        found = [name for name in (host, host.partition(".")[0]) if name in nodes]
        if not found:
            where = f"on {host}, which is no node" if host else "on no host that Ceph knows"
            raise Refused(f"osd.{number}", f"is {where}: say which node has its disk")
        return found[0]
