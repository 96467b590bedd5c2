# SPDX-License-Identifier: Apache-2.0
"""resets: a host whose system has ended by itself starts again, as a machine does that was reset.

The kernel ends a namespace when something in it reboots "the machine", as a watchdog does; here is who switches it on
again. A host that was switched off from outside stays off.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from pvc_lab.cluster_node import ClusterNode

LOOK_EVERY_S = 0.1


class Resets:
    """Looks after these nodes, each on a thread of its own, from `start` to `close`."""

    def __init__(self, nodes: Iterable[ClusterNode]) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._look_after, args=(node,), name=f"resets-{node.name}", daemon=True)
            for node in nodes
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let hosts that end be."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _look_after(self, node: ClusterNode) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            node.boot_after_reset()
