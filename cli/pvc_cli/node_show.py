# SPDX-License-Identifier: Apache-2.0
"""node_show: look at nodes: all of them in a table, or one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pvc_cli.output import emit
from pvc_cli.references import node_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import NodeView, PauseView
from pvc_cli.words import MOOD_OF_LIVENESS, MOOD_OF_MODE, NOTHING, memory, memory_of, node_problems, until, yes_no


@click.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the nodes.

    MEMORY is used of total, as the node reports it; VCPUS is what its VMs have, of its physical cores; LOAD is the
    1-minute load.
    """
    answer: dict[str, Any] = session.api.get("node")
    nodes: list[NodeView] = answer["nodes"]
    none = "no nodes; start `pvc-node` on a hypervisor"
    emit(
        session.output,
        answer,
        lambda: [*_pause_line(answer.get("pause")), node_table(nodes) if nodes else none],
        lambda: [node["name"] for node in nodes],
    )


@click.command()
@node_argument
@output_option
@pass_session
def info(session: Session, node: str) -> None:
    """Show everything that is known of NODE.

    Also how its flush or ready is going, or went.
    """
    view: NodeView = session.api.get("node", node)
    emit(session.output, view, lambda: facts_table(_facts(view)), lambda: [view["name"]])


def _pause_line(pause: PauseView | None) -> list[str]:
    return [f"the cluster is in maintenance {until(pause)}: no node is fenced", ""] if pause else []


def node_table(nodes: Iterable[NodeView]) -> Table:
    """The table of `pvc node list`."""
    table = Table(
        ("name", "daemon", "mode", "vms", "memory", "vcpus", "load", "problems"),
        right=("vms", "memory", "vcpus", "load"),
        folding=("problems",),
    )
    for node in nodes:
        problems = ", ".join(node_problems(node))
        table.add(
            node["name"],
            Cell(node["liveness"], MOOD_OF_LIVENESS.get(node["liveness"], "")),
            Cell(node["mode"], MOOD_OF_MODE.get(node["mode"], "")),
            str(node["vms"]),
            memory_of(node["memory_total_mib"] - node["memory_available_mib"], node["memory_total_mib"]),
            f"{node['vcpus_reserved']}/{node['cores']}",
            f"{node['load_1m']:.2f}",
            Cell(problems, "warning") if problems else NOTHING,
        )
    return table


def _facts(node: NodeView) -> dict[str, str]:
    """Label to value, what is usual left out."""
    used_mib = node["memory_total_mib"] - node["memory_available_mib"]
    facts = {
        "name": node["name"],
        "daemon": node["liveness"] + (f", version {node['daemon_version']}" if node["daemon_version"] else ""),
        "mode": node["mode"],
        "reason": node["reason"],
        "since": node["changed_at"],
        "problems": ", ".join(node_problems(node)) or "none",
        "vms": str(node["vms"]),
        "memory": f"{memory(used_mib)} used, {memory(node['memory_reserved_mib'])} reserved for VMs, "
        f"{memory(node['memory_total_mib'])} in all",
        "vcpus": f"{node['vcpus_reserved']} for VMs on {node['cores']} cores",
        "load": f"{node['load_1m']:.2f} over 1 minute",
        "hypervisor": f"{node['hypervisor']} {node['hypervisor_version']}".strip(),
        "address": node["address"],
        "watchdog": f"armed: off {node['watchdog_s']:g} s after it has lost the store" if node["watchdog_s"] else "",
        "coordinator": yes_no(node["coordinator"]),
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(node["labels"].items())),
        "unknown domains": ", ".join(sorted(node["unknown_domains"].values())),
    }
    if node["pause"]:
        facts["maintenance"] = until(node["pause"])
    fence = node["fence"]
    if fence:
        facts["fence"] = f"{fence['step']}: {fence['evidence'] or fence['problem'] or fence['reason']}"
    drain = node["drain"]
    if drain:
        facts["drain"] = f"{drain['total'] - drain['remaining'] - len(drain['stayed'])} of {drain['total']} VMs done"
        facts |= {f"  {vm['vm']}": f"{vm['state']} {vm['target']}".strip() for vm in drain["moving"]}
        facts |= {f"  {vm['vm']}": f"waits: {vm['reason']}" for vm in drain["waiting"]}
        facts |= {f"  {vm['vm']}": f"stayed: {vm['reason']}" for vm in drain["stayed"]}
    return {label: value for label, value in facts.items() if value}
