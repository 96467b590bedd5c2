# SPDX-License-Identifier: Apache-2.0
"""hypervisor: the driver of one libvirt host, as the node daemon sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import libvirt

from pvc_core.errors import HypervisorError
from pvc_core.host_secrets import HostSecret
from pvc_core.hypervisor_events import EventDispatcher
from pvc_core.ports import (
    Disk,
    Domain,
    DomainEvent,
    DomainEventKind,
    DomainState,
    HostFacts,
    MigrationProgress,
    Subscription,
)
from pvc_plugins.hypervisors.libvirt_driver import holds
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    LibvirtConnection,
    LibvirtDomain,
    as_hypervisor_error,
    find_domain,
    is_active,
    is_migrating_away,
    is_not_possible_now,
    session,
)
from pvc_plugins.hypervisors.libvirt_driver.connection import KeptConnection
from pvc_plugins.hypervisors.libvirt_driver.disks import DiskRemovals, attach, detach, disks_of
from pvc_plugins.hypervisors.libvirt_driver.events import LifecycleReader
from pvc_plugins.hypervisors.libvirt_driver.facts import domains_from, host_facts, statistics_of_active
from pvc_plugins.hypervisors.libvirt_driver.jobs import ForeignJobs
from pvc_plugins.hypervisors.libvirt_driver.migration import MigrationRequest, OutgoingMigration, domain_state
from pvc_plugins.hypervisors.libvirt_driver.options import filled, options_from
from pvc_plugins.hypervisors.libvirt_driver.secrets import ensure


def _same(node: str) -> str:
    return node


class LibvirtHypervisor:
    """The `Hypervisor` of host `node`, whose libvirt `url` names; `options` documents the URL.

    `peer_address` gives the address under which another node is reached, by its name.
    """

    def __init__(self, url: str, node: str, peer_address: Callable[[str], str] = _same) -> None:
        self._node = node
        self._options = options_from(url)
        self._peer_address = peer_address
        self._events = EventDispatcher(f"hypervisor-events-{node}")
        self._kept = KeptConnection(self._options.uri, self._prepare, self._list_anew, f"hypervisor-connection-{node}")
        self._lifecycle = LifecycleReader()
        self._removals = DiskRemovals()
        self._foreign_jobs = ForeignJobs(self._options.uri)
        self._changing_secrets = threading.Lock()
        self._changing_migrations = threading.Lock()
        self._migrations: dict[str, OutgoingMigration] = {}

    def start(self) -> None:
        self._events.start()
        self._kept.start()

    def close(self) -> None:
        self._kept.close()
        self._events.close()

    @property
    def connected(self) -> bool:
        return self._kept.is_connected

    def add_listener(self, listener: Callable[[DomainEvent | None], None]) -> Subscription:
        return self._events.subscribe(listener)

    # ------------------------------------------------------------------------------------------- what is

    def host(self) -> HostFacts:
        with self._kept_connection() as connection:
            return host_facts(connection, self._options)

    def domains(self) -> tuple[Domain, ...]:
        with self._kept_connection() as connection:
            statistics = statistics_of_active(connection)
            with self._changing_migrations:
                own = frozenset(self._migrations)
            active = frozenset(domain.UUIDString() for domain, _ in statistics)
            return domains_from(statistics, own | self._foreign_jobs.of(active - own))

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        with self._command() as connection:
            return disks_of(connection, uuid)

    def migration_uri(self, node: str) -> str:
        return filled(self._options.migration_uri, node, self._peer_address(node))

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        return domain_state(self.migration_uri(target), uuid)

    # -------------------------------------------------------------------------------------- what is done

    def create(self, xml: str) -> None:
        with self._command() as connection:
            connection.createXML(xml, 0)

    def shutdown(self, uuid: str) -> None:
        self._unless_gone(uuid, lambda domain: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))

    def destroy(self, uuid: str) -> None:
        self._unless_gone(uuid, lambda domain: domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT))

    def attach_disk(self, uuid: str, xml: str) -> None:
        with self._command() as connection:
            attach(connection, uuid, xml)

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        with self._command() as connection:
            detach(connection, uuid, device, timeout_s, self._removals)

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        with self._command() as connection:
            return holds.freeze(connection, uuid, timeout_s)

    def thaw(self, uuid: str, timeout_s: float) -> bool:
        with self._command() as connection:
            return holds.thaw(connection, uuid, timeout_s)

    def suspend(self, uuid: str) -> None:
        with self._command() as connection:
            holds.suspend(connection, uuid)

    def resume(self, uuid: str) -> bool:
        with self._command() as connection:
            return holds.resume(connection, uuid)

    def ensure_secret(self, secret: HostSecret) -> None:
        with self._changing_secrets, self._command() as connection:
            ensure(connection, secret)

    def migrate(
        self,
        uuid: str,
        target: str,
        max_downtime_ms: int,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        request = MigrationRequest(
            uuid=uuid,
            source_uri=self._options.uri,
            target_uri=self.migration_uri(target),
            data_uri=filled(self._options.migration_data_uri, target, self._peer_address(target)),
            bandwidth_mib_s=self._options.migration_bandwidth_mib_s,
            max_downtime_ms=max_downtime_ms,
            timeout_s=timeout_s,
        )
        migration = OutgoingMigration(request, on_progress)
        with self._changing_migrations:
            if uuid in self._migrations:
                raise HypervisorError(f"domain {uuid} is being migrated already")
            self._migrations[uuid] = migration
        try:
            migration.run()
        finally:
            with self._changing_migrations:
                del self._migrations[uuid]

    def cancel_migration(self, uuid: str) -> None:
        if self._stop_own(uuid):
            return
        with self._command() as connection:  # perhaps there is one that an earlier daemon has begun
            domain = find_domain(connection, uuid)
            if domain is None or not is_migrating_away(domain) or self._stop_own(uuid):
                return
            try:
                domain.abortJob()
            except libvirt.libvirtError as error:
                if not is_not_possible_now(error):  # as when it has just ended
                    raise

    # ---------------------------------------------------------------------------------------------- how

    def _stop_own(self, uuid: str) -> bool:
        with self._changing_migrations:
            migration = self._migrations.get(uuid)
        if migration is not None:
            migration.stop("the migration was cancelled")
        return migration is not None

    def _command(self) -> AbstractContextManager[LibvirtConnection]:
        """A connection of the command's own; see `connection`."""
        return session(self._options.uri)

    @contextmanager
    def _kept_connection(self) -> Iterator[LibvirtConnection]:
        connection = self._kept.current()
        with as_hypervisor_error(connection):
            yield connection

    def _unless_gone(self, uuid: str, act: Callable[[LibvirtDomain], object]) -> None:
        """Act on the domain; that it is not active any more is no error."""
        with self._command() as connection:
            domain = find_domain(connection, uuid)
            if domain is None:
                return
            try:
                act(domain)
            except libvirt.libvirtError as error:
                if not is_not_possible_now(error) or is_active(domain):
                    raise

    def _prepare(self, connection: LibvirtConnection) -> Sequence[int]:
        """Subscribe to the events of a new connection."""
        self._foreign_jobs.suspect_everybody()
        listeners = (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, self._on_migration_iteration),
            (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._on_job_completed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, self._on_device_added),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._on_device_removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._on_device_kept),
        )
        return [connection.domainEventRegisterAny(None, event, callback, None) for event, callback in listeners]

    def _list_anew(self) -> None:
        self._events.post(None)

    def _on_lifecycle(self, _connection: object, domain: LibvirtDomain, event: int, detail: int, _opaque: None) -> None:
        uuid = domain.UUIDString()
        migration = self._migrations.get(uuid)
        if migration is not None and event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            migration.note_switch_over()
        self._events.post(self._lifecycle.read(uuid, event, detail))

    def _on_migration_iteration(
        self, _connection: object, domain: LibvirtDomain, _iteration: int, _opaque: None
    ) -> None:
        self._foreign_jobs.suspect(domain.UUIDString())

    def _on_job_completed(self, _connection: object, domain: LibvirtDomain, _job: object, _opaque: None) -> None:
        self._events.post(DomainEvent(domain.UUIDString(), DomainEventKind.OTHER, "job completed"))

    def _on_device_added(self, _connection: object, domain: LibvirtDomain, alias: str, _opaque: None) -> None:
        self._events.post(DomainEvent(domain.UUIDString(), DomainEventKind.DISKS, f"{alias} was added"))

    def _on_device_removed(self, _connection: object, domain: LibvirtDomain, alias: str, _opaque: None) -> None:
        uuid = domain.UUIDString()
        self._removals.removed(uuid, alias)
        self._events.post(DomainEvent(uuid, DomainEventKind.DISKS, f"{alias} was removed"))

    def _on_device_kept(self, _connection: object, domain: LibvirtDomain, alias: str, _opaque: None) -> None:
        self._removals.refused(domain.UUIDString(), alias)
