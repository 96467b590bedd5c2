# SPDX-License-Identifier: Apache-2.0
"""node_drain: drain a node and take it back, and show how far that is: how many of how many, what goes where.

The end is a report: what stayed and why, what is held until the node returns. VMs that stayed are not a failure of
the drain but a script has to know, so they have an exit status of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pvc_cli.asking import snapshot_option
from pvc_cli.exit_codes import DONE, VMS_STAYED
from pvc_cli.following import follow, seconds_to_wait, wait_options
from pvc_cli.output import emit, note
from pvc_cli.planning import check_planning, plan_option, show_plan
from pvc_cli.problems import EndedOtherwise
from pvc_cli.references import node_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.views import DrainView, MovingVm, NodeView, VmView
from pvc_cli.words import counted, name_of

TIMEOUT_S = 3600


@click.command()
@node_argument
@plan_option
@snapshot_option
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def flush(session: Session, node: str, plan: bool, snapshot_file: str, wait: bool | None, timeout_s: float) -> int:
    """Drain NODE: its VMs migrate to other nodes.

    Each within its limit, where its selector sends it. What has no other place is shut down and held until NODE is
    ready again, unless its recovery policy says otherwise. With --wait the exit status is 10 when VMs stayed on NODE.
    `pvc node ready` breaks a flush off. --plan shows what would become of each VM and changes nothing.
    """
    if plan or snapshot_file:
        check_planning(plan, snapshot_file)
        return show_plan(session, snapshot_file, lambda questions: questions.flush(node), "node", node, "plan")
    return _drain(session, node, "flush", "flushed", seconds_to_wait(wait, timeout_s))


@click.command()
@node_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def ready(session: Session, node: str, wait: bool | None, timeout_s: float) -> int:
    """Take NODE back into service: its VMs come home.

    Held VMs and stopped ones with autostart start; disabled ones do not.
    With --wait the exit status is 10 when VMs could not come back.
    """
    return _drain(session, node, "ready", "ready", seconds_to_wait(wait, timeout_s))


def _drain(session: Session, node: str, state: str, end: str, wait_s: float) -> int:
    shown_by = f"pvc node info {node}"
    session.going_on = f"the command may have reached the cluster, see `{shown_by}`"
    outcome: dict[str, Any] = session.api.post("node", node, "domain-state", body={"state": state}).document
    if wait_s and outcome["watch"]:
        document = follow(session, outcome["watch"], f"{node} to be {end}", shown_by, wait_s, _describe)
        view: NodeView = document["node"]
        if view["mode"] != end:
            raise EndedOtherwise(node, end, view["mode"], view["reason"])
        outcome = {**outcome, "node": view, "reason": view["reason"], "watch": ""}
    emit(session.output, outcome, lambda: "\n".join(_report(session, outcome)), lambda: [node])
    if outcome["watch"]:
        note(f"it goes on, see `{shown_by}`")
    drain: DrainView | None = outcome["node"]["drain"]
    return VMS_STAYED if wait_s and drain and drain["stayed"] else DONE


def _report(session: Session, outcome: dict[str, Any]) -> list[str]:
    """How it ended, or that it has begun, and the VMs that are not where they were meant to be."""
    view: NodeView = outcome["node"]
    lines = [f"{view['name']} is {view['mode']}: {outcome['reason']}"]
    drain = view["drain"]
    if outcome["watch"] or drain is None:
        return lines
    lines[0] += f" ({_done_of(drain)})"
    lines += [f"  {stayed['vm']} stayed: {stayed['reason']}" for stayed in drain["stayed"]]
    if view["mode"] == "flushed":
        vms: list[VmView] = session.api.get("vm")["vms"]
        held = [vm for vm in vms if vm["held"] and vm["node"] == view["name"]]
        lines += [f"  {name_of(vm)} is held until {view['name']} is ready: {vm['reason']}" for vm in held]
    return lines


def _describe(document: dict[str, Any]) -> tuple[str, str]:
    """How far the drain is, and without the percentages, which are no news of their own."""
    view: NodeView = document["node"]
    drain = view["drain"]
    if drain is None:
        return f"{view['name']} is {view['mode']}", ""

    def line(one: Callable[[MovingVm], str]) -> str:
        doing = [*map(one, drain["moving"]), *(f"{vm['vm']} waits" for vm in drain["waiting"])]
        doing += [f"{vm['vm']} stayed ({vm['reason']})" for vm in drain["stayed"]]
        return f"{view['name']} is {view['mode']}, {_done_of(drain)}" + (f": {', '.join(doing)}" if doing else "")

    return line(_with_percent), line(_without_percent)


def _done_of(drain: DrainView) -> str:
    done = drain["total"] - drain["remaining"] - len(drain["stayed"])
    return f"{done} of {counted(drain['total'], 'VM')} done"


def _without_percent(vm: MovingVm) -> str:
    if vm["state"] == "migrating":
        return f"{vm['vm']} -> {vm['target']}"
    return f"{vm['vm']} {vm['state']}"


def _with_percent(vm: MovingVm) -> str:
    percent = "" if vm["progress_pct"] is None else f" {vm['progress_pct']}%"
    return f"{_without_percent(vm)}{percent}"
