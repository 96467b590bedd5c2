# SPDX-License-Identifier: Apache-2.0
"""figures: what a cluster tells of itself, as the API answers it: pure, of the documents of Ceph's own commands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pvc_storage_backends.ceph.answers import (
    CephCheck,
    CephClass,
    CephMonitor,
    CephOsd,
    CephOsdList,
    CephPgs,
    CephPool,
    CephStatus,
    CephUse,
)
from pvc_storage_backends.ceph.pools import APPLICATION, usage_of

KIB = 1024
Document = Mapping[str, Any]


def status_of(status: Document, health: Document, monitors: Document) -> CephStatus:
    """Of `status`, `health detail` and `mon dump`."""
    osds, pgs = status["osdmap"], status["pgmap"]
    deciding = set(status["quorum_names"])
    return CephStatus(
        fsid=status["fsid"],
        health=health["status"],
        checks=tuple(_check(name, check) for name, check in sorted(health["checks"].items())),
        monitors=tuple(
            CephMonitor(name=each["name"], in_quorum=each["name"] in deciding)
            for each in sorted(monitors["mons"], key=lambda each: str(each["name"]))
        ),
        manager_available=bool(status["mgrmap"]["available"]),
        osds=osds["num_osds"],
        osds_up=osds["num_up_osds"],
        osds_in=osds["num_in_osds"],
        pools=pgs["num_pools"],
        placement_groups=tuple(CephPgs(state=each["state_name"], count=each["count"]) for each in pgs["pgs_by_state"]),
        total_bytes=pgs["bytes_total"],
        used_bytes=pgs["bytes_used"],
        free_bytes=pgs["bytes_avail"],
    )


def pools_of(listed: Sequence[Document], df: Document) -> tuple[CephPool, ...]:
    """Of `osd pool ls detail` and `df detail`."""
    figures = {each["name"]: each["stats"] for each in df["pools"]}
    return tuple(
        _pool(pool, figures.get(pool["pool_name"])) for pool in sorted(listed, key=lambda each: str(each["pool_name"]))
    )


def util_of(listed: Sequence[Document], df: Document) -> CephUse:
    """Of the same."""
    return CephUse(
        **_room(df["stats"]),
        classes=tuple(CephClass(name=name, **_room(stats)) for name, stats in sorted(df["stats_by_class"].items())),
        pools=pools_of(listed, df),
    )


def osds_of(tree: Document, dump: Document, flags: Collection[str], df: Document, problem: str = "") -> CephOsdList:
    """Of `osd tree`, `osd dump` and `osd df`, which is empty where `problem` says why."""
    hosts = {child: each["name"] for each in tree["nodes"] if each["type"] == "host" for child in each["children"]}
    classes = {each["id"]: each.get("device_class", "") for each in tree["nodes"]}
    figures = {each["id"]: each for each in df.get("nodes", ())}
    return CephOsdList(
        osds=tuple(
            CephOsd(
                name=f"osd.{osd['osd']}",
                host=hosts.get(osd["osd"], ""),
                device_class=classes.get(osd["osd"], ""),
                up=bool(osd["up"]),
                in_cluster=bool(osd["in"]),
                **_of_osd(figures.get(osd["osd"])),
            )
            for osd in sorted(dump["osds"], key=lambda each: int(each["osd"]))
        ),
        flags=tuple(sorted(set(dump["flags_set"]) & set(flags))),
        problem=problem,
    )


def _of_osd(figures: Document | None) -> dict[str, int]:
    if figures is None:
        return {}
    sizes = {"total_bytes": "kb", "used_bytes": "kb_used", "free_bytes": "kb_avail"}
    return {"pgs": figures["pgs"], **{name: KIB * figures[key] for name, key in sizes.items()}}


def _check(name: str, check: Document) -> CephCheck:
    return CephCheck(
        name=name,
        severity=check["severity"],
        summary=check["summary"]["message"],
        details=tuple(each["message"] for each in check.get("detail", ())),
        muted=bool(check.get("muted", False)),
    )


def _pool(pool: Document, stats: Document | None) -> CephPool:
    applications = tuple(sorted(pool["application_metadata"]))
    known = {} if stats is None else dict(stats)
    return CephPool(
        name=pool["pool_name"],
        volumes=APPLICATION in applications,
        applications=applications,
        size=pool["size"],
        min_size=pool["min_size"],
        pg_num=pool["pg_num_target"],
        pg_autoscale_mode=pool["pg_autoscale_mode"],
        quota_bytes=pool["quota_max_bytes"],
        objects=known.get("objects"),
        stored_bytes=known.get("stored"),
        used_bytes=known.get("bytes_used"),
        free_bytes=usage_of(known).free_bytes if known else None,
    )


def _room(stats: Document) -> dict[str, int]:
    return {
        "total_bytes": stats["total_bytes"],
        "used_bytes": stats["total_used_raw_bytes"],
        "free_bytes": stats["total_avail_bytes"],
    }
