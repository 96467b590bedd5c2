# SPDX-License-Identifier: Apache-2.0
"""Watches all hypervisors, past PVC, for a guest that runs on two nodes at once: the one thing that must not be.

Hosts cannot be looked at in the same instant, and a guest that migrates is seen here, then there. So a suspicion
counts only when the first host, looked at again afterwards, still runs it. Where libvirtd does not answer, guests may
well run on: there the QEMU processes count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import libvirt

SAMPLE_INTERVAL_S = 0.05


class TwoNodeWatch:
    """Samples on a thread of its own from `start` to `close`.

    `libvirt_uris`: by node, ways that need no network. `guest_processes`: by node, what tells the UUIDs of the guests
    that have a process there.
    """

    def __init__(
        self, libvirt_uris: Mapping[str, str], guest_processes: Mapping[str, Callable[[], frozenset[str]]]
    ) -> None:
        self._uris = dict(libvirt_uris)
        self._guest_processes = dict(guest_processes)
        self._connections: dict[str, libvirt.virConnect] = {}
        self._found: dict[str, None] = {}
        self._samples = 0
        self._lock = threading.Lock()
        self._left_out: set[str] = set()
        self._sampling = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="two-node-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        # Hosts come and go under this watch; the binding would print every failure that it also raises.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def leave_out(self, node: str) -> None:
        """Do not look at a node before `look_again`: it is to stand still, or its guests can do no harm."""
        with self._sampling:
            self._left_out.add(node)
            # Who is about to be frozen must not be asked any more, not even to end the connection.
            with self._lock:
                connection = self._connections.pop(node, None)
            if connection is not None:
                connection.close()

    def look_again(self) -> None:
        """Look at all nodes."""
        with self._sampling:
            self._left_out.clear()

    @property
    def samples(self) -> int:
        """How often all hosts were looked at."""
        return self._samples

    @property
    def found(self) -> Sequence[str]:
        """A sentence for every guest that was seen on two nodes at once."""
        return tuple(self._found)

    def running_on(self, node: str) -> frozenset[str]:
        """UUIDs of the guests that execute on the node now; while its libvirtd does not answer, that may.

        Of a node that is left out, those that have a process.
        """
        return self._list(node, libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING)

    def active_on(self, node: str) -> frozenset[str]:
        """As `running_on`, with those that are paused, such as one that is just arriving."""
        return self._list(node, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)

    def _list(self, node: str, flags: int) -> frozenset[str]:
        if node in self._left_out:
            return self._guest_processes[node]()
        try:
            with self._lock:
                connection = self._connections.get(node)
                if connection is None or not connection.isAlive():
                    connection = self._connections[node] = libvirt.openReadOnly(self._uris[node])
            return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flags))
        except libvirt.libvirtError:
            with self._lock:
                self._connections.pop(node, None)
            return self._guest_processes[node]()

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLE_INTERVAL_S):
            with self._sampling:
                self._sample()

    def _sample(self) -> None:
        seen: dict[str, str] = {}
        for node in [each for each in self._uris if each not in self._left_out]:
            for uuid in self.running_on(node):
                first = seen.setdefault(uuid, node)
                if first != node and uuid in self.running_on(first) and uuid in self.running_on(node):
                    self._found[f"{uuid} ran on {first} and {node}"] = None
        self._samples += 1
