# SPDX-License-Identifier: Apache-2.0
"""facts: what libvirt's statistics say of a host and of its domains, in PVC's words and units."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import libvirt

from pvc_core.ports import Domain, HostFacts
from pvc_plugins.hypervisors.libvirt_driver.bindings import LibvirtConnection, LibvirtDomain, state_from
from pvc_plugins.hypervisors.libvirt_driver.options import LibvirtOptions

_KIB_PER_MIB = 1024
_MEMINFO = Path("/proc/meminfo")

# NOWAIT: without figures of a domain whose QEMU is busy rather than without an answer.
_STATISTICS_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_STATISTICS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_VCPU
)

DomainStatistics = tuple[LibvirtDomain, dict[str, Any]]


def statistics_of_active(connection: LibvirtConnection) -> list[DomainStatistics]:
    """All active domains, in one call."""
    return connection.getAllDomainStats(_STATISTICS, _STATISTICS_FLAGS)


def domains_from(statistics: Iterable[DomainStatistics], migrating_away: Container[str]) -> tuple[Domain, ...]:
    """As PVC lists them; one that went off while libvirt made the list is left out."""
    found = []
    for domain, values in statistics:
        state = state_from(values.get("state.state", libvirt.VIR_DOMAIN_NOSTATE))
        if state is None:
            continue
        uuid = domain.UUIDString()
        found.append(
            Domain(
                uuid=uuid,
                name=domain.name(),
                state=state,
                memory_mib=_memory_mib(values),
                vcpus=values.get("vcpu.maximum", 0),
                cpu_time_ns=values.get("cpu.time", 0),
                job_active=uuid in migrating_away,
                paused_by_migration=(
                    values.get("state.state") == libvirt.VIR_DOMAIN_PAUSED
                    and values.get("state.reason") == libvirt.VIR_DOMAIN_PAUSED_MIGRATION
                ),
            )
        )
    return tuple(found)


def host_facts(connection: LibvirtConnection, options: LibvirtOptions) -> HostFacts:
    """The host, or the share of it that the options give to this hypervisor."""
    _model, _memory_mib_of_info, _cpus, _mhz, numa_nodes, sockets, cores, _threads = connection.getInfo()
    memory_kib = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    if options.memory_mib:
        given_mib = sum(_memory_mib(values) for _, values in statistics_of_active(connection))
        total_mib, available_mib = options.memory_mib, max(0, options.memory_mib - given_mib)
    else:
        total_mib = memory_kib["total"] // _KIB_PER_MIB
        available_mib = min(total_mib, _available_kib(memory_kib, options.is_local) // _KIB_PER_MIB)
    return HostFacts(
        memory_total_mib=total_mib,
        memory_available_mib=available_mib,
        cores=options.cores or numa_nodes * sockets * cores,
        load_1m=os.getloadavg()[0],
        hypervisor_version=_version(connection),
    )


def _memory_mib(values: dict[str, Any]) -> int:
    return int(-(-values.get("balloon.maximum", 0) // _KIB_PER_MIB))


def _available_kib(memory_kib: dict[str, int], is_local: bool) -> int:
    """The kernel's own estimate, which libvirt does not have; from a distance, what comes close to it."""
    if is_local and _MEMINFO.exists():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1])
    return memory_kib.get("free", 0) + memory_kib.get("buffers", 0) + memory_kib.get("cached", 0)


def _version(connection: LibvirtConnection) -> str:
    hypervisor, library = connection.getVersion(), connection.getLibVersion()
    return f"{connection.getType()} {_dotted(hypervisor)}, libvirt {_dotted(library)}"


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
