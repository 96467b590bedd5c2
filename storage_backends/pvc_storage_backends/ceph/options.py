# SPDX-License-Identifier: Apache-2.0
"""options: which Ceph cluster this machine uses, as which of its users, and how long it waits for an answer."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec


class Options(msgspec.Struct, frozen=True):
    """[plugin.ceph]. Keys stand in Ceph's keyrings, never here."""

    conf: str = "/etc/ceph/ceph.conf"
    """Ceph's configuration file by its whole path: with the monitors' addresses."""
    user: str = "admin"
    """Who PVC is to Ceph, without `client.`; it needs `allow *` for mon, osd and mgr."""
    keyring: str = ""
    """The file with that user's key; empty: where the configuration file or Ceph's defaults say."""
    guest_user: str = ""
    """Who guests are to Ceph, with `profile rbd` for mon and osd; empty: `user`, who may do more than they need."""
    secret: str = ""
    """The UUID of libvirt's secret with the guests' key; empty: one that follows from the cluster and the user."""
    osd_layout: Literal["lvm", "raw"] = "lvm"
    """How `ceph-volume` lays a new OSD on a disk; `raw` for hosts that activate their OSDs at boot in their own way."""
    osd_start: tuple[str, ...] = ("/usr/bin/systemctl", "enable", "--now", "ceph-osd@{osd}")
    """What starts an OSD with the layout `raw`; `{osd}` is its number."""
    osd_stop: tuple[str, ...] = ("/usr/bin/systemctl", "disable", "--now", "ceph-osd@{osd}")
    """What ends an OSD before its disk is freed."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=60)] = 10.0
    """How long a single question to Ceph may take, in seconds."""

    def __post_init__(self) -> None:
        if not self.conf.startswith("/"):
            raise ValueError(f"conf {self.conf!r} is no whole path, which begins with /")
        for name in (self.user, self.guest_user):
            if name.startswith("client."):
                raise ValueError(f"the user {name!r} is written without `client.`")
        for command in (self.osd_start, self.osd_stop):
            if not command or not command[0].startswith("/"):
                raise ValueError(f"the command {list(command)} does not begin with the whole path of a program")
        if self.secret:
            UUID(self.secret)

    @property
    def guests(self) -> str:
        """Who guests are to Ceph, without `client.`."""
        return self.guest_user or self.user
