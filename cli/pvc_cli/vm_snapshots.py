# SPDX-License-Identifier: Apache-2.0
"""vm_snapshots: `pvc vm snapshot`: what a VM was, with all its volumes at one moment, and the way back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.following import follow, seconds_to_wait, wait_options
from pvc_cli.output import emit, note, warn
from pvc_cli.references import resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import COPY_S, yes_option
from pvc_cli.tables import Cell, Table
from pvc_cli.views import SnapshotVolume, VmSnapshot
from pvc_cli.words import yes_no
from pvc_core.errors import Refused
from pvc_core.sizes import size_words

TIMEOUT_S = 120
MOOD_OF_STATE = {"ready": "good", "creating": "busy", "rolling-back": "busy", "removing": "warning"}
CONSISTENCY = {
    "": "not known yet",
    "off": "the VM was off",
    "frozen": "the guest had its file systems frozen",
    "crash": "as after a power cut",
}


@click.group()
def snapshot() -> None:
    """Snapshots of a VM: what it was, with all its volumes."""


name_argument = click.argument("name")


@snapshot.command("list")
@vm_argument
@output_option
@pass_session
def list_(session: Session, vm: str) -> None:
    """List the snapshots of VM, the oldest first."""
    document = session.api.get("vm", resolve_vm(session, vm), "snapshot")
    found: list[VmSnapshot] = document["snapshots"]
    none = f"{document['vm']} has no snapshots; take one with `pvc vm snapshot add`"
    emit(session.output, document, lambda: _table(found) if found else none, lambda: [one["name"] for one in found])
    if document["problem"]:
        note(f"the one that was to be taken last is not there: {document['problem']}")


@snapshot.command()
@vm_argument
@name_argument
@output_option
@pass_session
def show(session: Session, vm: str, name: str) -> None:
    """Show snapshot NAME of VM and its volumes.

    With -o json also the definition and the metadata that it would put back.
    """
    document = session.api.get("vm", resolve_vm(session, vm), "snapshot", name)
    taken = "made automatically" if document["automatic"] else "made by a person"
    about = f"{name}: {document['state']}, of {document['at']}; {_consistency(document)}; {taken}"
    emit(session.output, document, lambda: [about, _volumes(document)], lambda: [name])


@snapshot.command()
@vm_argument
@click.argument("name", required=False, default="")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(1, 100),
    help="Make it automatic, and keep the newest N of those.  [default: not automatic]",
)
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def add(session: Session, vm: str, name: str, keep: int | None, wait: bool | None, timeout_s: float) -> None:
    """Remember as NAME what VM is now, with all its volumes.

    All of them at one moment: a guest that runs is frozen by its agent until then, or, without one, its processors
    are stopped. Without NAME it is called after the time. With --keep older automatic snapshots are removed, never
    those made without it.

    For example: pvc vm snapshot add web1 before-upgrade --wait
    """
    body = {"name": name, "keep": keep or 0}
    patient = replace(session.api, patience_s=COPY_S)
    outcome: dict[str, Any] = patient.post("vm", resolve_vm(session, vm), "snapshot", body=body).document
    made, wait_s = outcome["snapshot"]["name"], seconds_to_wait(wait, timeout_s)
    shown_by = f"pvc vm snapshot list {outcome['vm']}"
    if outcome["watch"] and wait_s:
        document = follow(session, outcome["watch"], f"snapshot {made}", shown_by, wait_s, _describe)
        there = [one for one in document["snapshots"] if one["name"] == made]
        if not there:
            raise Refused(f"snapshot {made} of {outcome['vm']}", f"is not taken: {document['problem']}")
        reason = f"snapshot {made} of {outcome['vm']} is taken: {_consistency(there[0])}"
        outcome = {**outcome, "snapshot": there[0], "reason": reason, "watch": ""}
    emit(session.output, outcome, lambda: str(outcome["reason"]), lambda: [made])
    warn(outcome["warnings"])
    if outcome["watch"]:
        note(f"it goes on, see `{shown_by}`")


@snapshot.command()
@vm_argument
@name_argument
@yes_option
@output_option
@pass_session
def rollback(session: Session, vm: str, name: str, yes: bool) -> None:
    """Let VM, which must be off, be what it was at snapshot NAME.

    Its volumes hold what they held then, and what they hold now is lost; its definition and metadata are put back. It
    keeps its name. Until all of that is done it does not start.
    """
    vm = resolve_vm(session, vm)
    confirmed(f"Take {vm} back to {name}, and lose what its volumes hold now?", yes, "rollback")
    patient = replace(session.api, patience_s=COPY_S)
    document = patient.post("vm", vm, "snapshot", name, "rollback", body={}).document
    emit(session.output, document, lambda: str(document["reason"]), lambda: [name])


@snapshot.command()
@vm_argument
@name_argument
@yes_option
@output_option
@pass_session
def remove(session: Session, vm: str, name: str, yes: bool) -> None:
    """Forget snapshot NAME of VM; one being taken is called off."""
    vm = resolve_vm(session, vm)
    confirmed(f"Remove snapshot {name} of {vm}?", yes, "remove")
    patient = replace(session.api, patience_s=COPY_S)
    document = patient.request("DELETE", "vm", vm, "snapshot", name).document
    emit(session.output, document, lambda: str(document["reason"]), lambda: [name])


def _describe(document: dict[str, Any]) -> tuple[str, str]:
    line = f"{document['vm']}: its node takes the snapshot"
    return line, line


def _consistency(one: VmSnapshot) -> str:
    return CONSISTENCY.get(one["consistency"], one["consistency"])


def _table(found: list[VmSnapshot]) -> Table:
    table = Table(("name", "at", "state", "volumes", "consistency", "automatic"), right=("volumes",))
    for one in found:
        state = Cell(one["state"], MOOD_OF_STATE[one["state"]])
        volumes = str(len(one["volumes"]))
        table.add(one["name"], one["at"], state, volumes, _consistency(one), yes_no(one["automatic"]))
    return table


def _volumes(one: VmSnapshot) -> Table:
    volumes: list[SnapshotVolume] = one["volumes"]
    table = Table(("device", "backend", "pool", "name", "size", "snapshot"), right=("size",))
    for each in volumes:
        size = size_words(each["size_bytes"])
        table.add(each["device"], each["backend"], each["pool"], each["name"], size, each["snapshot"])
    return table
