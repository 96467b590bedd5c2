# SPDX-License-Identifier: Apache-2.0
"""Choose ports on which nobody listens, and which no other program that chooses here has been given.

They lie below the range that the kernel gives to outgoing connections, so that a port stays ours while its server is
down for a restart. Programs that run side by side, such as the processes of a test run, never choose the same one,
although it takes each a moment until its server listens.
"""

from __future__ import annotations

import random
import socket

_RANGE = range(20_000, 32_000)
_CLAIM = "\0pvc-lab-port-{port}"
"""The abstract address of a socket that whoever has chosen a port holds until it ends: the kernel gives it to one only,
and takes it back however that one ends."""


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A TCP port, or one of another kind, on which nobody listens now; nobody else is given it while we run."""
    chooser = random.SystemRandom()
    for _ in range(1000):
        port = chooser.choice(_RANGE)
        with socket.socket(type=kind) as candidate:
            try:
                candidate.bind((host, port))
            except OSError:
                continue
            if _claim(port):
                return port
    raise OSError(f"no free port on {host}")


def _claim(port: int) -> bool:
    """Whether it is ours now; kept for as long as this program runs."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(_CLAIM.format(port=port))
    except OSError:
        claim.close()
        return False
    claim.detach()
    return True
