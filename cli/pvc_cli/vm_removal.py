# SPDX-License-Identifier: Apache-2.0
"""vm_removal: `pvc vm remove`: forget a VM and delete its snapshots and volumes, after naming them."""

from __future__ import annotations

from dataclasses import replace

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit, warn
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import COPY_S
from pvc_cli.views import VmInfo, VmSnapshot
from pvc_cli.words import listed, name_of, volume_title, whereabouts


@click.command()
@vm_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def remove(session: Session, vm: str, yes: bool) -> None:
    """Forget VM, which must be off, its volumes and snapshots.

    They are named before, and deleted. What cannot be is left and said; `pvc vm volume repair` tries again. To keep the
    volumes use `pvc vm undefine`.
    """
    view: VmInfo = session.api.get("vm", resolve_vm(session, vm))
    if not yes:
        volumes = ", ".join(volume_title(one) for one in view["volumes"]) or "no volumes"
        found: list[VmSnapshot] = session.api.get("vm", view["uuid"], "snapshot")["snapshots"]
        snapshots = f" and the snapshots {listed([one['name'] for one in found])}" if found else ""
        has = f"{name_of(view)} {whereabouts(view)} and has {volumes}{snapshots}"
        confirmed(f"{has}. Forget it and delete them?", yes, "remove")
    answer = replace(session.api, patience_s=COPY_S).request(
        "DELETE", "vm", view["uuid"], parameters={"volumes": "delete"}
    )
    emit(session.output, answer.document, lambda: str(answer.document["reason"]), lambda: [name_of(view)])
    warn(answer.document["warnings"])
