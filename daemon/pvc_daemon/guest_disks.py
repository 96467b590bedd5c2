# SPDX-License-Identifier: Apache-2.0
"""guest_disks: the volumes of this node's VMs become disks of its guests, at their start and while they run.

Each volume's backend is asked on this node, when the disk is needed: what it says may differ between nodes and days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from pvc_core import agent_disks
from pvc_core.agent_actions import AttachDisk, DetachDisk
from pvc_core.agent_memory import VmMemory
from pvc_core.disk_xml import marks_of, with_disks
from pvc_core.errors import HypervisorError, PvcError
from pvc_core.events import EventKind, Happening
from pvc_core.model import VmRecord
from pvc_core.ports import Clock, Hypervisor
from pvc_core.vm_volumes import VmVolume

log = structlog.get_logger(__name__)
DETACH_S = 10.0
"""How long a guest may take to let go of a disk; then it is asked again later, and other work is not held up."""

Learn = Callable[[Callable[[VmMemory], VmMemory]], None]
Tell = Callable[[Happening], None]
DiskOf = Callable[[VmVolume], str]
"""The `<disk>` element of a volume on this node, marked, which the hypervisor can have now; `GivingSecrets.disk_of`."""


class GuestDisks:
    """The disks of one node's guests. Thread-safe; different VMs side by side."""

    def __init__(self, node: str, hypervisor: Hypervisor, clock: Clock, disk_of: DiskOf) -> None:
        self._node = node
        self._hypervisor = hypervisor
        self._clock = clock
        self._disk_of = disk_of

    def composed(self, definition: str, record: VmRecord) -> str:
        """The domain to start: definition and a disk for each volume. Raises `HypervisorError` naming the volume."""
        wanted = [volume for volume in record.volumes if not volume.leaving]
        try:
            return with_disks(definition, [self._named_disk(volume) for volume in wanted])
        except HypervisorError:
            raise
        except PvcError as error:
            raise HypervisorError(error.sentence()) from error

    def look(self, uuid: str, learn: Learn) -> None:
        """Find out which volumes the guest has. Raises `HypervisorError`."""
        marks = marks_of(self._hypervisor.disks(uuid))
        learn(lambda m: replace(m, disks=marks))

    def change(self, action: AttachDisk | DetachDisk, record: VmRecord, learn: Learn, tell: Tell) -> None:
        """Attach or detach the volume's disk, if the record still says so; what goes wrong is told once."""
        if action.volume not in record.volumes:
            return
        mark = action.volume.mark
        try:
            self._attach_or_detach(action)
        except HypervisorError as error:
            if error.connection_lost:
                raise
            self._note_trouble(action, record, error.reason, learn, tell)
            return
        learn(lambda m: agent_disks.changed(m, mark))
        log.info("disk_changed", vm=record.name, do=type(action).__name__, volume=action.volume.title)

    def _attach_or_detach(self, action: AttachDisk | DetachDisk) -> None:
        if isinstance(action, AttachDisk):
            self._hypervisor.attach_disk(action.uuid, self._disk(action.volume))
        else:
            self._hypervisor.detach_disk(action.uuid, action.volume.device, DETACH_S)

    def _note_trouble(
        self, action: AttachDisk | DetachDisk, record: VmRecord, problem: str, learn: Learn, tell: Tell
    ) -> None:
        now_s, mark = self._clock.monotonic_s(), action.volume.mark
        known: list[bool] = []

        def note(memory: VmMemory) -> VmMemory:
            known.append(any(each.mark == mark and each.problem == problem for each in memory.troubles))
            return agent_disks.in_trouble(memory, mark, problem, now_s)

        learn(note)
        log.warning("disk_not_changed", vm=record.name, do=type(action).__name__, reason=problem)
        if not any(known):
            what = "cannot be attached" if isinstance(action, AttachDisk) else "cannot be detached"
            reason = f"{action.volume.title} ({action.volume.device}) {what}: {problem}; it is tried again"
            tell(Happening(EventKind.VM_VOLUME_FAILED, reason, record.name, record.uuid, self._node))

    def _named_disk(self, volume: VmVolume) -> str:
        try:
            return self._disk(volume)
        except HypervisorError as error:
            problem = f"volume {volume.title} ({volume.device}): {error.reason}"
            raise HypervisorError(problem, error.connection_lost) from error

    def _disk(self, volume: VmVolume) -> str:
        try:
            return self._disk_of(volume)
        except HypervisorError:
            raise
        except PvcError as error:
            raise HypervisorError(error.sentence()) from error
