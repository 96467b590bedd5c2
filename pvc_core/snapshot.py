# SPDX-License-Identifier: Apache-2.0
"""snapshot: the whole cluster at one moment, immutable: what every decision is made from.

`ClusterView` builds it from the watched store; tests and offline tools build it from literals
(`pvc_core.testing.builders`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pvc_core.codec import Stored
from pvc_core.errors import BrokenRecord, NotFound
from pvc_core.model import Ledger, Member, NodeMode, NodeRecord, NodeReport, Rule, Settings, VmRecord, VmState
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.plan_record import PlanRecord
from pvc_core.vm_groups import VmGroups

EMPTY_LEDGER = Ledger()
DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True)
class NodeView:
    """All that is known of one node. `report_age_s`: by the observer's own clock, since it saw the report change."""

    record: Stored[NodeRecord]
    ledger: Stored[Ledger] | None = None
    report: Stored[NodeReport] | None = None
    member: Stored[Member] | None = None
    report_age_s: float = 0.0

    @property
    def name(self) -> str:
        return self.record.value.name

    @property
    def mode(self) -> NodeMode:
        return self.record.value.mode

    @property
    def is_alive(self) -> bool:
        """Its daemon's session exists."""
        return self.member is not None

    @property
    def reserved(self) -> Ledger:
        """The ledger, empty when nothing was ever assigned."""
        return self.ledger.value if self.ledger else EMPTY_LEDGER

    @property
    def liveness(self) -> str:
        """alive, left (stopped cleanly) or lost, for people."""
        if self.is_alive:
            return "alive"
        return "left" if self.record.value.left else "lost"


@dataclass(frozen=True)
class ClusterSnapshot:
    """Nodes and rules by name, VMs by UUID, the settings, and the records that do not parse by key."""

    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    vms: Mapping[str, Stored[VmRecord]] = field(default_factory=dict)
    rules: Mapping[str, Stored[Rule]] = field(default_factory=dict)
    rules_version: int = -1
    """Grows with every rule that is added, changed or removed; -1 where there is no store behind the snapshot."""
    plan: Stored[PlanRecord] | None = None
    """The plan that is being carried out, or the last one."""
    maintenance: Stored[MaintenanceRecord] | None = None
    """Of the whole cluster; None when there never was one."""
    settings: Settings = DEFAULT_SETTINGS
    settings_version: int = -1
    settings_data: bytes = b""
    """As they stand in the store, with what a newer version may have added."""
    broken: Mapping[str, BrokenRecord] = field(default_factory=dict)
    epoch: int | None = None
    """The leader's epoch when this process leads; its transactions check it."""

    grouped: VmGroups | None = field(default=None, repr=False, compare=False)
    """Groups of these very `vms` that somebody has made already; those of others are not used."""

    @cached_property
    def _groups(self) -> VmGroups:
        known = self.grouped
        return known if known is not None and known.vms is self.vms else VmGroups(self.vms)

    @property
    def uuid_by_name(self) -> Mapping[str, str]:
        """VM names to UUIDs."""
        return self._groups.uuid_by_name

    @property
    def vms_by_node(self) -> Mapping[str, tuple[Stored[VmRecord], ...]]:
        """The VMs for which each node is responsible, by name of the VM."""
        return self._groups.by_node

    @property
    def active_by_node(self) -> Mapping[str, tuple[Stored[VmRecord], ...]]:
        """Those of each node's VMs that are not off, in no order; nodes without any are missing."""
        return self._groups.by_active_node

    @property
    def vms_by_home(self) -> Mapping[str, tuple[Stored[VmRecord], ...]]:
        """The VMs whose home each node is, in no order."""
        return self._groups.by_home

    @property
    def vms_by_state(self) -> Mapping[VmState, tuple[Stored[VmRecord], ...]]:
        """The VMs in each state that any is in, in no order."""
        return self._groups.by_state

    @property
    def pause(self) -> Pause | None:
        """The terms of the cluster's maintenance; None when it is not in maintenance."""
        return self.maintenance.value.pause if self.maintenance else None

    @cached_property
    def arriving(self) -> Mapping[str, frozenset[str]]:
        """The UUIDs of the VMs that are on their way to each node."""
        by_target = self._groups.by_target
        return {node: frozenset(stored.value.uuid for stored in vms) for node, vms in by_target.items()}

    @cached_property
    def planned_targets(self) -> Mapping[str, str]:
        """Where the plan that is being carried out takes VMs which have not got there yet, by UUID."""
        plan = self.plan.value if self.plan else None
        if plan is None or plan.is_finished or plan.cancelled:
            return {}
        return {step.uuid: step.target for step in plan.steps if step.is_open}

    def vm(self, reference: str) -> Stored[VmRecord]:
        """The VM with this name or UUID. Raises `NotFound`, or `BrokenRecord` for one whose record does not parse."""
        uuid = self.uuid_by_name.get(reference, reference.lower())
        found = self.vms.get(uuid)
        if found is not None:
            return found
        broken = self.broken.get(f"/vms/{uuid}")
        if broken is not None:
            raise broken
        raise NotFound("VM", reference)

    def node(self, name: str) -> NodeView:
        """The node with this name. Raises `NotFound` with the known names."""
        found = self.nodes.get(name)
        if found is None:
            raise NotFound("node", name, tuple(sorted(self.nodes)))
        return found
