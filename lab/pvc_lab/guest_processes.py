# SPDX-License-Identifier: Apache-2.0
"""guest_processes: which guests a host runs, by its QEMU processes alone: for when its libvirtd cannot be asked."""

from __future__ import annotations

import re
from pathlib import Path

from pvc_lab.network import processes_in

_UUID = re.compile(rb"\0-uuid\0([0-9a-f-]{36})\0")


def guests_in(namespace: str) -> frozenset[str]:
    """The UUIDs of the guests whose processes live in a host's network namespace; none when the host is off."""
    found = set()
    for process in processes_in(namespace):
        try:
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        found |= {match.decode() for match in _UUID.findall(command)}
    return frozenset(found)
