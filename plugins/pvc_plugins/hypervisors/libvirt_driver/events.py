# SPDX-License-Identifier: Apache-2.0
"""events: what libvirt's lifecycle events mean for whoever supervises the domains of one host."""

from __future__ import annotations

import libvirt

from pvc_core.ports import DomainEvent, DomainEventKind

# The events and their details, by the names that an operator reads in libvirt's documentation.
_EVENT_NAMES = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: "defined",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: "undefined",
    libvirt.VIR_DOMAIN_EVENT_STARTED: "started",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "suspended",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "resumed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "stopped",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "shutdown",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "asleep",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "panicked",
}
_STOP_NAMES = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "terminated",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "the guest crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "migrated away",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU failed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: "snapshot restored",
}
_STOP_KINDS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: DomainEventKind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: DomainEventKind.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: DomainEventKind.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: DomainEventKind.CRASHED,
}


class LifecycleReader:
    """Translates one host's lifecycle events in the order in which they come.

    It remembers which domains are only arriving: a migration that is given up ends its copy on the target with the
    event of a failed QEMU, and nobody must take that for a crash of the guest. And which guests are powering off: the
    event of the end says the same when a signal has ended QEMU, as when the host shuts down.
    """

    def __init__(self) -> None:
        self._arriving: set[str] = set()
        self._powering_off: set[str] = set()

    def read(self, uuid: str, event: int, detail: int) -> DomainEvent:
        name = _EVENT_NAMES.get(event, f"event {event}")
        kind = DomainEventKind.OTHER
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            self._powering_off.discard(uuid)
            if detail == libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED:
                self._arriving.add(uuid)
                name = "arriving"
            else:
                self._arriving.discard(uuid)
                kind = DomainEventKind.STARTED
        elif event == libvirt.VIR_DOMAIN_EVENT_RESUMED and uuid in self._arriving:
            self._arriving.discard(uuid)
            kind, name = DomainEventKind.STARTED, "arrived"
        elif event == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN and detail != libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST:
            self._powering_off.add(uuid)
        elif event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            kind, name = self._end(uuid, detail)
        elif event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            kind = DomainEventKind.CRASHED
        return DomainEvent(uuid, kind, name)

    def _end(self, uuid: str, detail: int) -> tuple[DomainEventKind, str]:
        is_copy, powers_off = uuid in self._arriving, uuid in self._powering_off
        self._arriving.discard(uuid)
        self._powering_off.discard(uuid)
        if is_copy:
            return DomainEventKind.OTHER, "did not arrive"
        kind = _STOP_KINDS.get(detail, DomainEventKind.OTHER)
        if powers_off and kind is DomainEventKind.STOPPED:  # also when it was cleared away before libvirt had done so
            return DomainEventKind.POWERED_OFF, "the guest powered off"
        if detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
            return kind, "stopped: QEMU was told to end"
        return kind, f"stopped: {_STOP_NAMES.get(detail, detail)}"
