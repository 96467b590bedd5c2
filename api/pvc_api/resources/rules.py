# SPDX-License-Identifier: Apache-2.0
"""rules: /cluster/rule and /cluster/rule/{name}: which VMs belong together, apart, or rather on certain nodes.

Everybody may see them. To change them takes an admin, as with settings: a rule says where everybody's VMs may be.
"""

from __future__ import annotations

import falcon

from pvc_api.bodies import NewRuleBody, RuleBody, fields_set
from pvc_api.documentation import documented
from pvc_api.rule_views import rule_list, rule_view
from pvc_api.services import Services
from pvc_api.views import RuleList, RuleOutcome, RuleRemoved, RuleView
from pvc_core import layout
from pvc_core.commands import Outcome
from pvc_core.errors import NotFound
from pvc_core.rules import Rulebook

LOCATION = {"Location": "The rule's URL"}


class RuleCollection:
    """All rules."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @documented("Cluster", "viewer", {200: RuleList})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the rules by name: whom each is about now, and whether it is kept or broken and how."""
        resp.media = rule_list(self._services.view.snapshot())

    @documented("Cluster", "admin", {201: RuleOutcome}, problems=(409,), body=NewRuleBody, headers=LOCATION)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Add a rule. One that is broken already is accepted: it says how things shall be."""
        fields = fields_set(req.context.json)
        name = str(fields["name"])
        outcome = self._services.commands.add_rule(name, fields)
        _answer(self._services, req, resp, name, outcome)
        resp.status = 201
        resp.location = f"/api/v1/cluster/rule/{name}"


class RuleResource:
    """One rule."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @documented("Cluster", "viewer", {200: RuleView}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Show a rule: whom it is about now, and whether it is kept or broken and how."""
        resp.media = _shown(self._services, name)

    @documented("Cluster", "admin", {200: RuleOutcome}, problems=(409,), body=RuleBody)
    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Write a rule as it is to be, new or in place of the one of this name."""
        outcome = self._services.commands.put_rule(name, fields_set(req.context.json))
        _answer(self._services, req, resp, name, outcome)

    @documented("Cluster", "admin", {200: RuleRemoved}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Remove a rule. VMs stay where they are."""
        outcome = self._services.commands.remove_rule(name)
        req.context.outcome = outcome.reason
        resp.media = RuleRemoved(name=name, reason=outcome.reason)


def _answer(services: Services, req: falcon.Request, resp: falcon.Response, name: str, outcome: Outcome) -> None:
    req.context.outcome = outcome.reason
    resp.media = RuleOutcome(rule=_shown(services, name), changed=outcome.changed, reason=outcome.reason)


def _shown(services: Services, name: str) -> RuleView:
    snapshot = services.view.snapshot()
    if layout.rule(name) in snapshot.broken:
        raise snapshot.broken[layout.rule(name)]
    if name not in snapshot.rules:
        raise NotFound("rule", name, tuple(snapshot.rules))
    return rule_view(snapshot.rules[name].value, Rulebook(snapshot))
