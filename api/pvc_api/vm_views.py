# SPDX-License-Identifier: Apache-2.0
"""vm_views: VMs as the API shows them, encoded once per change of a VM and not once per reader.

A list of ten thousand VMs is the joining of fragments that are already there. A fragment depends on the stored
record, a migration's progress and the limit alone, so it is kept until one of them is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from pvc_api.views import VmPlaceView, VmView
from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.errors import BrokenRecord
from pvc_core.limits import is_outside_limit
from pvc_core.model import VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot

_ENCODER = msgspec.json.Encoder()

Listed: TypeAlias = Stored[VmRecord] | BrokenRecord


def progress_pct(record: VmRecord, snapshot: ClusterSnapshot) -> int | None:
    """How far the migration is as its source reports it; None when there is none."""
    if record.state is not VmState.MIGRATING:
        return None
    source = snapshot.nodes.get(record.node)
    return source.report.value.progress.get(record.uuid, 0) if source and source.report else 0


def view_of(record: VmRecord, version: int, progress: int | None = None, limit_violated: bool = False) -> VmView:
    """A VM as the API shows it."""
    metadata = record.metadata
    return VmView(
        uuid=record.uuid,
        name=record.name,
        state=record.state.value,
        node=record.node,
        home=record.home,
        target=record.target,
        memory_mib=record.memory_mib,
        vcpus=record.vcpus,
        held=record.held,
        kept_off=record.kept_off_by,
        permanent=record.permanent,
        cancelling=record.cancelling,
        reason=record.reason,
        changed_at=record.changed_at,
        transition=record.transition,
        version=version,
        node_limit=metadata.node_limit,
        node_selector=metadata.node_selector,
        node_autostart=metadata.node_autostart,
        migration_method=metadata.migration_method,
        max_downtime_ms=metadata.max_downtime_ms,
        recovery_policy=metadata.recovery_policy,
        priority=metadata.priority,
        shutdown_timeout_s=metadata.shutdown_timeout_s,
        on_poweroff=metadata.on_poweroff,
        start_failures=metadata.start_failures,
        relocations=metadata.relocations,
        failed_on=record.failed_on,
        held_until=metadata.held_until,
        tags=metadata.tags,
        profile=metadata.profile,
        limit_violated=limit_violated,
        progress_pct=progress,
    )


def view_in(snapshot: ClusterSnapshot, stored: Stored[VmRecord]) -> VmView:
    """A VM of a snapshot, with its migration's progress."""
    record = stored.value
    return view_of(record, stored.version, progress_pct(record, snapshot), is_outside_limit(record, snapshot))


def broken_view(broken: BrokenRecord) -> VmView:
    """A VM whose record does not parse: its UUID stands in for the name nobody can read."""
    uuid = layout.name_in(broken.key)
    return VmView(uuid=uuid, name=uuid, state="broken", problem=broken.problem, reason=broken.sentence())


def broken_vms(snapshot: ClusterSnapshot) -> list[BrokenRecord]:
    """The VM records that do not parse."""
    return [broken for key, broken in snapshot.broken.items() if key.startswith(f"{layout.VMS}/")]


def place_view(snapshot: ClusterSnapshot, record: VmRecord) -> VmPlaceView:
    """Where a VM is, belongs and goes."""
    return VmPlaceView(
        vm=record.name,
        uuid=record.uuid,
        node=record.node,
        home=record.home,
        target=record.target,
        node_limit=record.metadata.node_limit,
        limit_violated=is_outside_limit(record, snapshot),
        progress_pct=progress_pct(record, snapshot),
    )


class VmFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which VMs a list shows; an empty field does not matter. `state` may be `broken`."""

    node: str = ""
    state: str = ""
    tag: str = ""

    def accepts(self, record: VmRecord) -> bool:
        """Whether the list shows this VM."""
        return (
            (not self.node or record.node == self.node)
            and (not self.state or record.state == self.state)
            and (not self.tag or self.tag in record.metadata.tags)
        )

    @property
    def accepts_all(self) -> bool:
        """It filters nothing out."""
        return not (self.node or self.state or self.tag)

    @property
    def accepts_broken(self) -> bool:
        """Whether the list shows records that do not parse: nobody knows their node and tags."""
        return self.state == "broken" or self.accepts_all


class VmListEncoder:
    """Lists of VMs as JSON. Thread-safe: what two threads work out at once is the same."""

    def __init__(self) -> None:
        self._fragments: dict[str, tuple[Stored[VmRecord], int | None, bool, msgspec.Raw]] = {}
        self._sorted: tuple[Mapping[str, Stored[VmRecord]], list[Stored[VmRecord]]] = ({}, [])

    def encode(self, snapshot: ClusterSnapshot, wanted: VmFilter, limit: int = 0, after: str = "") -> bytes:
        """A `VmList` by name: at most `limit` (0 = all) VMs, of those whose names come after `after`."""
        vms = self._by_name(snapshot)
        listed: Sequence[Listed] = vms if wanted.accepts_all else [vm for vm in vms if wanted.accepts(vm.value)]
        if wanted.accepts_broken and snapshot.broken:
            listed = sorted([*listed, *broken_vms(snapshot)], key=_name)
        total = len(listed)
        if after:
            listed = [vm for vm in listed if _name(vm) > after]
        page = listed[:limit] if limit else listed
        return _ENCODER.encode({"vms": [self._fragment(snapshot, vm) for vm in page], "total": total})

    def _by_name(self, snapshot: ClusterSnapshot) -> list[Stored[VmRecord]]:
        """The snapshot's VMs in the order of their names; sorted once for all readers of it."""
        vms, ordered = self._sorted
        if vms is not snapshot.vms:
            ordered = sorted(snapshot.vms.values(), key=_name)
            self._sorted = (snapshot.vms, ordered)
            if len(self._fragments) > 2 * len(snapshot.vms):
                self._fragments = {uuid: kept for uuid, kept in self._fragments.items() if uuid in snapshot.vms}
        return ordered

    def _fragment(self, snapshot: ClusterSnapshot, vm: Listed) -> msgspec.Raw:
        """One VM as JSON, the same bytes as long as neither its record nor what is looked up for it changes."""
        if isinstance(vm, BrokenRecord):
            return msgspec.Raw(_ENCODER.encode(broken_view(vm)))
        progress = progress_pct(vm.value, snapshot)
        kept = self._fragments.get(vm.value.uuid)
        outside = is_outside_limit(vm.value, snapshot)
        if kept is not None and kept[0] is vm and kept[1] == progress and kept[2] == outside:
            return kept[3]
        fragment = msgspec.Raw(_ENCODER.encode(view_of(vm.value, vm.version, progress, outside)))
        self._fragments[vm.value.uuid] = (vm, progress, outside, fragment)
        return fragment


def _name(vm: Listed) -> str:
    return layout.name_in(vm.key) if isinstance(vm, BrokenRecord) else vm.value.name
