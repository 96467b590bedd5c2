# SPDX-License-Identifier: Apache-2.0
"""vm_places: bring a VM to another node for a time or for good, take it home, and explain where it would go."""

from __future__ import annotations

from collections.abc import Callable

import click

from pvc_cli.following import seconds_to_wait, wait_options
from pvc_cli.output import Shown, emit
from pvc_cli.references import NodeReference, resolve_vm, vm_argument
from pvc_cli.session import F, Session, output_option, pass_session
from pvc_cli.tables import Table
from pvc_cli.views import Decision
from pvc_cli.vm_outcomes import Ending, arrived_at, conclude, running_on

TIMEOUT_S = 1800


def target_option(command: F) -> F:
    """--target, for commands that choose a node."""
    return click.option(
        "--target",
        metavar="NODE",
        default="",
        type=NodeReference(),
        show_default=False,
        help="Node to go to; refused when it is outside the limit or cannot take it.  [default: its selector chooses]",
    )(command)


@click.command()
@vm_argument
@target_option
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def migrate(session: Session, vm: str, target: str, wait: bool | None, timeout_s: float) -> None:
    """Migrate a running VM to another node for a time.

    It keeps its home: `pvc vm unmigrate` brings it back, `pvc vm start` cancels the migration while it goes on.
    """
    _go(session, vm, {"action": "migrate", "target": target}, running_on, seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@target_option
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def move(session: Session, vm: str, target: str, wait: bool | None, timeout_s: float) -> None:
    """Move VM to another node for good.

    That node is its home from then on. A running VM is migrated; one that is off only changes its node.
    """
    _go(session, vm, {"action": "move", "target": target}, arrived_at, seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def unmigrate(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Bring a migrated VM back to its home."""
    _go(session, vm, {"action": "unmigrate"}, running_on, seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@output_option
@pass_session
def explain(session: Session, vm: str) -> None:
    """Explain where VM would be placed now.

    The candidates by rank, and who rejected the other nodes and why. Nothing changes.
    """
    decision: Decision = session.api.get("vm", resolve_vm(session, vm), "placement")
    emit(session.output, decision, lambda: _explained(decision), lambda: [c["node"] for c in decision["ranking"]])


def _go(session: Session, vm: str, body: dict[str, object], ending: Callable[[str], Ending], wait_s: float) -> None:
    """Ask for a change of the node; it has come right when the VM is where the answer says it is going to."""
    name = resolve_vm(session, vm)
    session.going_on = f"the command may have reached the cluster, see `pvc vm info {name}`"
    answer = session.api.post("vm", name, "node", body=body)
    shown = answer.document["vm"]
    conclude(session, answer, ending(shown["target"] or shown["node"]), wait_s)


def _explained(decision: Decision) -> Shown:
    parts: list[str | Table] = [f"{decision['vm']}: {decision['reason']}"]
    if decision["degraded"]:
        parts.append(f"degraded: {decision['degraded']}")
    if decision["ranking"]:
        said = decision["selector"]
        ranking = Table(("rank", "node", "score", said), right=("rank", "score", said))
        for rank, candidate in enumerate(decision["ranking"], start=1):
            ranking.add(str(rank), candidate["node"], f"{candidate['score']:.0f}", f"{candidate['raw']:g}")
        parts += ["", ranking]
    if decision["rejections"]:
        rejections = Table(("rejected", "by", "because"), folding=("because",))
        for rejection in decision["rejections"]:
            rejections.add(rejection["node"], rejection["plugin"], rejection["reason"])
        parts += ["", rejections]
    return parts
