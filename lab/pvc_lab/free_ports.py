# SPDX-License-Identifier: Apache-2.0
"""Choose ports on which nobody listens.

They lie below the range that the kernel gives to outgoing connections, so that a port stays ours while its server is
down for a restart.
"""

from __future__ import annotations

import random
import socket

_RANGE = range(20_000, 32_000)


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A TCP port, or one of another kind, on which nobody listens now."""
    chooser = random.SystemRandom()
    for _ in range(1000):
        port = chooser.choice(_RANGE)
        with socket.socket(type=kind) as candidate:
            try:
                candidate.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port on {host}")
