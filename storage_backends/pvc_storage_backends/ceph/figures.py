# SPDX-License-Identifier: Apache-2.0
"""figures: what a cluster tells of itself, as the API answers it: pure, of the documents of Ceph's own commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pvc_storage_backends.ceph.answers import (
    CephCheck,
    CephClass,
    CephMonitor,
    CephPgs,
    CephPool,
    CephStatus,
    CephUse,
)
from pvc_storage_backends.ceph.pools import APPLICATION, usage_of

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
