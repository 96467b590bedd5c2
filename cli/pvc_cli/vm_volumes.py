# SPDX-License-Identifier: Apache-2.0
"""vm_volumes: `pvc vm volume`: which volumes of which storage are the disks of a VM."""

from __future__ import annotations

from typing import Any

import click

from pvc_cli.output import emit
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Table
from pvc_cli.views import VmVolume
from pvc_cli.words import NOTHING
from pvc_core.errors import InvalidInput


@click.group()
def volume() -> None:
    """Volumes of a VM: which ones are its disks."""


@volume.command("list")
@vm_argument
@output_option
@pass_session
def list_(session: Session, vm: str) -> None:
    """List the volumes of VM.

    What its definition has of its own besides is not among them.
    """
    document = session.api.get("vm", resolve_vm(session, vm), "volume")
    volumes: list[VmVolume] = document["volumes"]
    none = f"{document['vm']} has no volumes; add one with `pvc vm volume add`"
    emit(
        session.output,
        document,
        lambda: _table(volumes) if volumes else none,
        lambda: [one["device"] for one in volumes],
    )


@volume.command()
@vm_argument
@click.argument("backend")
@click.argument("volume_name", metavar="POOL/NAME")
@click.option("--device", metavar="DEVICE", default="", help="What the guest sees: vda, vdb ...  [default: first free]")
@output_option
@pass_session
def add(session: Session, /, vm: str, backend: str, volume_name: str, device: str) -> None:
    """Make volume POOL/NAME of storage BACKEND a disk of VM.

    A volume is a disk of one VM at most. A guest that runs has it from its next start.

    For example: pvc vm volume add web1 ceph vms/web1-data --device vdb
    """
    pool, slash, name = volume_name.rpartition("/")
    if not (pool and slash and name):
        raise InvalidInput("volume", "must be given as POOL/NAME", volume_name)
    body = {"backend": backend, "pool": pool, "name": name, "device": device}
    outcome: dict[str, Any] = session.api.post("vm", resolve_vm(session, vm), "volume", body=body).document
    emit(session.output, outcome, lambda: outcome["reason"], lambda: [str(outcome["volume"]["device"])])


@volume.command()
@vm_argument
@click.argument("device")
@output_option
@pass_session
def remove(session: Session, vm: str, device: str) -> None:
    """Let DEVICE be a disk of VM no more; its volume stays.

    A guest that runs has it until it ends.
    """
    outcome = session.api.request("DELETE", "vm", resolve_vm(session, vm), "volume", device).document
    emit(session.output, outcome, lambda: str(outcome["reason"]), lambda: [device])


def _table(volumes: list[VmVolume]) -> Table:
    table = Table(("device", "backend", "pool", "name", "node"), usual=(NOTHING,))
    for one in volumes:
        table.add(one["device"], one["backend"], one["pool"], one["name"], one["node"] or NOTHING)
    return table
