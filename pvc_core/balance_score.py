# SPDX-License-Identifier: Apache-2.0
"""balance_score: how unevenly memory and vCPUs are spread over the nodes: one number, and what a move changes of it.

The score is the population standard deviation, over the nodes in service, of the fraction of memory that is assigned
plus that of assigned vCPUs per core: 0 when all nodes are filled alike. It is Ganeti's cluster score for shared
storage, so that results can be compared. Both deviations follow from a sum and a sum of squares, and a move changes
these on two nodes only, so its effect costs the same in a cluster of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from pvc_core.empty_nodes import BY_NUMBERS
from pvc_core.model import VmState
from pvc_core.placement import Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.plan_columns import columns_of
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot


@dataclass(frozen=True)
class NodeLoads:
    """The nodes in service as columns, by name.

    used_mib, used_vcpus: of all VMs assigned to them or on the way there; the memory reserve counts as used.
    """

    nodes: tuple[str, ...]
    total_mib: tuple[int, ...]
    cores: tuple[int, ...]
    used_mib: tuple[int, ...]
    used_vcpus: tuple[int, ...]

    @property
    def score(self) -> float:
        """How unevenly they are loaded."""
        return Evenness(self).score


def loads_of(snapshot: ClusterSnapshot, placer: Placer) -> NodeLoads:
    """The loads of the nodes in service. A migrating VM counts where it will be."""
    capacities = placer.capacities(snapshot)
    columns = [
        (name, capacities[name].memory_total_mib, capacities[name].cores, *_used(snapshot, name))
        for name in in_service(snapshot, placer)
        if capacities[name].memory_total_mib > 0 and capacities[name].cores > 0
    ]
    nodes, total_mib, cores, used_mib, used_vcpus = zip(*columns, strict=True) if columns else ((),) * 5
    return NodeLoads(nodes, total_mib, cores, used_mib, used_vcpus)


def in_service(snapshot: ClusterSnapshot, placer: Placer) -> tuple[str, ...]:
    """The nodes that would take a VM without wishes if they were empty, by name."""
    anyone = PlacementRequest(vm="", uuid="", memory_mib=0, vcpus=0)
    columns = columns_of([anyone], snapshot, by_numbers(placer))
    return tuple(columns.nodes[node] for node in columns.may[0])


def by_numbers(placer: Placer) -> Placer:
    """A placer that asks only the filters whose verdict columns hold."""
    drivers = placer.drivers
    filters = {name: entry for name, entry in drivers.filters.items() if name in BY_NUMBERS}
    return Placer(GivenDrivers(filters=filters, calls=drivers.calls, options=drivers.options))


def _used(snapshot: ClusterSnapshot, name: str) -> tuple[int, int]:
    memory_mib, vcpus = snapshot.settings.memory_reserve_mib, 0
    for uuid, held in snapshot.nodes[name].reserved.vms.items():
        vm = snapshot.vms.get(uuid)
        if vm is None or vm.value.state is not VmState.MIGRATING or vm.value.target in (name, ""):
            memory_mib += held.memory_mib
            vcpus += held.vcpus
    return memory_mib, vcpus


@dataclass
class Evenness:
    """The loads while VMs move: per node the fraction of memory and vCPUs per core, and the sums over all nodes."""

    loads: NodeLoads
    memory: list[float] = field(init=False)
    cpu: list[float] = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        loads = self.loads
        self.size = len(loads.nodes)
        self.memory = [used / total for used, total in zip(loads.used_mib, loads.total_mib, strict=True)]
        self.cpu = [used / cores for used, cores in zip(loads.used_vcpus, loads.cores, strict=True)]
        self.add_up()

    def add_up(self) -> None:
        """Make the sums anew, so that errors of rounding do not pile up."""
        self.sum_memory, self.squares_memory = _sums(self.memory)
        self.sum_cpu, self.squares_cpu = _sums(self.cpu)

    @property
    def score(self) -> float:
        """How unevenly the nodes are loaded now."""
        return _score(self.size, self.sum_memory, self.squares_memory, self.sum_cpu, self.squares_cpu)

    def score_after(self, memory_mib: int, vcpus: int, source: int, target: int) -> float:
        """The score if a VM of that size went from one node to another."""
        loads, memory, cpu = self.loads, self.memory, self.cpu
        less, more = memory_mib / loads.total_mib[source], memory_mib / loads.total_mib[target]
        fewer, further = vcpus / loads.cores[source], vcpus / loads.cores[target]
        return _score(
            self.size,
            self.sum_memory - less + more,
            self.squares_memory - less * (2 * memory[source] - less) + more * (2 * memory[target] + more),
            self.sum_cpu - fewer + further,
            self.squares_cpu - fewer * (2 * cpu[source] - fewer) + further * (2 * cpu[target] + further),
        )

    def move(self, memory_mib: int, vcpus: int, source: int, target: int) -> None:
        """A VM of that size goes from one node to another."""
        self._load(-memory_mib, -vcpus, source)
        self._load(memory_mib, vcpus, target)

    def _load(self, memory_mib: int, vcpus: int, node: int) -> None:
        change, now = memory_mib / self.loads.total_mib[node], self.memory[node]
        self.sum_memory += change
        self.squares_memory += change * (2 * now + change)
        self.memory[node] = now + change
        change, now = vcpus / self.loads.cores[node], self.cpu[node]
        self.sum_cpu += change
        self.squares_cpu += change * (2 * now + change)
        self.cpu[node] = now + change


def _sums(numbers: Sequence[float]) -> tuple[float, float]:
    return sum(numbers), sum(number * number for number in numbers)


def _score(size: int, sum_memory: float, squares_memory: float, sum_cpu: float, squares_cpu: float) -> float:
    if not size:
        return 0.0
    # What is 0 comes out a little below it now and then.
    memory = size * squares_memory - sum_memory * sum_memory
    cpu = size * squares_cpu - sum_cpu * sum_cpu
    return (sqrt(memory if memory > 0 else 0.0) + sqrt(cpu if cpu > 0 else 0.0)) / size
