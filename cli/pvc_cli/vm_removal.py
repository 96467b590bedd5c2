# SPDX-License-Identifier: Apache-2.0
"""vm_removal: `pvc vm remove`: forget a VM and delete its volumes, after naming them."""

from __future__ import annotations

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit, warn
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.views import VmInfo
from pvc_cli.words import name_of, volume_title, whereabouts


@click.command()
@vm_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def remove(session: Session, vm: str, yes: bool) -> None:
    """Forget VM, which must be off, and delete its volumes.

    They are named before. What cannot be deleted is left and said; `pvc vm volume repair` tries again. To keep the
    volumes use `pvc vm undefine`.
    """
    view: VmInfo = session.api.get("vm", resolve_vm(session, vm))
    if not yes:
        volumes = ", ".join(volume_title(one) for one in view["volumes"]) or "no volumes"
        confirmed(f"{name_of(view)} {whereabouts(view)} and has {volumes}. Forget it and delete them?", yes, "remove")
    answer = session.api.request("DELETE", "vm", view["uuid"], parameters={"volumes": "delete"})
    emit(session.output, answer.document, lambda: str(answer.document["reason"]), lambda: [name_of(view)])
    warn(answer.document["warnings"])
