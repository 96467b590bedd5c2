# SPDX-License-Identifier: Apache-2.0
"""agent_disks: which disk a guest is to get or to let go of next, so that it has the volumes of its VM's record.

The hypervisor is asked for a guest's disks once per life and after each change, not at every look: the answer costs a
description of the whole domain. A volume on its way out stays the VM's until the guest has let go of it, or has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pvc_core.agent_actions import Action, AttachDisk, DetachDisk, LetGo, LookAtDisks
from pvc_core.agent_memory import DiskTrouble, VmMemory
from pvc_core.model import VmRecord
from pvc_core.vm_volumes import VmVolume

TRY_AGAIN_S = 5.0
"""Pause after a disk could not be attached or detached; doubled each time, up to the longest."""
TRY_AGAIN_MAX_S = 60.0

DiskStep = tuple[Action | None, float | None]
_NOTHING: DiskStep = (None, None)


@dataclass(frozen=True)
class _Due:
    """What is to be done about one volume, and when."""

    action: AttachDisk | DetachDisk
    at_s: float


def disks_of_running(record: VmRecord, memory: VmMemory, now_s: float) -> DiskStep:
    """What a guest that runs needs: the action, or when to look again."""
    if not record.volumes:
        return _NOTHING
    if memory.disks is None:
        return LookAtDisks(record.uuid, "which of its volumes the guest has is not known"), None
    gone = tuple(volume for volume in record.volumes if volume.leaving and volume.mark not in memory.disks)
    if gone:
        return LetGo(record.uuid, gone, f"the guest has let go of {_titles(gone)}"), None
    due = sorted(_due(record, memory, now_s), key=lambda each: each.at_s)
    if not due:
        return _NOTHING
    return (due[0].action, None) if due[0].at_s <= now_s else (None, due[0].at_s)


def disks_of_ended(record: VmRecord) -> Action | None:
    """What is left to do about the disks of a guest that does not run."""
    gone = tuple(volume for volume in record.volumes if volume.leaving)
    return LetGo(record.uuid, gone, f"the guest has ended, and with it its use of {_titles(gone)}") if gone else None


def _due(record: VmRecord, memory: VmMemory, now_s: float) -> Iterator[_Due]:
    """Detaching comes first: it may free what is wanted by another."""
    disks = memory.disks or {}
    again_s = {trouble.mark: trouble.again_s for trouble in memory.troubles}
    for volume in record.volumes:
        at_s = again_s.get(volume.mark, now_s)
        if volume.leaving:
            yield _Due(DetachDisk(record.uuid, volume, f"{volume.title} is no volume of it any more"), at_s)
    for volume in record.volumes:
        at_s = again_s.get(volume.mark, now_s)
        if not volume.leaving and volume.mark not in disks:
            yield _Due(AttachDisk(record.uuid, volume, f"{volume.title} is a volume of it"), at_s)


def in_trouble(memory: VmMemory, mark: str, problem: str, now_s: float) -> VmMemory:
    """A disk could not be attached or detached."""
    before = next((trouble for trouble in memory.troubles if trouble.mark == mark), None)
    failures = before.failures + 1 if before else 1
    pause_s = min(TRY_AGAIN_S * 2 ** min(failures - 1, 10), TRY_AGAIN_MAX_S)
    trouble = DiskTrouble(mark, problem, failures, now_s + pause_s)
    others = tuple(each for each in memory.troubles if each.mark != mark)
    return replace(memory, troubles=(*others, trouble), disks=None)


def changed(memory: VmMemory, mark: str) -> VmMemory:
    """A disk was attached or detached: look again."""
    return replace(memory, troubles=tuple(each for each in memory.troubles if each.mark != mark), disks=None)


def volumes_seen(record: VmRecord, memory: VmMemory) -> dict[str, str]:
    """Of each volume, by its id, that the guest has or that makes trouble: what is wrong, "" if nothing is."""
    troubles = {trouble.mark: trouble.problem for trouble in memory.troubles}
    known = {*(memory.disks or ()), *troubles}
    return {volume.id: troubles.get(volume.mark, "") for volume in record.volumes if volume.mark in known}


def _titles(volumes: Iterable[VmVolume]) -> str:
    return ", ".join(volume.title for volume in volumes)
