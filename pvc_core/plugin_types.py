# SPDX-License-Identifier: Apache-2.0
"""plugin_types: what a plugin gets to see and what it hands back: typed entries, requests and answers.

Drivers are chosen by name: a registration hook returns entries, the core calls the Protocol inside. Requests
are frozen objects that may grow fields; a Protocol's signature never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from pvc_core.model import NodeMode, Settings, VmMetadata, VmRecord
from pvc_core.ports import ClusterStore, Hypervisor

if TYPE_CHECKING:
    from pvc_core.domain_xml import DomainDefinition

NO_LABELS: Mapping[str, str] = MappingProxyType({})
NO_STORAGE: Mapping[str, str] = MappingProxyType({})
NO_METADATA = VmMetadata()


@dataclass(frozen=True)
class ConfigSection:
    """The options that a plugin has, each half a struct or None: frozen, every field documented and with a default.

    machine: what differs between machines, from `[plugin.<name>]` of the configuration file; passwords belong here.
    cluster: what is the same everywhere, changed by `pvc cluster settings <name>.<field>=...`; each field one value
    (or a list of them) that can be written on a command line, and readable by everybody with a token.
    """

    machine: type[msgspec.Struct] | None = None
    cluster: type[msgspec.Struct] | None = None


@dataclass(frozen=True)
class PluginOptions:
    """What is configured for one plugin, as the frozen structs that it declared with `pvc_config_section`.

    machine: this machine's, from the configuration file. cluster: the same everywhere, from the store. None: the
    plugin has not declared any, or, for `cluster`, the hook is called while no cluster is known yet.
    """

    machine: Any = None
    cluster: Any = None


NO_OPTIONS = PluginOptions()


@dataclass(frozen=True)
class RuleVerdict:
    """What the cluster's rules say of the nodes for one VM; of a node that is not named they say nothing.

    rejected: nodes that a hard rule forbids, with the reason. preferences: points for (above 0) or against a node;
    they come before what the selector says. preferred_by: the names of the rules that gave points.
    """

    rejected: Mapping[str, str] = field(default_factory=dict)
    preferences: Mapping[str, float] = field(default_factory=dict)
    preferred_by: tuple[str, ...] = ()


NO_RULES = RuleVerdict()


class StorageNeed(NamedTuple):
    """Storage that a VM has volumes on: a backend, and the host on whose own storage they lie; "" if all reach it."""

    backend: str
    node: str


@dataclass(frozen=True)
class PlacementRequest:
    """The VM that wants a place. `current_node` is where it is now ("" for a new one)."""

    vm: str
    uuid: str
    memory_mib: int
    vcpus: int
    metadata: VmMetadata = NO_METADATA
    current_node: str = ""
    exclude: frozenset[str] = frozenset()
    """Nodes that must not be chosen this time, such as the one being flushed."""
    accept_unflushing: bool = False
    """A node on its way back into service counts as ready: for the VMs that return to it."""
    storage: tuple[StorageNeed, ...] = ()
    """What the VM has volumes on, each once, sorted."""
    options: PluginOptions = NO_OPTIONS
    """What is configured for the plugin that is asked."""
    rules: RuleVerdict = field(default=NO_RULES, hash=False)
    """What the cluster's rules say; the filter `rules` turns it into rejections."""

    @classmethod
    def for_vm(
        cls, vm: VmRecord, exclude: frozenset[str] = frozenset(), accept_unflushing: bool = False
    ) -> PlacementRequest:
        """The request of a VM that has a record; a node in `exclude` is not chosen, also if the VM is there."""
        return cls(
            vm=vm.name,
            uuid=vm.uuid,
            memory_mib=vm.memory_mib,
            vcpus=vm.vcpus,
            metadata=vm.metadata,
            current_node=vm.node,
            exclude=exclude,
            accept_unflushing=accept_unflushing,
            storage=storage_needs(vm),
        )


def storage_needs(vm: VmRecord) -> tuple[StorageNeed, ...]:
    """What a VM has volumes on, each once, sorted."""
    if not vm.volumes:
        return ()
    return tuple(sorted({StorageNeed(each.backend, each.node) for each in vm.volumes if not each.leaving}))


