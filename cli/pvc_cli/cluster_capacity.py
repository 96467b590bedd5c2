# SPDX-License-Identifier: Apache-2.0
"""cluster_capacity: what the cluster can bear: the loss of each node, and more VMs; and the cluster as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pvc_cli.asking import SizeOfVm, ask, snapshot_option
from pvc_cli.output import Output, emit
from pvc_cli.plan_tables import capacity_shown, capacity_status
from pvc_cli.plan_views import CapacityView
from pvc_cli.references import NodeReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.words import memory

if TYPE_CHECKING:
    from pvc_core.capacity import VmSize


@click.command()
@click.option(
    "--fit",
    metavar="MEMORY,VCPUS",
    type=SizeOfVm(),
    show_default=False,
    help="Say also how many more VMs of this size fit, for example 4096MiB,2.  [default: not asked]",
)
@click.option(
    "--node",
    metavar="NODE",
    default="",
    type=NodeReference(),
    show_default=False,
    help="Look at the loss of this node only.  [default: each in turn]",
)
@snapshot_option
@output_option
@pass_session
def capacity(session: Session, fit: VmSize | None, node: str, snapshot_file: str) -> int:
    """Show which VMs would not come back if a node were lost.

    The loss of each node is played through the placement of all its VMs, limits included. The exit status is 11 when
    a VM would not come back.
    """
    parameters = {"node": node} if node else {}
    if fit is not None:
        parameters |= {"fit_memory_mib": str(fit.memory_mib), "fit_vcpus": str(fit.vcpus)}
    found: CapacityView = ask(
        session,
        snapshot_file,
        lambda questions: questions.capacity(fit, node),
        "cluster",
        "capacity",
        parameters=parameters,
    )
    size = f"{memory(fit.memory_mib)} and {fit.vcpus} vCPUs" if fit else ""
    stranding = [name for name, loss in found["nodes"].items() if not loss["survivable"]]
    emit(session.output, found, lambda: capacity_shown(found, size), lambda: stranding)
    return capacity_status(found)


@click.command()
@output_option
@pass_session
def snapshot(session: Session) -> None:
    """Write the cluster as a file that can be planned with.

    It holds what placements are made from, by name: nodes, VMs, settings; no UUIDs, definitions or addresses. Commands
    with --snapshot work on it, without a cluster.
    """
    document = session.api.get("cluster", "snapshot")
    form = Output.YAML if session.output is Output.YAML else Output.JSON
    emit(form, document, str)
