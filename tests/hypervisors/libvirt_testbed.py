# SPDX-License-Identifier: Apache-2.0
"""Two hosts of a lab, with real libvirtds and real QEMU guests that really migrate."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt

from pvc_core.ports import Hypervisor
from pvc_lab.guest import empty_guest
from pvc_lab.guest_image import Tick, ticks
from pvc_lab.hypervisor_host import LIBVIRT_PORT
from pvc_lab.lab import Lab
from pvc_lab.waiting import wait_for
from pvc_plugins.hypervisors.libvirt_driver import LibvirtHypervisor

SLOW_MIB_S = 1
"""About 70 MiB of a guest have to go to the other host."""
MIB = 2**20
_NOBODYS_NUMBER = 199
"""The last part of an address on the lab's network that no host has."""


class LibvirtTestbed:
    """A `HypervisorTestbed`; hosts that a test has left without libvirtd get it back, guests are ended."""

    source = "hv1"
    target = "hv2"
    unreachable = "hv3"
    deadline_s = 150.0

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._names: dict[str, str] = {}
        self._lives: defaultdict[str, set[str]] = defaultdict(set)
        self._away: set[str] = set()

    def connect(self, node: str, *, slow_migrations: bool = False) -> Hypervisor:
        options = f"migration_uri=qemu+tcp://{{address}}:{LIBVIRT_PORT}/system"
        if slow_migrations:
            options += f"&migration_bandwidth_mib_s={SLOW_MIB_S}"
        return LibvirtHypervisor(f"{self.lab.nodes[node].outside_libvirt_uri}&{options}", node, self.address)

    def address(self, node: str) -> str:
        return self.lab.nodes[node].address if node in self.lab.nodes else self.lab.network.address(_NOBODYS_NUMBER)

    def definition(self, name: str, uuid: str, *, obeys: bool = True, lets_go: bool = True) -> str:
        """One that boots nothing is asked in vain, for a disk as for anything."""
        self._names[uuid] = name
        guest = self.lab.guest(name, stubborn=not obeys) if lets_go else empty_guest(name)
        return replace(guest, uuid=UUID(uuid), console=self._console(uuid)).xml()

    def disk(self, device: str, alias: str) -> str:
        """Read-only, so that libvirt does not mind that the hosts' folder is no network file system."""
        file = self.lab.console_path("disks").with_suffix(f".{device}")
        file.touch()
        os.truncate(file, MIB)
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/>"
            f"<target dev='{device}' bus='virtio'/><readonly/><alias name='{alias}'/></disk>"
        )

    def wait_until_up(self, node: str, uuid: str) -> None:
        """Until the first tick of a life that was not seen before; earlier ones have used the same console."""

        def new_life() -> str | None:
            return next((tick.boot_id for tick in self.ticks(uuid) if tick.boot_id not in self._lives[uuid]), None)

        self._lives[uuid].add(wait_for(new_life, f"{self._names[uuid]} ticks", deadline_s=self.deadline_s))

    def ticks(self, uuid: str) -> list[Tick]:
        return ticks(self._console(uuid))

    def life_of(self, uuid: str) -> str:
        return self.ticks(uuid)[-1].boot_id

    def crash_guest(self, node: str, uuid: str) -> None:
        pid_file = f"/run/libvirt/qemu/{self._names[uuid]}.pid"
        result = self.lab.nodes[node].run(["sh", "-c", f"kill -9 $(cat {pid_file})"])
        assert result.returncode == 0, result.output

    def power_off_guest(self, node: str, uuid: str) -> None:
        with self._domain(node, uuid) as domain:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def destroy_guest(self, node: str, uuid: str) -> None:
        with self._domain(node, uuid) as domain:
            domain.destroy()

    def pause_guest(self, node: str, uuid: str) -> None:
        with self._domain(node, uuid) as domain:
            domain.suspend()

    def secrets(self, node: str) -> list[str]:
        connection = libvirt.open(self.lab.nodes[node].outside_libvirt_uri)
        try:
            return sorted(secret.UUIDString() for secret in connection.listAllSecrets())
        finally:
            connection.close()

    def take_away(self, node: str) -> None:
        self.lab.nodes[node].kill_libvirtd()
        self._away.add(node)

    def bring_back(self, node: str) -> None:
        self.lab.nodes[node].start_libvirtd()
        self._away.discard(node)

    def clear(self) -> None:
        """Leave the lab as it was found."""
        for node in tuple(self._away):
            self.bring_back(node)
        for host in self.lab.nodes.values():
            connection = libvirt.open(host.outside_libvirt_uri)
            for domain in connection.listAllDomains():
                domain.destroy()
            for secret in connection.listAllSecrets():
                secret.undefine()
            connection.close()

    @contextmanager
    def _domain(self, node: str, uuid: str) -> Iterator[Any]:
        """Straight from libvirt, around the driver."""
        connection = libvirt.open(self.lab.nodes[node].outside_libvirt_uri)
        try:
            yield connection.lookupByUUIDString(uuid)
        finally:
            connection.close()

    def _console(self, uuid: str) -> Path:
        return self.lab.console_path(uuid)