class NodeCapacity(msgspec.Struct, frozen=True, gc=False):
    """One node as placement sees it for one request, planned moves included, the VM asked about left out.

    All figures in MiB, vCPUs, physical cores. A plugin cannot change it.

    assigned_*: everything in the ledger, running or not, arriving VMs included. running_mib: the part of
    assigned_mib that runs here already. report_age_s: None when no report was ever seen; then memory, cores and
    load are 0. coming_vcpus: vCPUs that `load_1m` cannot show yet: VMs that are arriving, starting or planned.
    storage: the node's storage backends, by name, with why each is not usable there, "" where it is, as far as known.
    problem: what makes these figures unreliable, such as a ledger that does not parse; "" normally.
    """

    name: str
    mode: NodeMode
    alive: bool
    left: bool
    fenced: bool
    maintenance: bool
    memory_total_mib: int
    memory_available_mib: int
    cores: int
    load_1m: float
    assigned_mib: int
    running_mib: int
    assigned_vcpus: int
    assigned_vms: int
    report_age_s: float | None
    hypervisor_connected: bool = True
    labels: Mapping[str, str] = NO_LABELS
    coming_vcpus: int = 0
    problem: str = ""
    storage: Mapping[str, str] = NO_STORAGE

    @property
    def free_mib(self) -> int:
        """What the host has available once everything assigned to it runs; negative when it has too little."""
        return self.memory_available_mib - (self.assigned_mib - self.running_mib)


@dataclass(frozen=True)
class Rejection:
    """A node that may not take the VM, why, and which filter says so."""

    node: str
    reason: str
    plugin: str


class Filter(Protocol):
    """Says which nodes may never take the VM."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        """Rejected node names with the reason; nodes not named pass.

        The reason continues the sentence "hv1: ...", with the numbers that decided:
        "needs 3000 MiB, 1200 MiB are free of 4096 (512 in reserve)".
        """


class Selector(Protocol):
    """Scores all candidates at once: the highest wins."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        """A finite number for every candidate, by node name; larger is better. The core normalises and breaks ties."""


class RecoveryPolicy(Protocol):
    """Decides what becomes of a VM for which no candidate is left when its node is drained."""

    def without_candidate(self, request: PlacementRequest) -> str:
        """Either "hold" (shut down, start again when home is ready) or "stay" (leave it where it is)."""


@runtime_checkable
class LossPolicy(Protocol):
    """What a recovery policy may say besides: what becomes of a VM whose node is known to be off."""

    def after_loss(self, request: PlacementRequest) -> str:
        """Whether the VM starts on another node.

        "restart" (held when no node can take it; what a policy without this method means), "hold" (off, and started
        again when its home is ready), or "stop" (off until it is started by command).
        """


@dataclass(frozen=True)
class SelectorEntry:
    """A selector by name; `summary` completes the sentence "the best node has ...": "the most free memory".

    depends_on_node_only: a promise: the score of a node follows from that node's `NodeCapacity` and from nothing else,
    neither the request nor the other candidates, so that of thousands of nodes only those that have changed are
    scored again. plugin, here and in the other entries: the plugin it came from; the registry fills it in.
    """

    name: str
    summary: str
    selector: Selector
    plugin: str = ""
    depends_on_node_only: bool = False


@dataclass(frozen=True)
class FilterEntry:
    """A filter by name. All registered filters are asked, always.

    fail_closed: what its failure (an exception, an answer that is no mapping) means. False: placement goes on
    without it and the decision is degraded, so that a broken plugin never stops a recovery. True: no node
    passes until it works again, for rules whose violation is worse than a VM that stays down.
    """

    name: str
    summary: str
    filter: Filter
    fail_closed: bool = False
    plugin: str = ""


@dataclass(frozen=True)
class RecoveryPolicyEntry:
    """A recovery policy by name."""

    name: str
    summary: str
    policy: RecoveryPolicy
    plugin: str = ""


@dataclass(frozen=True)
class StoreEntry:
    """A store driver; `open` builds it from the URL without connecting. `schemes`: of its URLs, empty = `name`."""

    name: str
    summary: str
    open: Callable[[str], ClusterStore]
    schemes: tuple[str, ...] = ()
    plugin: str = ""


@dataclass(frozen=True)
class HypervisorSite:
    """Where a hypervisor driver works: its URL, the node's name, and how other nodes are addressed."""

    url: str
    node: str
    address_of: Callable[[str], str]
    """A node's name to the address its record names, or the name itself."""


@dataclass(frozen=True)
class HypervisorEntry:
    """A hypervisor driver; `open` builds it without connecting. `schemes`: its URLs' schemes, empty = `name`.

    A scheme covers its transports: "qemu" also `qemu+tcp://host/system`.
    """

    name: str
    summary: str
    open: Callable[[HypervisorSite], Hypervisor]
    schemes: tuple[str, ...] = ()
    plugin: str = ""


@dataclass(frozen=True)
class VmProposal:
    """A VM as it would be after a define, a new definition, a rename or changed metadata; nothing is written yet.

    definition: what its libvirt XML says, with the name it would have. previous: its record so far, None when new.
    """

    definition: DomainDefinition
    metadata: VmMetadata
    previous: VmRecord | None = None
