# SPDX-License-Identifier: Apache-2.0
"""vm_places: bring a VM to another node for a time or for good, take it home, and explain where it would go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pvc_cli.asking import SizeOfVm, ask, snapshot_option
from pvc_cli.exit_codes import DONE
from pvc_cli.following import seconds_to_wait, wait_options
from pvc_cli.metadata_options import names_in
from pvc_cli.output import emit
from pvc_cli.plan_tables import decision_shown, decision_status
from pvc_cli.planning import check_planning, plan_option, show_plan
from pvc_cli.references import NodeReference, SelectorReference, VmReference, resolve_vm, vm_argument
from pvc_cli.session import F, Session, output_option, pass_session
from pvc_cli.views import Decision
from pvc_cli.vm_outcomes import Ending, arrived_at, conclude, running_on
from pvc_core.errors import InvalidInput

if TYPE_CHECKING:
    from pvc_core.capacity import VmSize
    from pvc_core.questions import Questions

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


def planned_or_done(command: F) -> F:
    """--plan, --make-room and --snapshot, beside the options of doing it."""
    make_room = click.option(
        "--make-room", is_flag=True, help="With --plan: other running VMs may move so that this one fits."
    )
    return plan_option(make_room(snapshot_option(command)))


@click.command()
@vm_argument
@target_option
@planned_or_done
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def migrate(
    session: Session,
    vm: str,
    target: str,
    plan: bool,
    make_room: bool,
    snapshot_file: str,
    wait: bool | None,
    timeout_s: float,
) -> int:
    """Migrate a running VM to another node for a time.

    It keeps its home: `pvc vm unmigrate` brings it back, `pvc vm start` cancels the migration while it goes on.
    """
    if plan or make_room or snapshot_file:
        return _plan(session, vm, target, "migrate", plan, make_room, snapshot_file)
    _go(session, vm, {"action": "migrate", "target": target}, running_on, seconds_to_wait(wait, timeout_s))
    return DONE


@click.command()
@vm_argument
@target_option
@planned_or_done
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def move(
    session: Session,
    vm: str,
    target: str,
    plan: bool,
    make_room: bool,
    snapshot_file: str,
    wait: bool | None,
    timeout_s: float,
) -> int:
    """Move VM to another node for good.

    That node is its home from then on. A running VM is migrated; one that is off only changes its node.
    """
    if plan or make_room or snapshot_file:
        return _plan(session, vm, target, "move", plan, make_room, snapshot_file)
    _go(session, vm, {"action": "move", "target": target}, arrived_at, seconds_to_wait(wait, timeout_s))
    return DONE


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def unmigrate(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Bring a migrated VM back to its home."""
    _go(session, vm, {"action": "unmigrate"}, running_on, seconds_to_wait(wait, timeout_s))


@click.command()
@click.argument("vm", type=VmReference(), metavar="[VM]", default="", required=False)
@click.option(
    "--new",
    metavar="MEMORY,VCPUS",
    type=SizeOfVm(),
    show_default=False,
    help="Instead of VM: one that does not exist yet, of this size, for example 4096MiB,2.  [default: none]",
)
@click.option(
    "-l",
    "--node-limit",
    metavar="NODES",
    multiple=True,
    help="With --new: the nodes it may run on, separated by commas.  [default: any]",
)
@click.option(
    "-s",
    "--node-selector",
    metavar="SELECTOR",
    default="",
    type=SelectorReference(),
    show_default=False,
    help="With --new: what chooses its node, such as mem:2,load:1.  [default: the cluster's]",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="With --new: a tag that it has.  [default: none]")
@snapshot_option
@output_option
@pass_session
def explain(
    session: Session,
    vm: str,
    new: VmSize | None,
    node_limit: tuple[str, ...],
    node_selector: str,
    tags: tuple[str, ...],
    snapshot_file: str,
) -> int:
    """Explain where VM would be placed now.

    The candidates by rank, and who rejected the other nodes and why. Nothing changes. With --new: where a VM that does
    not exist yet would go. The exit status is 6 when no node can take it.
    """
    if bool(vm) == (new is not None):
        raise click.UsageError("name a VM, or give the size of one that does not exist with --new")
    if new is None and (node_limit or node_selector or tags):
        raise click.UsageError("--node-limit, --node-selector and --tag go with --new")
    decision: Decision
    if new is None:
        name = vm if snapshot_file else resolve_vm(session, vm)
        decision = ask(session, snapshot_file, lambda asked: asked.explain(name), "vm", name, "placement")
    else:
        decision = _explain_new(session, snapshot_file, new, names_in(node_limit), node_selector, names_in(tags))
    names = [candidate["node"] for candidate in decision["ranking"]]
    emit(session.output, decision, lambda: decision_shown(decision), lambda: names)
    return decision_status(decision)


def _explain_new(
    session: Session, snapshot_file: str, size: VmSize, limit: list[str], selector: str, tags: list[str]
) -> Decision:
    def question(asked: Questions) -> object:
        from pvc_core.model import VmMetadata

        metadata = VmMetadata(node_limit=tuple(limit), node_selector=selector, tags=tuple(tags))
        return asked.explain_new(size, metadata)

    given = {"node_limit": ",".join(limit), "node_selector": selector, "tags": ",".join(tags)}
    parameters = {"memory_mib": str(size.memory_mib), "vcpus": str(size.vcpus)}
    parameters |= {name: value for name, value in given.items() if value}
    found: Decision = ask(session, snapshot_file, question, "cluster", "placement", parameters=parameters)
    return found


def _plan(session: Session, vm: str, target: str, action: str, plan: bool, make_room: bool, snapshot_file: str) -> int:
    """Show what the migration or move would do."""
    check_planning(plan, snapshot_file)
    if make_room and not plan:
        raise InvalidInput("--make-room", "only goes with --plan; `pvc cluster apply` then carries the plan out")
    name = vm if snapshot_file else resolve_vm(session, vm)
    parameters = {"action": action, "target": target, "make_room": "true" if make_room else ""}
    return show_plan(
        session,
        snapshot_file,
        lambda asked: asked.migrate(name, target, permanent=action == "move", make_room=make_room),
        "vm",
        name,
        "plan",
        parameters={key: value for key, value in parameters.items() if value},
    )


def _go(session: Session, vm: str, body: dict[str, object], ending: Callable[[str], Ending], wait_s: float) -> None:
    """Ask for a change of the node; it has come right when the VM is where the answer says it is going to."""
    name = resolve_vm(session, vm)
    session.going_on = f"the command may have reached the cluster, see `pvc vm info {name}`"
    answer = session.api.post("vm", name, "node", body=body)
    shown = answer.document["vm"]
    conclude(session, answer, ending(shown["target"] or shown["node"]), wait_s)
