# SPDX-License-Identifier: Apache-2.0
"""answers: what the API says of a Ceph cluster, in Ceph's own words where it has one. Nothing of it holds a key."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pvc_core.contributions import ApiBody, ApiQuery

DEVICE = r"^/dev/[A-Za-z0-9][A-Za-z0-9/._:@+=-]{0,254}$"
DEVICE_CLASS = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$"


class CephCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the cluster does not like about itself: `OSD_DOWN`, as a sentence, and which ones it is about."""

    name: str
    severity: str
    summary: str
    details: tuple[str, ...] = ()
    muted: bool = False


class CephMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor, and whether it is one of those that decide."""

    name: str
    in_quorum: bool


class CephPgs(msgspec.Struct, frozen=True, kw_only=True):
    """How many placement groups are in one state, such as `active+clean`."""

    state: str
    count: int


class CephStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the cluster is. health: HEALTH_OK, HEALTH_WARN or HEALTH_ERR."""

    fsid: str
    health: str
    checks: tuple[CephCheck, ...]
    monitors: tuple[CephMonitor, ...]
    manager_available: bool
    osds: int
    osds_up: int
    osds_in: int
    pools: int
    placement_groups: tuple[CephPgs, ...]
    total_bytes: int
    used_bytes: int
    free_bytes: int


class CephPool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool. volumes: it is given to RBD. size: how many copies there are; min_size: with how many it is written.

    stored_bytes: what is in it; used_bytes: what that takes with its copies; free_bytes: what can still be stored,
    copies and quota taken into account. None until its placement groups have reported. quota_bytes: 0 for none.
    """

    name: str
    volumes: bool
    applications: tuple[str, ...]
    size: int
    min_size: int
    pg_num: int
    pg_autoscale_mode: str
    quota_bytes: int = 0
    objects: int | None = None
    stored_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None


class CephPoolList(msgspec.Struct, frozen=True, kw_only=True):
    """All pools of the cluster, by name; those that are not for volumes too."""

    pools: tuple[CephPool, ...]


class CephClass(msgspec.Struct, frozen=True, kw_only=True):
    """How full the OSDs of one device class are, such as `ssd`."""

    name: str
    total_bytes: int
    used_bytes: int
    free_bytes: int


class CephUse(msgspec.Struct, frozen=True, kw_only=True):
    """How full the cluster is, copies counted; and its pools."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    classes: tuple[CephClass, ...]
    pools: tuple[CephPool, ...]


class CephOsd(msgspec.Struct, frozen=True, kw_only=True):
    """An OSD and its host. up: it runs; in_cluster: it holds data. Figures are None while no manager gives any."""

    name: str
    host: str
    device_class: str
    up: bool
    in_cluster: bool
    pgs: int | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None


class CephOsdList(msgspec.Struct, frozen=True, kw_only=True):
    """The OSDs by number, the flags that are set for all of them, and why there are no figures ("": there are)."""

    osds: tuple[CephOsd, ...]
    flags: tuple[str, ...]
    problem: str = ""


class CephOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has been done, in a sentence."""

    reason: str


class NewCephPool(ApiBody, frozen=True, kw_only=True):
    """A pool to make for volumes: how many placement groups and copies it is to have; None for Ceph's defaults."""

    name: str
    pg_num: Annotated[int, msgspec.Meta(ge=1, le=65536)] | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None


class CephPoolSetting(ApiBody, frozen=True, kw_only=True):
    """One setting of a pool: how many copies there are, with how many it is written, how many PGs it has, and how much
    may be in it at most: a size with its unit, or `none`.
    """

    setting: Literal["size", "min_size", "pg_num", "pg_autoscale_mode", "quota"]
    value: str


class CephOsdPart(ApiBody, frozen=True, kw_only=True):
    """Whether an OSD is to hold data."""

    in_cluster: bool


class NewCephOsd(ApiBody, frozen=True, kw_only=True):
    """An OSD to be made on a disk of a node, such as /dev/sdb, on which nothing is. device_class: "" for Ceph's own."""

    node: str
    device: Annotated[str, msgspec.Meta(pattern=DEVICE)]
    device_class: Annotated[str, msgspec.Meta(pattern=DEVICE_CLASS)] = ""


class CephOsdQuery(ApiQuery, frozen=True, kw_only=True):
    """The node whose OSD it is; "": the one on whose host Ceph says it is."""

    node: str = ""


class CephFlag(ApiBody, frozen=True, kw_only=True):
    """Whether a flag of all OSDs is to be set."""

    set: bool
