# SPDX-License-Identifier: Apache-2.0
"""cluster_plan: /cluster/plan: apply a plan, show how far it is, cancel it."""

from __future__ import annotations

import falcon

from pvc_api.bodies import ApplyBody, WaitQuery, WatchQuery
from pvc_api.documentation import documented
from pvc_api.node_views import view_of
from pvc_api.plan_views import plan_progress
from pvc_api.services import Services
from pvc_api.views import PlanOutcome, PlanStatus
from pvc_api.vm_answers import RETRY_AFTER_S
from pvc_api.waiting import is_plan_settled, node_settled, plan_settled
from pvc_core import layout
from pvc_core.commands import Outcome


class ClusterPlan:
    """/cluster/plan"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands
        self._view = services.view
        self._waiter = services.waiter

    @documented("Cluster", "viewer", {200: PlanStatus}, query=WatchQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show how far the plan that was applied is, or the last one, and hold the answer until it is over."""
        query: WatchQuery = req.context.query
        if not is_plan_settled(self._view.snapshot(), query.since):
            self._waiter.wait(plan_settled(query.since), query.wait)
        snapshot = self._view.snapshot()
        resp.media = PlanStatus(plan=plan_progress(snapshot), settled=is_plan_settled(snapshot, query.since))

    @documented(
        "Cluster",
        "operator",
        {200: PlanOutcome, 202: PlanOutcome},
        problems=(404, 409),
        body=ApplyBody,
        query=WaitQuery,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Carry out a plan as another request answered it, if everything it was made from is as it was then.

        The plan of a flush drains its node.
        """
        body: ApplyBody = req.context.json
        self._view.refresh([layout.PLAN])
        outcome = self._commands.apply_plan(body.plan, force=body.force)
        self._answer(req, resp, outcome, req.context.query.wait)

    @documented("Cluster", "operator", {200: PlanOutcome, 202: PlanOutcome}, problems=(409,), query=WaitQuery)
    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Cancel the plan under way: no further step begins; what has begun comes to its end."""
        self._view.refresh([layout.PLAN])
        self._answer(req, resp, self._commands.cancel_plan(), req.context.query.wait)

    def _answer(self, req: falcon.Request, resp: falcon.Response, outcome: Outcome, wait_s: float) -> None:
        """At once, or once the plan or the drain is over; 202 and what to watch when it is not."""
        req.context.outcome = outcome.reason
        snapshot = self._view.snapshot()
        if outcome.node is not None:
            name, since = outcome.node.name, snapshot.node(outcome.node.name).record.version
            done, watch = node_settled(name, since), f"/api/v1/node/{name}/domain-state?since={since}"
        else:
            since = snapshot.plan.version if snapshot.plan else -1
            done, watch = plan_settled(since), f"/api/v1/cluster/plan?since={since}"
        settled = not outcome.changed or self._waiter.wait(done, wait_s)
        snapshot = self._view.snapshot()
        resp.status = 200 if settled else 202
        if not settled:
            resp.set_header("Retry-After", str(RETRY_AFTER_S))
        resp.media = PlanOutcome(
            plan=None if outcome.node is not None else plan_progress(snapshot),
            node=view_of(snapshot.node(outcome.node.name), snapshot) if outcome.node is not None else None,
            changed=outcome.changed,
            reason=outcome.reason,
            watch="" if settled else watch,
        )
