# SPDX-License-Identifier: Apache-2.0
"""Hypervisors: libvirt with QEMU/KVM, and a simulated one for machines without."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import Hypervisor, HypervisorEntry, HypervisorSite, hookimpl


def _open_libvirt(site: HypervisorSite) -> Hypervisor:
    # Imported on use: libvirt's bindings are an extra that a machine without hypervisor does not have.
    from pvc_plugins.hypervisors.libvirt_driver import LibvirtHypervisor

    return LibvirtHypervisor(site.url, site.node, site.address_of)


def _open_simulated(site: HypervisorSite) -> Hypervisor:
    from pvc_plugins.hypervisors.simulated import SimulatedHypervisor

    return SimulatedHypervisor(site.url, site.node)


@hookimpl
def pvc_hypervisors() -> Sequence[HypervisorEntry]:
    return (
        HypervisorEntry(
            "libvirt",
            "libvirt with QEMU/KVM: qemu:///system, qemu+tcp://host/system",
            _open_libvirt,
            schemes=("qemu", "libvirt"),
        ),
        HypervisorEntry("simulated", "simulated guests on one machine: simulated:///path", _open_simulated),
    )
