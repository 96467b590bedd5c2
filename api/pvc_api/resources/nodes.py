# SPDX-License-Identifier: Apache-2.0
"""nodes: /node, /node/{node} with /domain-state and /fence: show nodes, drain, take back and fence them."""

from __future__ import annotations

import falcon

from pvc_api.bodies import DomainStateBody, FenceBody, WaitQuery, WatchQuery
from pvc_api.conditional import etag
from pvc_api.documentation import ETAG, documented
from pvc_api.node_answers import NodeAnswers
from pvc_api.node_views import view_of
from pvc_api.services import Services
from pvc_api.views import NodeList, NodeModeView, NodeOutcome, NodeView
from pvc_api.waiting import node_settled


class NodeCollection:
    """All nodes."""

    def __init__(self, services: Services) -> None:
        self._view = services.view

    @documented("Nodes", "viewer", {200: NodeList})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List nodes by name."""
        snapshot = self._view.snapshot()
        nodes = tuple(view_of(snapshot.nodes[name], snapshot) for name in sorted(snapshot.nodes))
        resp.media = NodeList(nodes=nodes, pause=snapshot.pause)


class Node:
    """One node."""

    def __init__(self, services: Services) -> None:
        self._view = services.view

    @documented("Nodes", "viewer", {200: NodeView}, problems=(404,), headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Show a node, the progress of its drain included."""
        snapshot = self._view.snapshot()
        found = snapshot.node(node)
        resp.set_header("ETag", etag(found.record.version))
        resp.media = view_of(found, snapshot)


class NodeDomainState:
    """/node/{node}/domain-state"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._view = services.view
        self._waiter = services.waiter
        self._answers = NodeAnswers(services)

    @documented("Nodes", "viewer", {200: NodeModeView}, problems=(404,), query=WatchQuery, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Tell how far a flush or ready is, and hold the answer until it is over."""
        query: WatchQuery = req.context.query
        self._view.snapshot().node(node)
        settled = self._waiter.wait(node_settled(node, query.since), query.wait)
        self._show(resp, node, settled)

    def _show(self, resp: falcon.Response, node: str, settled: bool) -> None:
        snapshot = self._view.snapshot()
        found = snapshot.node(node)
        resp.set_header("ETag", etag(found.record.version))
        resp.media = NodeModeView(node=view_of(found, snapshot), settled=settled)

    @documented(
        "Nodes",
        "operator",
        {200: NodeOutcome, 202: NodeOutcome},
        problems=(404, 409, 412),
        body=DomainStateBody,
        query=WaitQuery,
        headers=ETAG,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Drain a node, or take it back into service; that also breaks off a drain under way."""
        body: DomainStateBody = req.context.json
        command = self._commands.flush if body.state == "flush" else self._commands.ready
        self._answers.carry_out(req, resp, node, lambda: command(node), req.context.query.wait)


class NodeFence:
    """/node/{node}/fence"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._answers = NodeAnswers(services)

    @documented(
        "Nodes",
        "operator",
        {200: NodeOutcome},
        problems=(404, 409, 412),
        body=FenceBody,
        headers=ETAG,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, node: str) -> None:
        """Have a node switched off whose daemon is gone, or confirm that it is off: then its VMs start elsewhere."""
        body: FenceBody = req.context.json
        command = self._commands.confirm_fenced if body.confirmed else self._commands.fence
        self._answers.carry_out(req, resp, node, lambda: command(node))
