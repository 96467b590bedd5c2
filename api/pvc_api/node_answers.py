# SPDX-License-Identifier: Apache-2.0
"""node_answers: what a command on a node answers: once the drain is over, or with the URL that tells when it is."""

from __future__ import annotations

from collections.abc import Callable

import falcon

from pvc_api.conditional import etag, if_match
from pvc_api.lookup import Lookup
from pvc_api.node_views import view_of
from pvc_api.services import Services
from pvc_api.views import NodeOutcome
from pvc_api.vm_answers import RETRY_AFTER_S
from pvc_api.waiting import SETTLED_MODES, node_settled
from pvc_core import layout, snapshot
from pvc_core.codec import Stored
from pvc_core.commands import Outcome
from pvc_core.errors import StoreUnavailable
from pvc_core.model import NodeRecord


class NodeAnswers:
    """Answers for the commands of one cluster."""

    def __init__(self, services: Services) -> None:
        self._view = services.view
        self._waiter = services.waiter
        self._log = services.log
        self._lookup = Lookup(services.view, services.store)

    def carry_out(
        self, req: falcon.Request, resp: falcon.Response, node: str, command: Callable[[], Outcome], wait_s: float = 0.0
    ) -> None:
        """Give the command if the node is as the request wants it, by its newest record, and answer as `answer`."""
        self._lookup.refresh_node(node)
        with if_match(req, lambda snapshot: snapshot.node(node).record.version, node):
            outcome = command()
        self.answer(req, resp, outcome, wait_s)

    def answer(self, req: falcon.Request, resp: falcon.Response, outcome: Outcome, wait_s: float) -> None:
        """Wait for the drain to end, at most `wait_s`; 202 and what to watch when it has not."""
        if outcome.node is None:
            raise TypeError(f"a command on a node came back without one: {outcome.reason}")
        req.context.outcome = outcome.reason
        node, cluster, settled = self._settle(outcome.node, wait_s)
        version = node.record.version
        resp.status = 200 if settled else 202
        if not settled:
            resp.set_header("Retry-After", str(RETRY_AFTER_S))
        resp.set_header("ETag", etag(version))
        resp.media = NodeOutcome(
            node=view_of(node, cluster),
            changed=outcome.changed,
            reason=outcome.reason,
            watch="" if settled else f"/api/v1/node/{node.name}/domain-state?since={version}",
        )

    def _settle(self, record: NodeRecord, wait_s: float) -> tuple[snapshot.NodeView, snapshot.ClusterSnapshot, bool]:
        """The node after waiting. The command is in the store by now: losing the store does not make it an error."""
        stored = Stored(layout.node(record.name), record, -1)
        node, cluster = snapshot.NodeView(stored), snapshot.ClusterSnapshot()
        settled = record.mode in SETTLED_MODES
        try:
            cluster = self._view.snapshot()
            node = cluster.node(record.name)
            settled = self._waiter.wait(node_settled(record.name, node.record.version), wait_s)
            cluster = self._view.snapshot()
            node = cluster.node(record.name)
        except StoreUnavailable as error:
            self._log.warning("outcome_unseen", node=record.name, problem=error.problem)
        return node, cluster, settled
