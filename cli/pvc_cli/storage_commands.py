# SPDX-License-Identifier: Apache-2.0
"""storage_commands: `pvc storage`: the installed storage backends; below it stand the commands of each."""

from __future__ import annotations

from typing import TypedDict

import click

from pvc_cli.lazy import LazyGroup
from pvc_cli.output import emit
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.words import NOTHING, listed

MOOD_OF_STATE = {"usable": "good", "unusable": "bad", "absent": "warning", "unknown": "warning"}


class StorageOnNode(TypedDict):
    """A storage backend on one node."""

    node: str
    state: str
    detail: str


class StorageBackendView(TypedDict):
    """An installed storage backend."""

    name: str
    plugin: str
    summary: str
    capabilities: list[str]
    nodes: list[StorageOnNode]


@click.group(cls=LazyGroup)
def storage() -> None:
    """Storage: what holds VMs' disks, each backend below its name.

    The commands of a backend come from its plugin, and are there as long as it is installed and not blocked.
    """


@storage.command("list")
@output_option
@pass_session
def list_(session: Session) -> None:
    """List the storage backends, and how each is on every node."""
    document = session.api.get("storage")
    backends: list[StorageBackendView] = document["backends"]
    none = "no storage backends are installed"
    emit(
        session.output,
        document,
        lambda: _table(backends) if backends else none,
        lambda: [one["name"] for one in backends],
    )


def _table(backends: list[StorageBackendView]) -> Table:
    table = Table(("name", "nodes", "capabilities", "plugin", "summary"), folding=("nodes", "capabilities", "summary"))
    for one in backends:
        table.add(one["name"], _nodes(one["nodes"]), listed(one["capabilities"]), one["plugin"], one["summary"])
    return table


def _nodes(nodes: list[StorageOnNode]) -> Cell:
    """How many can use it, and what is wrong with the others."""
    if not nodes:
        return Cell(NOTHING)
    wrong = [each for each in nodes if each["state"] != "usable"]
    usable = f"{len(nodes) - len(wrong)} of {len(nodes)} usable"
    sentences = [f"{each['node']} {each['state']}: {each['detail'] or NOTHING}" for each in wrong]
    worst = next(
        (each["state"] for each in wrong if each["state"] == "unusable"), wrong[0]["state"] if wrong else "usable"
    )
    return Cell("; ".join([usable, *sentences]), MOOD_OF_STATE.get(worst, "warning"))
