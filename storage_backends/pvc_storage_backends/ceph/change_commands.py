# SPDX-License-Identifier: Apache-2.0
"""change_commands: `pvc storage ceph pool` and `osd` as far as they change something, which only an admin may.

Imported when one of them is run, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pvc_core.invocation import Invocation
from pvc_storage_backends.ceph.administration import FLAGS, MOST_COPIES, MOST_PGS, POOL_SETTINGS

CEPH = ("storage", "ceph")
pool_argument = click.argument("pool")
osd_argument = click.argument("osd")
flag_argument = click.argument("flag", type=click.Choice(FLAGS))


@click.command("add")
@pool_argument
@click.option(
    "--pg-num",
    type=click.IntRange(1, MOST_PGS),
    show_default=False,
    help="How many placement groups.  [default: Ceph's own]",
)
@click.option(
    "--size", type=click.IntRange(1, MOST_COPIES), show_default=False, help="How many copies.  [default: Ceph's own]"
)
@click.pass_obj
def pool_add(invocation: Invocation, pool: str, pg_num: int | None, size: int | None) -> None:
    """Make POOL for volumes."""
    _told(invocation, pool, "pool", body={"name": pool, "pg_num": pg_num, "size": size})


@click.command("set")
@pool_argument
@click.argument("setting", type=click.Choice(POOL_SETTINGS))
@click.argument("value")
@click.pass_obj
def pool_set(invocation: Invocation, pool: str, setting: str, value: str) -> None:
    """Change SETTING of POOL: its copies, PGs, or how much may be in it.

    quota takes a size such as 100GiB, or none; pg_autoscale_mode takes on, off or warn; the others take a number.
    """
    _told(invocation, pool, "pool", pool, body={"setting": setting, "value": value})


@click.command("remove")
@pool_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def pool_remove(invocation: Invocation, pool: str, yes: bool) -> None:
    """Remove POOL and all that is in it; refused while a VM has a volume there."""
    invocation.confirm(f"Remove pool {pool} with all volumes and snapshots in it?", yes, "remove")
    document = invocation.api.request("DELETE", *CEPH, "pool", pool).document
    invocation.show(document, lambda: str(document["reason"]), lambda: [pool])


@click.command("add")
@click.argument("node")
@click.argument("device")
@click.option(
    "--class",
    "device_class",
    default="",
    show_default=False,
    help="Its device class, such as ssd.  [default: Ceph decides]",
)
@click.pass_obj
def osd_add(invocation: Invocation, node: str, device: str, device_class: str) -> None:
    """Make an OSD on DEVICE of NODE, such as /dev/sdb, on which nothing is.

    The node does that as a task: `pvc task wait` shows how far it is.
    """
    body = {"node": node, "device": device, "device_class": device_class}
    _given(invocation, invocation.api.post(*CEPH, "osd", body=body).document)


@click.command("remove")
@osd_argument
@click.option(
    "--node",
    default="",
    show_default=False,
    help="The node with its disk.  [default: the one on whose host it last ran]",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def osd_remove(invocation: Invocation, osd: str, node: str, yes: bool) -> None:
    """Remove OSD, such as osd.7, once all that it holds is elsewhere, and free its disk.

    Its node does that as a task, which may take hours: `pvc task wait` shows how far it is. Until nothing is lost by
    it `pvc task cancel` calls it off, and the OSD takes part as before.
    """
    invocation.confirm(f"Move the data of {osd} to others, remove it and wipe its disk?", yes, "remove")
    where = {"node": node} if node else {}
    _given(invocation, invocation.api.request("DELETE", *CEPH, "osd", osd, parameters=where).document)


@click.command("in")
@osd_argument
@click.pass_obj
def osd_in(invocation: Invocation, osd: str) -> None:
    """Let OSD, such as osd.7, hold data."""
    _told(invocation, osd, "osd", osd, body={"in_cluster": True})


@click.command("out")
@osd_argument
@click.pass_obj
def osd_out(invocation: Invocation, osd: str) -> None:
    """Let OSD, such as osd.7, hold no data: what it has moves to others."""
    _told(invocation, osd, "osd", osd, body={"in_cluster": False})


@click.command("set")
@flag_argument
@click.pass_obj
def osd_set(invocation: Invocation, flag: str) -> None:
    """Set a flag for all OSDs, such as noout before a node is restarted."""
    _told(invocation, flag, "flag", flag, body={"set": True})


@click.command("unset")
@flag_argument
@click.pass_obj
def osd_unset(invocation: Invocation, flag: str) -> None:
    """Take a flag of all OSDs away."""
    _told(invocation, flag, "flag", flag, body={"set": False})


def _told(invocation: Invocation, name: str, *path: str, body: dict[str, object]) -> None:
    """Ask for a change, and say what has been done."""
    document = invocation.api.post(*CEPH, *path, body=body).document
    invocation.show(document, lambda: str(document["reason"]), lambda: [name])


def _given(invocation: Invocation, task: Mapping[str, Any]) -> None:
    """Say which task has been given, and how to follow it."""
    sentence = f"{task['node']} is to {task['title']}: `pvc task wait {task['id']}` shows how far it is"
    invocation.show(task, lambda: sentence, lambda: [task["id"]])
