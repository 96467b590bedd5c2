# SPDX-License-Identifier: Apache-2.0
"""maintenance: /cluster/maintenance and /node/{node}/maintenance: planned pauses, in which nothing is fenced."""

from __future__ import annotations

import falcon

from pvc_api.bodies import MaintenanceBody, NodeMaintenanceBody
from pvc_api.conditional import etag, if_match
from pvc_api.documentation import ETAG, documented
from pvc_api.maintenance_views import MaintenanceOutcome, MaintenanceView
from pvc_api.node_answers import NodeAnswers
from pvc_api.services import Services
from pvc_api.views import NodeOutcome
from pvc_core import layout
from pvc_core.commands import Outcome
from pvc_core.maintenance import sentence_on
from pvc_core.snapshot import ClusterSnapshot

NONE = "the cluster is not in maintenance"


def _version(snapshot: ClusterSnapshot) -> int:
    return snapshot.maintenance.version if snapshot.maintenance else -1


class ClusterMaintenance:
    """/cluster/maintenance"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._view = services.view

    @documented("Cluster", "viewer", {200: MaintenanceView}, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tell whether the cluster is in maintenance, until when and why."""
        snapshot = self._view.snapshot()
        resp.set_header("ETag", etag(_version(snapshot)))
        sentence = sentence_on(snapshot.pause) if snapshot.pause else NONE
        resp.media = MaintenanceView(pause=snapshot.pause, sentence=sentence, version=_version(snapshot))

    @documented(
        "Cluster", "operator", {200: MaintenanceOutcome}, problems=(409, 412), body=MaintenanceBody, headers=ETAG
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin or end a maintenance: nothing is fenced or recovered; one that is on goes on by the new terms."""
        body: MaintenanceBody = req.context.json
        self._view.refresh([layout.MAINTENANCE])
        with if_match(req, _version, "maintenance"):
            if body.on:
                outcome = self._commands.begin_maintenance(body.for_s, body.reason)
            else:
                outcome = self._commands.end_maintenance()
        req.context.outcome = outcome.reason
        snapshot = self._view.snapshot()
        resp.set_header("ETag", etag(_version(snapshot)))
        resp.media = MaintenanceOutcome(
            pause=snapshot.pause,
            sentence=sentence_on(snapshot.pause) if snapshot.pause else NONE,
            version=_version(snapshot),
            changed=outcome.changed,
            reason=outcome.reason,
        )


class NodeMaintenance:
    """/node/{node}/maintenance"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._answers = NodeAnswers(services)

    @documented(
        "Nodes",
        "operator",
        {200: NodeOutcome, 202: NodeOutcome},
        problems=(404, 409, 412),
        body=NodeMaintenanceBody,
        headers=ETAG,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Begin or end the maintenance of a node: it is not fenced and takes no VMs; its running VMs stay."""
        body: NodeMaintenanceBody = req.context.json

        def command() -> Outcome:
            if body.on:
                return self._commands.begin_node_maintenance(node, body.for_s, body.reason)
            return self._commands.end_node_maintenance(node)

        self._answers.carry_out(req, resp, node, command)
