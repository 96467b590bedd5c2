# SPDX-License-Identifier: Apache-2.0
"""vm_lifecycle: start, shut down, stop, restart and disable a VM.

Each sends what is wanted and comes back; with --wait it stays until the VM is at rest and says whether that is what
was wanted.
"""

from __future__ import annotations

import click

from pvc_cli.following import seconds_to_wait, wait_options
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.vm_outcomes import Ending, conclude, in_state

TIMEOUT_S = 600


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def start(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Start VM.

    On its node, or on another when that one cannot take it. A shutdown or restart under way is aborted: the guest is
    not terminated. A migration under way is cancelled.
    """
    _change(session, vm, {"state": "start"}, in_state("running"), seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def restart(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Shut VM down and start it again on the same node."""
    _change(session, vm, {"state": "restart"}, in_state("running"), seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def shutdown(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Ask the guest of VM to power off.

    It is terminated when its shutdown timeout is over; `pvc vm start` aborts the wait, `pvc vm stop` ends it.
    """
    _change(session, vm, {"state": "shutdown"}, in_state("stopped", "disabled"), seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def stop(session: Session, vm: str, wait: bool | None, timeout_s: float) -> None:
    """Terminate the guest of VM now, as if its power were pulled."""
    _change(session, vm, {"state": "stop"}, in_state("stopped", "disabled"), seconds_to_wait(wait, timeout_s))


@click.command()
@vm_argument
@click.option("-f", "--force", is_flag=True, help="Terminate the guest instead of asking it to power off.")
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def disable(session: Session, vm: str, force: bool, wait: bool | None, timeout_s: float) -> None:
    """Shut VM down and leave it alone.

    Nothing starts it again, autostart included, until `pvc vm start`.
    """
    body = {"state": "disable", "force": force}
    _change(session, vm, body, in_state("disabled"), seconds_to_wait(wait, timeout_s))


def _change(session: Session, vm: str, body: dict[str, object], ending: Ending, wait_s: float) -> None:
    name = resolve_vm(session, vm)
    session.going_on = f"the command may have reached the cluster, see `pvc vm info {name}`"
    answer = session.api.post("vm", name, "state", body=body)
    conclude(session, answer, ending, wait_s)
