# SPDX-License-Identifier: Apache-2.0
"""single_instance: one daemon per node name, store and host, so that two never act for the same node.

The lock is an abstract Unix socket: the kernel frees it when the process ends, however it ends, and leaves no file.
"""

from __future__ import annotations

import hashlib
import socket

from pvc_core.errors import Refused


def hold_instance_lock(node: str, store_url: str) -> socket.socket:
    """The lock; it is held until the socket is closed. Raises `Refused` when another daemon holds it."""
    name = hashlib.sha256(f"{store_url}\n{node}".encode()).hexdigest()[:32]
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0pvc-node/{name}")
    except OSError as error:
        lock.close()
        raise Refused(node, "another pvc-node runs under this name on this host") from error
    return lock
