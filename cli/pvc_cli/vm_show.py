# SPDX-License-Identifier: Apache-2.0
"""vm_show: look at VMs: all of them in a table, or one with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import click

from pvc_cli.metadata_options import METADATA_FIELDS, names_in
from pvc_cli.output import emit
from pvc_cli.references import NodeReference, resolve_vm, vm_argument
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.views import VmInfo, VmRule, VmView, VmVolume
from pvc_cli.vm_definition import metadata_value
from pvc_cli.words import MOOD_OF_STATE, NOTHING, listed, memory, name_of, vm_notes, volume_title, yes_no


@click.command("list")
@click.argument("name_glob", metavar="[NAME-GLOB]", required=False, default="*")
@click.option(
    "--node",
    "nodes",
    metavar="NODE",
    multiple=True,
    type=NodeReference(),
    help="Only VMs on this node; repeatable.  [default: all]",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(MOOD_OF_STATE)),
    help="Only VMs in this state; repeatable.  [default: all]",
)
@click.option(
    "--tag",
    "tags",
    metavar="TAG",
    multiple=True,
    help="Only VMs with this tag; repeatable, all must be there.  [default: all]",
)
@click.option("--limit-violated", is_flag=True, help="Only VMs on a node outside their limit.")
@output_option
@pass_session
def list_(
    session: Session,
    name_glob: str,
    nodes: tuple[str, ...],
    states: tuple[str, ...],
    tags: tuple[str, ...],
    limit_violated: bool,
) -> None:
    """List VMs.

    All, or those whose name matches NAME-GLOB, such as 'web*'. HOME is shown where it differs from NODE. NOTE says
    what is unusual: held, kept off (`pvc vm info` says by what), outside limit, broken record, or where a VM is
    migrating to.
    """
    wanted_nodes, wanted_tags = names_in(nodes), set(names_in(tags))
    every: list[VmView] = session.api.get("vm")["vms"]
    vms = [
        vm
        for vm in every
        if fnmatchcase(name_of(vm), name_glob)
        and (not wanted_nodes or vm["node"] in wanted_nodes)
        and (not states or vm["state"] in states)
        and wanted_tags <= set(vm["tags"])
        and (vm["limit_violated"] or not limit_violated)
    ]
    none = "no VM matches" if every else "no VMs; define one with `pvc vm define FILE`"
    emit(
        session.output,
        {"vms": vms, "total": len(vms)},
        lambda: vm_table(vms) if vms else none,
        lambda: map(name_of, vms),
    )


@click.command()
@vm_argument
@output_option
@pass_session
def info(session: Session, vm: str) -> None:
    """Show everything that is known of VM."""
    view: VmInfo = session.api.get("vm", resolve_vm(session, vm))
    emit(session.output, view, lambda: facts_table(_facts(view)), lambda: [name_of(view)])


def vm_table(vms: Iterable[VmView]) -> Table:
    """The table of `pvc vm list`."""
    table = Table(
        ("name", "state", "node", "home", "memory", "vcpus", "limit", "selector", "auto", "note"),
        right=("memory", "vcpus"),
        folding=("limit", "note"),
        usual=(NOTHING, "any"),
    )
    for vm in vms:
        notes = vm_notes(vm)
        table.add(
            name_of(vm),
            Cell(vm["state"], MOOD_OF_STATE.get(vm["state"], "")),
            vm["node"] or NOTHING,
            Cell(vm["home"], "warning") if vm["home"] != vm["node"] else NOTHING,
            memory(vm["memory_mib"]),
            str(vm["vcpus"]),
            listed(vm["node_limit"], "any"),
            vm["node_selector"] or "default",
            yes_no(vm["node_autostart"]),
            Cell(", ".join(notes), "warning") if notes else NOTHING,
        )
    return table


def _facts(vm: VmInfo) -> dict[str, str | Cell]:
    """Label to value: the record, what is unusual about it, the metadata."""
    percent = "" if vm["progress_pct"] is None else f" ({vm['progress_pct']} %)"
    unusual = {
        "migrating to": f"{vm['target']}{percent}" if vm["target"] else "",
        "note": ", ".join(vm_notes(vm)),
        "kept off": vm["kept_off"],
        "failed on": ", ".join(vm["failed_on"]),
        "problem": vm["problem"],
    }
    return {
        "name": name_of(vm),
        "uuid": vm["uuid"],
        "state": Cell(vm["state"], MOOD_OF_STATE.get(vm["state"], "")),
        "reason": vm["reason"] or NOTHING,
        "since": vm["changed_at"] or NOTHING,
        "node": vm["node"] or NOTHING,
        "home": vm["home"] or NOTHING,
        "memory": memory(vm["memory_mib"]),
        "vcpus": str(vm["vcpus"]),
        **{label: Cell(value, "warning") for label, value in unusual.items() if value},
        **{field: metadata_value(field, vm.get(field)) for field in METADATA_FIELDS},
        **_volumes(vm.get("volumes", [])),
        **_rules(vm.get("rules", [])),
    }


def _volumes(volumes: list[VmVolume]) -> dict[str, str | Cell]:
    """Which volumes are its disks; nothing for one without any."""
    return {"volumes": ", ".join(f"{one['device']}: {volume_title(one)}" for one in volumes)} if volumes else {}


def _rules(rules: list[VmRule]) -> dict[str, str | Cell]:
    """Which rules are about the VM, and which of them it breaks; nothing for one without rules."""
    if not rules:
        return {}
    names = [f"{rule['name']} ({rule['kind']}, {'hard' if rule['hard'] else 'soft'})" for rule in rules]
    broken = [f"{rule['name']}: {rule['problem']}" for rule in rules if rule["problem"]]
    found: dict[str, str | Cell] = {"rules": ", ".join(names)}
    return {**found, "broken rules": Cell("; ".join(broken), "bad")} if broken else found
