# SPDX-License-Identifier: Apache-2.0
"""ceph_keys: users of a Ceph cluster with their keys and what they may do, as the keyring files that Ceph reads.

A key is made here instead of by `ceph-authtool`, which takes longer to start than a daemon.
"""

from __future__ import annotations

import base64
import os
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_AES = 1
_KEY_BYTES = 16
EVERYTHING = "allow *"


def new_key() -> str:
    """A secret of a cephx user: its kind, when it was made (seconds, nanoseconds), its length, and random bytes."""
    head = struct.pack("<hiih", _AES, int(time.time()), 0, _KEY_BYTES)
    return base64.b64encode(head + os.urandom(_KEY_BYTES)).decode()


@dataclass(frozen=True)
class CephUser:
    """An entity such as `client.admin` or `osd.0`. caps: what it may do, by the kind of daemon that it asks."""

    entity: str
    caps: Mapping[str, str]
    key: str = field(default_factory=new_key, repr=False)

    def keyring(self) -> str:
        """Its section of a keyring file."""
        caps = "".join(f'\tcaps {kind} = "{allowed}"\n' for kind, allowed in self.caps.items())
        return f"[{self.entity}]\n\tkey = {self.key}\n{caps}"


def keyring(users: Iterable[CephUser]) -> str:
    """The text of a keyring file."""
    return "".join(user.keyring() for user in users)


def monitors() -> CephUser:
    """The user that all monitors are."""
    return CephUser("mon.", {"mon": EVERYTHING})


def admin() -> CephUser:
    """The user that may do everything."""
    return CephUser("client.admin", {"mon": EVERYTHING, "osd": EVERYTHING, "mgr": EVERYTHING, "mds": EVERYTHING})


def manager(name: str) -> CephUser:
    """The user that a manager daemon is."""
    return CephUser(f"mgr.{name}", {"mon": "allow profile mgr", "osd": EVERYTHING, "mds": EVERYTHING})


def osd(number: int) -> CephUser:
    """The user that an OSD is."""
    return CephUser(f"osd.{number}", {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": EVERYTHING})
