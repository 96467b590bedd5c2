# SPDX-License-Identifier: Apache-2.0
"""agent_memory: what an agent remembers of a VM between two decisions, and what each thing that happens adds to it.

It is lost with the daemon. Then patience begins anew (failures, the time a guest has to power off), and how a guest
ended is not known: it has vanished, and is started again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pvc_core.model import Settings, VmRecord
from pvc_core.ports import DomainEvent, DomainEventKind, DomainState
from pvc_core.vm_states import VmEvent


@dataclass(frozen=True)
class DiskTrouble:
    """A volume whose disk could not be attached or detached: how often in a row, why, and when it is tried again."""

    mark: str
    problem: str
    failures: int
    again_s: float


@dataclass(frozen=True)
class VmMemory:
    """What the agent remembers of a VM.

    transition: of the record these notes belong to; notes of an older one do not count, except the failures and what
    is known of the guest's present or last life. asked_at_s: first request to power off; asked_last_s: the latest.
    cancel_asked_s: the latest request to break off a migration. peer: what the target's hypervisor said, and when (None
    state: not active there). live_failed: why a live migration failed in this transition, "" if not. created_s: when it
    was started in this transition. failures_s: times of failed starts and vanished domains. start_error: libvirt's
    reason of the last one. last_event: how the domain ended. was_asked: the guest was asked to power off in this life.
    ended_by: its guest powered off, it ended otherwise, or "": it lives, or nobody heard how it ended. disks: marks of
    the volumes that the guest has, with their devices; None: not known. troubles: with disks of this life of the guest.
    """

    transition: int = -1
    asked_at_s: float | None = None
    asked_last_s: float | None = None
    cancel_asked_s: float | None = None
    peer: tuple[DomainState | None, float] | None = None
    peer_error: str = ""
    live_failed: str = ""
    unrecorded_failure: str = ""
    created_s: float | None = None
    failures_s: tuple[float, ...] = ()
    start_error: str = ""
    last_event: str = ""
    was_asked: bool = False
    ended_by: Literal["guest", "other", ""] = ""
    disks: Mapping[str, str] | None = None
    troubles: tuple[DiskTrouble, ...] = ()

    @property
    def powered_itself_off(self) -> bool:
        """Its guest ended by its own will: nobody here had asked it to."""
        return self.ended_by == "guest" and not self.was_asked


NO_MEMORY = VmMemory()


def current_memory(memory: VmMemory, record: VmRecord) -> VmMemory:
    """The notes that still count for this record."""
    if memory.transition == record.transition:
        return memory
    return VmMemory(
        transition=record.transition,
        failures_s=memory.failures_s,
        start_error=memory.start_error,
        last_event=memory.last_event,
        was_asked=memory.was_asked,
        ended_by=memory.ended_by,
        disks=memory.disks,
        troubles=memory.troubles,
    )


# ----------------------------------------------------------------------------------------- what happens


def asked(memory: VmMemory, now_s: float) -> VmMemory:
    """The guest is asked to power off, perhaps not for the first time."""
    first_s = now_s if memory.asked_at_s is None else memory.asked_at_s
    return replace(memory, asked_at_s=first_s, asked_last_s=now_s, was_asked=True)


def starting(memory: VmMemory) -> VmMemory:
    """The domain is about to be created: what was known of its last life does not count any more."""
    return replace(memory, was_asked=False, ended_by="", created_s=None, disks=None, troubles=())


def created(memory: VmMemory, now_s: float) -> VmMemory:
    """The domain was created."""
    return replace(memory, created_s=now_s)


def start_failed(memory: VmMemory, record: VmRecord, reason: str, settings: Settings, now_s: float) -> VmMemory:
    """The domain could not be created; that is still to be recorded."""
    failures_s = (*memory.failures_s, now_s)
    nth = recent_count(failures_s, settings, now_s)
    text = f"start attempt {nth} of {start_limit(record, settings)} failed: {reason}"
    return replace(memory, failures_s=failures_s, start_error=reason, unrecorded_failure=text)


def heard(memory: VmMemory, event: DomainEvent) -> VmMemory:
    """The hypervisor tells of the domain."""
    match event.kind:
        case DomainEventKind.STARTED:  # also of one that has arrived from another node
            return replace(memory, ended_by="", disks=None)
        case DomainEventKind.POWERED_OFF:
            return replace(memory, ended_by="guest", last_event=event.detail or "it powered off", disks=None)
        case DomainEventKind.STOPPED:
            return replace(memory, ended_by="other", last_event=event.detail or "it was stopped", disks=None)
        case DomainEventKind.CRASHED:
            return replace(memory, ended_by="other", last_event=event.detail or "it crashed", disks=None)
        case DomainEventKind.DISKS:
            return replace(memory, disks=None)
        case DomainEventKind.OTHER:
            return memory


def recorded(memory: VmMemory, event: VmEvent, now_s: float) -> VmMemory:
    """An event of the VM stands in its record."""
    match event:
        case VmEvent.START_FAILED if memory.created_s is not None:
            error = memory.last_event or "the guest ended right after its start"
            return replace(memory, failures_s=(*memory.failures_s, now_s), created_s=None, start_error=error)
        case VmEvent.START_FAILED:
            return replace(memory, unrecorded_failure="")
        case VmEvent.GAVE_UP:
            return replace(memory, failures_s=(), unrecorded_failure="")
        case VmEvent.GONE:
            return replace(memory, failures_s=(*memory.failures_s, now_s))
        case _:
            return memory


# ---------------------------------------------------------------------------------------- how often it failed


def recent_failures(failures_s: tuple[float, ...], settings: Settings, now_s: float) -> tuple[float, ...]:
    """Those of these failures that lie within the window that ends now."""
    return tuple(at for at in failures_s if at > now_s - settings.start_failure_window_s)


def recent_count(failures_s: tuple[float, ...], settings: Settings, now_s: float) -> int:
    """How many of these failures lie within the window that ends now."""
    return len(recent_failures(failures_s, settings, now_s))


def start_limit(record: VmRecord, settings: Settings) -> int:
    """How many failures within the window are too many for this VM."""
    own = record.metadata.start_failures
    return settings.start_failures if own is None else own


def backoff_s(failures: int, settings: Settings) -> float:
    """Pause after the nth failure in a row: doubled each time, up to the longest."""
    if not failures:
        return 0.0
    return float(min(settings.start_backoff_s * 2 ** (failures - 1), settings.start_backoff_max_s))
