# SPDX-License-Identifier: Apache-2.0
"""commands: what `pvc storage ceph` shows of the cluster, its pools and OSDs, and how a person is told.

Imported when one of them is run, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from pvc_core.invocation import Invocation, ShownTable
from pvc_core.sizes import size_words

NOTHING = "-"
Document = Mapping[str, Any]


@click.command("status")
@click.pass_obj
def status(invocation: Invocation) -> None:
    """Show how the cluster is: its health and why, its monitors, OSDs and placement groups."""
    document = invocation.api.get("storage", "ceph", "status")
    invocation.show(document, lambda: [invocation.facts(_status_facts(document)), *_checks(document["checks"])])


@click.command("util")
@click.pass_obj
def util(invocation: Invocation) -> None:
    """Show how full the cluster is, by device class, and its pools.

    Of the cluster copies are counted; what is free in a pool is what can still be stored there.
    """
    document = invocation.api.get("storage", "ceph", "util")

    def shown() -> list[str | ShownTable]:
        table = invocation.table(("class", "size", "used", "free", "used%"), right=("size", "used", "free", "used%"))
        for one in ({"name": "all", **document}, *document["classes"]):
            sizes = (one["total_bytes"], one["used_bytes"], one["free_bytes"])
            table.add(one["name"], *map(size_words, sizes), percent(one["used_bytes"], one["total_bytes"]))
        pools: list[str | ShownTable] = ["", _pools(invocation, document["pools"])] if document["pools"] else []
        return [table, *pools]

    invocation.show(document, shown, lambda: [one["name"] for one in document["pools"]])


@click.command("list")
@click.pass_obj
def pool_list(invocation: Invocation) -> None:
    """List all pools of the cluster: copies, placement groups, and how full they are.

    Volumes can be made in those whose application is rbd.
    """
    document = invocation.api.get("storage", "ceph", "pool")
    pools: list[Document] = document["pools"]
    invocation.show(
        document,
        lambda: _pools(invocation, pools) if pools else "there is no pool",
        lambda: [one["name"] for one in pools],
    )


@click.command("list")
@click.pass_obj
def osd_list(invocation: Invocation) -> None:
    """List the OSDs, how full they are, and the flags that are set for all of them."""
    document = invocation.api.get("storage", "ceph", "osd")
    osds: list[Document] = document["osds"]

    def shown() -> list[str | ShownTable]:
        numbers = ("pgs", "size", "used", "free", "used%")
        table = invocation.table(("osd", "host", "class", "state", *numbers), right=numbers)
        for one in osds:
            used, total = one["used_bytes"], one["total_bytes"]
            state = f"{'up' if one['up'] else 'down'}, {'in' if one['in_cluster'] else 'out'}"
            pgs = NOTHING if one["pgs"] is None else str(one["pgs"])
            figures = (size(total), size(used), size(one["free_bytes"]), percent(used or 0, total or 0))
            table.add(one["name"], one["host"] or NOTHING, one["device_class"] or NOTHING, state, pgs, *figures)
        flags = [f"flags: {', '.join(document['flags'])}"] if document["flags"] else []
        return [table, *flags, *([document["problem"]] if document["problem"] else [])]

    invocation.show(document, shown, lambda: [one["name"] for one in osds])


def _pools(invocation: Invocation, pools: Sequence[Document]) -> ShownTable:
    numbers = ("size", "min", "pgs", "stored", "used", "free", "quota")
    table = invocation.table(("pool", *numbers, "application"), right=numbers)
    for one in pools:
        table.add(
            one["name"],
            str(one["size"]),
            str(one["min_size"]),
            str(one["pg_num"]),
            *(size(one[field]) for field in ("stored_bytes", "used_bytes", "free_bytes")),
            size(one["quota_bytes"] or None),
            ", ".join(one["applications"]) or NOTHING,
        )
    return table


def _status_facts(document: Document) -> dict[str, str]:
    monitors: list[Document] = document["monitors"]
    quorum = [one["name"] for one in monitors if one["in_quorum"]]
    away = [one["name"] for one in monitors if not one["in_quorum"]]
    groups = ", ".join(f"{one['count']} {one['state']}" for one in document["placement_groups"])
    used, total = document["used_bytes"], document["total_bytes"]
    return {
        "health": document["health"],
        "monitors": f"quorum of {', '.join(quorum)}" + (f"; without {', '.join(away)}" if away else ""),
        "manager": "available" if document["manager_available"] else "none is available",
        "osds": f"{document['osds']}: {document['osds_up']} up, {document['osds_in']} in",
        "pools": str(document["pools"]),
        "placement groups": groups or NOTHING,
        "used": f"{size_words(used)} of {size_words(total)} ({percent(used, total)}%)",
    }


def _checks(checks: Sequence[Document]) -> list[str]:
    """A line for each, and one for each of its details."""
    lines: list[str] = []
    for check in checks:
        muted = " (muted)" if check["muted"] else ""
        lines += [f"{check['name']}: {check['summary']}{muted}", *(f"  {detail}" for detail in check["details"])]
    return lines


def size(size_bytes: int | None) -> str:
    """In words; nothing for what is not known."""
    return NOTHING if size_bytes is None else size_words(size_bytes)


def percent(part: int, whole: int) -> str:
    """How much of the whole it is."""
    return f"{100 * part / whole:.1f}" if whole else NOTHING
