# SPDX-License-Identifier: Apache-2.0
"""storage_on_nodes: `pvc storage <backend> volume list`, `add` and `remove` where pools may be each node's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.output import emit
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import (
    VolumeView,
    backend_path,
    list_volumes,
    make_volume,
    new_name_argument,
    pool_argument,
    remove_volume,
    show_volumes,
    size_argument,
    volume_argument,
    yes_option,
)
from pvc_cli.task_following import TaskView, follow_task

TASK_S = 120.0
"""How long a command waits for a node to do it; it is done all the same."""
LIST_S = 60.0
"""How long it waits for each answer of the API, which itself waits for the node."""
node_option = click.option(
    "--node",
    metavar="NODE",
    default="",
    show_default=False,
    help="In a pool that each node has for itself: whose.  [default: one that all nodes share]",
)


class NodeVolumes(TypedDict):
    """Volumes of a pool of one node's own."""

    volumes: list[VolumeView]
    total: int
    more: bool


@click.command("list")
@pool_argument
@node_option
@output_option
@pass_session
def volume_list(session: Session, pool: str, node: str) -> None:
    """List the volumes of POOL, and the VMs that they belong to.

    In a pool that each node has for itself, NODE is asked, whose daemon has to be there.
    """
    if not node:
        list_volumes(session, pool)
        return
    patient = replace(session.api, patience_s=LIST_S)
    volumes: list[VolumeView] = []
    page: NodeVolumes = {"volumes": [], "total": 0, "more": True}
    while page["more"]:
        after = {"after": volumes[-1]["name"]} if volumes else None
        page = patient.request("GET", *_path(node, pool), parameters=after).document
        volumes += page["volumes"]
    show_volumes(session, {**page, "volumes": volumes}, f"pool {pool} of {node}")


@click.command("add")
@pool_argument
@new_name_argument
@size_argument
@node_option
@output_option
@pass_session
def volume_add(session: Session, pool: str, name: str, size_bytes: int, node: str) -> None:
    """Make the volume NAME of SIZE, such as 20GiB, in POOL. It reads as zeros.

    In a pool that each node has for itself, NODE makes it, and the command waits for that.
    """
    if not node:
        make_volume(session, pool, name, size_bytes)
        return
    body = {"name": name, "size_bytes": size_bytes}
    _done_by(session, session.api.post(*_path(node, pool), body=body).document, name)


@click.command("remove")
@pool_argument
@volume_argument
@node_option
@yes_option
@output_option
@pass_session
def volume_remove(session: Session, pool: str, volume: str, node: str, yes: bool) -> None:
    """Remove VOLUME of POOL and what it holds.

    In a pool that each node has for itself, NODE removes it, and the command waits for that.
    """
    if not node:
        remove_volume(session, pool, volume, yes)
        return
    confirmed(f"Remove volume {volume} of pool {pool} on {node} and what it holds?", yes, "remove")
    _done_by(session, session.api.request("DELETE", *_path(node, pool), volume).document, volume)


def _path(node: str, pool: str) -> tuple[str, ...]:
    """Where the API has a node's own pool."""
    return (*backend_path(), "node", node, "pool", pool, "volume")


def _done_by(session: Session, task: TaskView, name: str) -> None:
    """Wait until the node has done it, and say so."""
    ended = follow_task(session, task, TASK_S)
    emit(session.output, ended, lambda: f"{ended['node']} has done it: {ended['title']}", lambda: [name])
