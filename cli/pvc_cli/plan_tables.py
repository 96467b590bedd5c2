# SPDX-License-Identifier: Apache-2.0
"""plan_tables: a plan, a decision and the cluster's capacity, as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_cli.exit_codes import DONE, NO_CANDIDATE, NOT_SURVIVABLE, VMS_STAYED
from pvc_cli.output import Shown
from pvc_cli.plan_views import BalanceView, CapacityView, PlanView
from pvc_cli.tables import Cell, Table
from pvc_cli.views import Decision, Rejection
from pvc_cli.words import NOTHING, counted

NODES_IN_A_CELL = 4


def plan_shown(plan: PlanView) -> Shown:
    """Step by step, then what stays and why."""
    parts: list[str | Table] = [plan["reason"]]
    if plan["steps"]:
        steps = Table(("step", "vm", "from", "to", "action", "after", "reason"), right=("step",), folding=("reason",))
        for number, step in enumerate(plan["steps"], start=1):
            after = ",".join(str(index + 1) for index in step["after"]) or NOTHING
            target = NOTHING if step["action"] == "shutdown" else step["to"]
            steps.add(str(number), step["vm"], step["from"], target, step["action"], after, step["reason"])
        parts += ["", steps]
    if plan["stay"]:
        stays = Table(("stays", "on", "because"), folding=("because",))
        for stay in plan["stay"]:
            stays.add(stay["vm"], stay["node"], stay["reason"])
        parts += ["", stays]
    return parts


def balance_shown(plan: BalanceView) -> Shown:
    """What it is good for, the steps, and what it cannot repair."""
    shown = plan_shown(plan)
    parts: list[str | Table] = shown if isinstance(shown, list) else [shown]
    repairs = [f"repairs {sentence}" for sentence in plan["repaired"]]
    stays = [f"cannot repair {sentence}" for sentence in plan["unrepaired"]]
    return [parts[0], *repairs, *stays, *parts[1:]]


def plan_status(plan: PlanView) -> int:
    """The exit status that tells a script whether every VM would get a place."""
    return DONE if plan["complete"] else VMS_STAYED


def decision_shown(decision: Decision) -> Shown:
    """Where it goes and why: the candidates by rank, and the other nodes by what speaks against them."""
    parts: list[str | Table] = [f"{decision['vm']}: {decision['reason']}"]
    if decision["degraded"]:
        parts.append(f"degraded: {decision['degraded']}")
    if decision["ranking"]:
        parts += ["", _ranking(decision)]
    if decision["rejections"]:
        rejections = Table(("rejected", "by", "because"), folding=("rejected", "because"))
        for nodes, plugin, reason in _grouped(decision["rejections"]):
            rejections.add(_listed(nodes), plugin, reason)
        parts += ["", rejections]
    return parts


def decision_status(decision: Decision) -> int:
    """The exit status that tells a script whether there is a place."""
    return DONE if decision["node"] else NO_CANDIDATE


def _ranking(decision: Decision) -> Table:
    """What the selector said of each candidate; of an expression, also the score by each of its selectors.

    Where rules gave points, they come first, as they do when the candidates are ordered.
    """
    said = decision["selector"]
    selectors = list(decision["ranking"][0].get("parts") or ())
    rules = ["rules"] if any(candidate.get("preference") for candidate in decision["ranking"]) else []
    numbers = (*rules, "score", said, *selectors)
    ranking = Table(("rank", "node", *numbers), right=("rank", *numbers))
    for rank, candidate in enumerate(decision["ranking"], start=1):
        shares = [f"{candidate['parts'][name]:.0f}" for name in selectors]
        points = [f"{candidate['preference']:+g}" for _ in rules]
        score, raw = f"{candidate['score']:.0f}", f"{candidate['raw']:g}"
        ranking.add(str(rank), candidate["node"], *points, score, raw, *shares)
    return ranking


def _grouped(rejections: Sequence[Rejection]) -> list[tuple[list[str], str, str]]:
    """Nodes with the same reason together, in the order of their first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for rejection in rejections:
        groups.setdefault((rejection["plugin"], rejection["reason"]), []).append(rejection["node"])
    return [(nodes, plugin, reason) for (plugin, reason), nodes in groups.items()]


def _listed(nodes: Sequence[str]) -> str:
    more = len(nodes) - NODES_IN_A_CELL
    return ",".join(nodes[:NODES_IN_A_CELL]) + (f" and {more} more" if more > 0 else "")


def capacity_shown(capacity: CapacityView, size: str) -> Shown:
    """Node by node whether the cluster would survive its loss, then who would not come back."""
    nodes = Table(("lost", "survivable", "stranded"), right=("stranded",))
    stranded = Table(("without", "vm", "would not come back"), folding=("would not come back",))
    for name, loss in capacity["nodes"].items():
        unsure = "" if loss["proven"] else ", as far as was searched"
        verdict = Cell("yes", "good") if loss["survivable"] else Cell(f"no{unsure}", "bad")
        nodes.add(name, verdict, str(len(loss["stranded"])))
        for vm in loss["stranded"]:
            stranded.add(name, vm["vm"], vm["reason"])
    parts: list[str | Table] = [_verdict(capacity), "", nodes]
    if stranded.rows:
        parts += ["", stranded]
    if capacity["fit"] is not None:
        parts += ["", f"room for {counted(capacity['fit'], 'more VM')} of {size}"]
    return parts


def _verdict(capacity: CapacityView) -> str:
    lost = [name for name, loss in capacity["nodes"].items() if not loss["survivable"]]
    if not lost:
        return "every VM would come back, whichever node is lost"
    vms = {vm["vm"] for name in lost for vm in capacity["nodes"][name]["stranded"]}
    return f"{counted(len(vms), 'VM')} would not come back if {_listed(lost)} were lost"


def capacity_status(capacity: CapacityView) -> int:
    """The exit status that tells a script whether a VM would be lost with its node."""
    return DONE if all(loss["survivable"] for loss in capacity["nodes"].values()) else NOT_SURVIVABLE
