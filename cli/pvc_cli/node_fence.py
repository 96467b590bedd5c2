# SPDX-License-Identifier: Apache-2.0
"""node_fence: deal with a node whose daemon is gone: have it switched off, or say that it is off."""

from __future__ import annotations

from typing import Any

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit
from pvc_cli.references import node_argument
from pvc_cli.session import Session, output_option, pass_session


@click.command()
@node_argument
@output_option
@pass_session
def fence(session: Session, node: str) -> None:
    """Fence NODE: it is switched off and its VMs start elsewhere.

    A node that is lost while VMs are to run there is fenced without being told. This is for one whose daemon was
    stopped on purpose and that died then. Nothing is recovered before it is certain that NODE is off.
    """
    _send(session, node, is_confirmed=False)


@click.command(name="confirm-fenced")
@node_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def confirm_fenced(session: Session, node: str, yes: bool) -> None:
    """Confirm that NODE is off: its VMs start elsewhere.

    Be sure. If it still runs, or comes back without having been off, its guests run twice and destroy their disks.
    """
    confirmed(f"Is {node} switched off, and are you certain of it?", yes, "pvc node confirm-fenced")
    _send(session, node, is_confirmed=True)


def _send(session: Session, node: str, *, is_confirmed: bool) -> None:
    session.going_on = f"the command may have reached the cluster, see `pvc node info {node}`"
    outcome: dict[str, Any] = session.api.post("node", node, "fence", body={"confirmed": is_confirmed}).document
    emit(session.output, outcome, lambda: f"{node}: {outcome['reason']}", lambda: [node])
