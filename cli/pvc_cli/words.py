# SPDX-License-Identifier: Apache-2.0
"""words: how the commands write a VM, a node or a quantity for a person, the same in every table and sentence."""

from __future__ import annotations

from pvc_cli.views import NodeView, PauseView, VmView, VmVolume

NOTHING = "-"
"""Stands in a cell without a value, so that every row of a table has the same number of words."""

MOOD_OF_STATE = {
    "running": "good",
    "starting": "busy",
    "restarting": "busy",
    "migrating": "busy",
    "shutting-down": "warning",
    "stopped": "quiet",
    "disabled": "quiet",
    "failed": "bad",
    "broken": "bad",
}
MOOD_OF_MODE = {"ready": "good", "flushing": "warning", "unflushing": "busy", "flushed": "warning"}
MOOD_OF_LIVENESS = {"alive": "good", "left": "warning", "lost": "bad"}


def memory(mib: int) -> str:
    """An amount of memory: 512 MiB, 1.5 GiB."""
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.4g} GiB"


def memory_of(used_mib: int, total_mib: int) -> str:
    """A part of an amount, in the unit of the whole: 1.5/4.0 GiB."""
    if total_mib < 1024:
        return f"{used_mib}/{total_mib} MiB"
    return f"{used_mib / 1024:.1f}/{total_mib / 1024:.1f} GiB"


def until(pause: PauseView) -> str:
    """When a maintenance ends, and why it is on: until 2026-01-31T12:00:00Z (new switch)."""
    why = f" ({pause['reason']})" if pause["reason"] else ""
    return f"until {pause['ends_at'] or 'it is ended'}{why}"


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def listed(names: list[str], none: str = NOTHING) -> str:
    """Names separated by commas."""
    return ",".join(names) or none


def counted(number: int, one: str) -> str:
    """1 VM, 2 VMs."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def name_of(vm: VmView) -> str:
    """The VM's name, or its UUID when the record does not parse."""
    return vm["name"] or vm["uuid"]


def whereabouts(vm: VmView) -> str:
    """A VM's state and place, as the end of a sentence: is migrating from hv1 to hv2 (40 %)."""
    if vm["state"] == "migrating":
        percent = "" if vm["progress_pct"] is None else f" ({vm['progress_pct']} %)"
        breaking_off = ", which is being cancelled" if vm["cancelling"] else ""
        return f"is migrating from {vm['node']} to {vm['target']}{percent}{breaking_off}"
    return f"is {vm['state']} on {vm['node']}"


def vm_notes(vm: VmView) -> list[str]:
    """What is unusual about a VM, in a word or two each."""
    notes = []
    if vm["problem"]:
        notes.append("broken record")
    if vm["held"]:
        notes.append("held")
    if vm["kept_off"]:
        notes.append("kept off")
    if vm["limit_violated"]:
        notes.append("outside limit")
    if vm["cancelling"]:
        notes.append("cancelling")
    if vm["target"]:
        percent = "" if vm["progress_pct"] is None else f" {vm['progress_pct']}%"
        notes.append(f"to {vm['target']}{percent}")
    return notes


def volume_title(volume: VmVolume) -> str:
    """A volume: ceph vms/web1, directory local/web1 on hv1."""
    where = f" on {volume['node']}" if volume["node"] else ""
    return f"{volume['backend']} {volume['pool']}/{volume['name']}{where}"


def node_problems(node: NodeView) -> list[str]:
    """What an operator should look at, in a few words each."""
    problems = []
    if node["fence"] and node["fence"]["step"] != "recovered":
        problems.append(node["fence"]["step"])
    elif node["fenced"]:
        problems.append("fenced")
    if node["maintenance"]:
        problems.append("maintenance")
    if node["liveness"] == "alive" and node["report_stale"]:
        problems.append("report stale")
    if node["liveness"] == "alive" and not node["hypervisor_connected"]:
        problems.append("hypervisor away")
    if node["drain"] and node["drain"]["stayed"]:
        problems.append(f"{counted(len(node['drain']['stayed']), 'VM')} stayed")
    if node["unknown_domains"]:
        problems.append(counted(len(node["unknown_domains"]), "unknown domain"))
    return problems


def typed(value: object) -> str:
    """A value as one would type it in a command."""
    if isinstance(value, list):
        return ",".join(typed(item) for item in value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
