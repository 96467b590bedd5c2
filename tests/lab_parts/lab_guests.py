# SPDX-License-Identifier: Apache-2.0
"""Guests started straight through libvirt, for tests of the lab itself, where there is no PVC yet."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pvc_lab.guest import Guest, empty_guest
from pvc_lab.guest_image import ticks
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab import Lab
from pvc_lab.waiting import wait_for

Timed = Callable[[str], AbstractContextManager[None]]


class Guests:
    """Starts guests straight through libvirt, as the node daemon does, and removes them all."""

    def __init__(self, libvirt: Any, lab: Lab) -> None:
        self._libvirt = libvirt
        self._lab = lab

    def unique(self, name: str, **options: Any) -> Guest:
        return self._lab.guest(f"{name}-{uuid.uuid4().hex[:6]}", **options)

    def connect(self, node: HypervisorHost) -> Any:
        return self._libvirt.open(node.outside_libvirt_uri)

    def start(self, node: HypervisorHost, guest: Guest) -> None:
        self.connect(node).createXML(guest.xml())

    def start_empty(self, node: HypervisorHost, name: str) -> Guest:
        guest = empty_guest(f"{name}-{uuid.uuid4().hex[:6]}")
        self.start(node, guest)
        return guest

    def start_ticking(self, node: HypervisorHost, guest: Guest) -> None:
        self.start(node, guest)
        self.wait_for_ticks(guest, 1)

    def wait_for_ticks(self, guest: Guest, count: int) -> None:
        assert guest.console is not None
        console = guest.console
        wait_for(lambda: len(ticks(console)) >= count, f"{guest.name} has ticked {count} times")

    def domain(self, node: HypervisorHost, guest: Guest) -> Any:
        return self.connect(node).lookupByName(guest.name)

    def runs_on(self, node: HypervisorHost, guest: Guest) -> bool:
        return guest.name in [domain.name() for domain in self.connect(node).listAllDomains()]

    def migrate(self, guest: Guest, source: HypervisorHost, target: HypervisorHost) -> None:
        flags = self._libvirt.VIR_MIGRATE_PEER2PEER | self._libvirt.VIR_MIGRATE_LIVE
        parameters = {"migrate_uri": f"tcp://{target.address}"}
        self.domain(source, guest).migrateToURI3(target.libvirt_uri, parameters, flags)

    def destroy_all(self) -> None:
        for node in self._lab.nodes.values():
            for domain in self.connect(node).listAllDomains():
                domain.destroy()
