# SPDX-License-Identifier: Apache-2.0
"""vm_volumes: `pvc vm volume`: which volumes of which storage are the disks of a VM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from pvc_cli.client import Answer
from pvc_cli.definition_files import confirmed
from pvc_cli.following import follow, seconds_to_wait, wait_options
from pvc_cli.output import emit, note
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import COPY_S
from pvc_cli.tables import Cell, Table
from pvc_cli.views import UnfinishedVolume, VmVolume
from pvc_cli.words import NOTHING, counted, volume_title
from pvc_core.errors import InvalidInput
from pvc_core.sizes import parse_size

TIMEOUT_S = 120
MOOD_OF_STATE = {"off": "quiet", "attached": "good", "attaching": "busy", "leaving": "warning"}


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
@click.option(
    "--device",
    metavar="DEVICE",
    default="",
    show_default=False,
    help="What the guest sees: vda, vdb ...  [default: first free]",
)
@click.option(
    "--size",
    metavar="SIZE",
    default="",
    show_default=False,
    help="Make it, this large, such as 10GiB.  [default: it is there]",
)
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def add(
    session: Session,
    /,
    vm: str,
    backend: str,
    volume_name: str,
    device: str,
    size: str,
    wait: bool | None,
    timeout_s: float,
) -> None:
    """Make volume POOL/NAME of storage BACKEND a disk of VM.

    With --size the volume is made. A volume is a disk of one VM at most. A guest that runs gets it as well.

    For example: pvc vm volume add web1 ceph vms/web1-data --size 10GiB
    """
    pool, slash, name = volume_name.rpartition("/")
    if not (pool and slash and name):
        raise InvalidInput("volume", "must be given as POOL/NAME", volume_name)
    body = {
        "backend": backend,
        "pool": pool,
        "name": name,
        "device": device,
        "size_bytes": parse_size(size) if size else None,
    }
    answer = session.api.post("vm", resolve_vm(session, vm), "volume", body=body)
    _conclude(session, answer, seconds_to_wait(wait, timeout_s))


@volume.command()
@vm_argument
@click.argument("device")
@click.option("--delete", is_flag=True, help="Delete the volume as well, with what it holds.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def remove(
    session: Session, vm: str, device: str, delete: bool, yes: bool, wait: bool | None, timeout_s: float
) -> None:
    """Let DEVICE be a disk of VM no more; its volume stays.

    A guest that runs has to let go of it, so unmount it there first. Until then no other VM gets the volume. With
    --delete the volume is deleted; that is asked before.
    """
    name = resolve_vm(session, vm)
    if delete and not yes:
        volumes: list[VmVolume] = session.api.get("vm", name, "volume")["volumes"]
        for one in (one for one in volumes if one["device"] == device):
            confirmed(f"Delete {volume_title(one)}, {device} of {name}, with what it holds?", yes, "remove")
    parameters = {"delete": "true"} if delete else {}
    answer = session.api.request("DELETE", "vm", name, "volume", device, parameters=parameters)
    _conclude(session, answer, seconds_to_wait(wait, timeout_s))


@volume.command()
@vm_argument
@click.argument("device")
@click.argument("new_name", metavar="NEW-NAME")
@output_option
@pass_session
def rename(session: Session, vm: str, device: str, new_name: str) -> None:
    """Give the volume that is DEVICE of VM another name in its pool.

    In the storage and in PVC, or not at all. The VM has to be off, and does not start meanwhile; one with snapshots,
    which know the volume by its name, is refused.
    """
    path = ("vm", resolve_vm(session, vm), "volume", device, "rename")
    answer = replace(session.api, patience_s=COPY_S).post(*path, body={"name": new_name})
    _conclude(session, answer, 0)


@volume.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
@pass_session
def repair(session: Session, yes: bool) -> None:
    """Bring to an end what was begun with volumes and snapshots.

    A command that dies half-way leaves a note of what it was about: a volume that is to be deleted, or was being made,
    a snapshot that was being taken or gone back to. This lists all of them, asks, and does what stands there.
    """
    document = session.api.get("cluster", "volume-repair")
    found: list[UnfinishedVolume] = document["volumes"]
    if not found:
        emit(session.output, document, lambda: "nothing is left undone", lambda: [])
        return
    for one in found:
        click.echo(f"{one['volume']} ({one['vm']}): {one['problem']}; {one['remedy']}", err=True)
    confirmed(f"Do that with {counted(len(found), 'thing')}?", yes, "repair")
    patient = replace(session.api, patience_s=COPY_S)
    document = patient.post("cluster", "volume-repair", body={}).document
    left: list[UnfinishedVolume] = document["volumes"]
    words = [f"{one['volume']}: {one['problem']}" for one in left] or ["done"]
    emit(session.output, document, lambda: "\n".join(words), lambda: [one["volume"] for one in left])


def _conclude(session: Session, answer: Answer, wait_s: float) -> None:
    """Print the outcome, after the guest has followed when that is waited for."""
    outcome: dict[str, Any] = answer.document
    shown_by = f"pvc vm volume list {outcome['vm']}"
    if outcome["watch"] and wait_s:
        waited_for = f"the guest of {outcome['vm']} to follow"
        follow(session, outcome["watch"], waited_for, shown_by, wait_s, _describe)
        outcome = {**outcome, "watch": ""}
    emit(session.output, outcome, lambda: str(outcome["reason"]), lambda: [str(outcome["volume"]["device"])])
    if outcome["watch"]:
        note(f"it goes on, see `{shown_by}`")


def _describe(document: dict[str, Any]) -> tuple[str, str]:
    volumes: list[VmVolume] = document["volumes"]
    waiting = [
        f"{one['device']} is {one['state']}" + (f": {one['problem']}" if one["problem"] else "")
        for one in volumes
        if one["state"] in ("attaching", "leaving")
    ]
    line = f"{document['vm']}: {'; '.join(waiting)}"
    return line, line


def _table(volumes: list[VmVolume]) -> Table:
    table = Table(("device", "backend", "pool", "name", "node", "state", "problem"), folding=("problem",))
    for one in volumes:
        table.add(
            one["device"],
            one["backend"],
            one["pool"],
            one["name"],
            one["node"] or NOTHING,
            Cell(one["state"], MOOD_OF_STATE[one["state"]]),
            Cell(one["problem"], "warning") if one["problem"] else NOTHING,
        )
    return table
