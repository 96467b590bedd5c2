# SPDX-License-Identifier: Apache-2.0
"""hypervisor: the driver of one simulated host, as the node daemon sees it.

Several daemons on one machine, each with its own host, share the world in one folder; see `world` for why their
guests outlive them.
"""

from __future__ import annotations

import math
import time
import uuid as uuids
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pvc_core.disk_xml import device_of, disks_in, with_disks, without_disk
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import HypervisorError, InvalidInput
from pvc_core.host_secrets import HostSecret
from pvc_core.hypervisor_events import EventDispatcher, tell_progress
from pvc_core.ports import Disk, Domain, DomainEvent, DomainState, HostFacts, MigrationProgress, Subscription
from pvc_plugins.hypervisors.simulated import holds
from pvc_plugins.hypervisors.simulated.console import GuestConsole, console_of
from pvc_plugins.hypervisors.simulated.guest import GuestBehaviour, behaviour_of
from pvc_plugins.hypervisors.simulated.moment import Moment
from pvc_plugins.hypervisors.simulated.options import options_from
from pvc_plugins.hypervisors.simulated.rows import Happening, Phase, SimulatedDomain
from pvc_plugins.hypervisors.simulated.watcher import WorldWatcher
from pvc_plugins.hypervisors.simulated.world import World

_POLL_INTERVAL_S = 0.01
_CPU_SHARE = 0.05  # of one core, per running guest

_STATES = {
    Phase.STARTING: DomainState.PAUSED,
    Phase.RUNNING: DomainState.RUNNING,
    Phase.INCOMING: DomainState.PAUSED,
}


class SimulatedHypervisor:
    """The `Hypervisor` of host `node` in the world that `url` names; `options` documents the URL."""

    def __init__(self, url: str, node: str) -> None:
        self._node = node
        self._options = options_from(url)
        self._world = World(self._options.folder)
        self._events = EventDispatcher(f"simulated-events-{node}")
        self._watcher = WorldWatcher(World(self._options.folder), node, self._events.post)

    def start(self) -> None:
        self._world.open()
        with self._world.changing() as moment:
            moment.add_host(self._node)
        self._events.start()
        self._watcher.start()

    def close(self) -> None:
        self._watcher.close()
        self._events.close()
        self._world.close()

    @property
    def connected(self) -> bool:
        return self._watcher.is_connected

    def add_listener(self, listener: Callable[[DomainEvent | None], None]) -> Subscription:
        return self._events.subscribe(listener)

    # ------------------------------------------------------------------------------------------- what is

    def host(self) -> HostFacts:
        with self._looking() as moment:
            domains = moment.domains(node=self._node)
            load_1m = moment.load_1m(self._node)
        if load_1m is None:
            load_1m = self._options.load_1m
        if load_1m is None:
            load_1m = sum(domain.vcpus for domain in domains if domain.phase is Phase.RUNNING) / 10
        return HostFacts(
            memory_total_mib=self._options.memory_mib,
            memory_available_mib=max(0, self._options.memory_mib - sum(domain.memory_mib for domain in domains)),
            cores=self._options.cores,
            load_1m=load_1m,
            hypervisor_version="simulated 1",
        )

    def domains(self) -> tuple[Domain, ...]:
        with self._looking() as moment:
            leaving = {migration.uuid for migration in moment.migrations() if migration.source == self._node}
            return tuple(
                Domain(
                    uuid=domain.uuid,
                    name=domain.name,
                    state=_state_of(domain),
                    memory_mib=domain.memory_mib,
                    vcpus=domain.vcpus,
                    cpu_time_ns=int((moment.now - domain.booted_at) * _CPU_SHARE * 1e9),
                    job_active=domain.uuid in leaving,
                    paused_by_migration=domain.phase is Phase.INCOMING,
                )
                for domain in moment.domains(node=self._node)
            )

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        with self._looking() as moment:
            return disks_in(self._active(moment, uuid).xml)

    def migration_uri(self, node: str) -> str:
        return f"simulated://{node}"

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        with self._world.looking() as moment:
            if not moment.host_exists(target) or moment.is_away(target):
                raise HypervisorError(f"the hypervisor of {target} does not answer", connection_lost=True)
            domain = moment.domain(target, uuid)
        return None if domain is None else _state_of(domain)

    # -------------------------------------------------------------------------------------- what is done

    def create(self, xml: str) -> None:
        domain, behaviour = _read(xml, self._node)
        with self._changing() as moment:
            problem = self._try_to_create(moment, domain, behaviour)
        if problem:  # raised out here, so that the failure is counted and remembered
            raise HypervisorError(problem)
        while True:
            with self._looking() as moment:
                created = moment.domain(self._node, domain.uuid)
            if created is None or created.boot_id != domain.boot_id:
                raise HypervisorError(f"domain '{domain.name}' ended while it was starting")
            if created.phase is not Phase.STARTING:
                return
            time.sleep(_POLL_INTERVAL_S)

    def shutdown(self, uuid: str) -> None:
        with self._changing() as moment:
            domain = moment.domain(self._node, uuid)
            if domain is None:
                return
            behaviour = behaviour_of(domain.xml)
            begins_at = domain.runs_at or moment.now  # a guest that boots obeys when it is up
            moment.ask_shutdown(domain, None if behaviour.ignores_shutdown else begins_at + behaviour.shutdown_s)

    def destroy(self, uuid: str) -> None:
        with self._changing() as moment:
            domain = moment.domain(self._node, uuid)
            if domain is not None:
                moment.end(domain, Happening.DESTROYED)

    def attach_disk(self, uuid: str, xml: str) -> None:
        with self._changing() as moment:
            domain = self._active(moment, uuid)
            try:
                changed = replace(domain, xml=with_disks(domain.xml, [xml]))
            except InvalidInput as error:
                raise HypervisorError(f"XML error: {error}") from error
            moment.put(changed, Happening.DISK_ATTACHED, device_of(xml))

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        ends_at = self._world.now() + timeout_s
        while True:
            with self._changing() as moment:
                domain = self._active(moment, uuid)
                if device not in [disk.device for disk in disks_in(domain.xml)]:
                    return
                if not behaviour_of(domain.xml).keeps_disks:
                    moment.put(replace(domain, xml=without_disk(domain.xml, device)), Happening.DISK_DETACHED, device)
                    return
            if self._world.now() >= ends_at:
                raise HypervisorError(f"the guest has not let go of {device} within {timeout_s:g} s")
            time.sleep(_POLL_INTERVAL_S)

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        with self._changing() as moment:
            return holds.freeze(moment, self._active(moment, uuid))

    def thaw(self, uuid: str, timeout_s: float) -> bool:
        with self._changing() as moment:
            domain = moment.domain(self._node, uuid)
            return domain is not None and holds.thaw(moment, domain)

    def suspend(self, uuid: str) -> None:
        with self._changing() as moment:
            holds.suspend(moment, self._active(moment, uuid))

    def resume(self, uuid: str) -> bool:
        with self._changing() as moment:
            domain = moment.domain(self._node, uuid)
            return domain is not None and holds.resume(moment, domain)

    def ensure_secret(self, secret: HostSecret) -> None:
        try:
            secret.decoded()
        except InvalidInput as error:
            raise HypervisorError(str(error)) from error
        with self._changing() as moment:
            moment.keep_secret(self._node, secret.uuid, secret.kind, secret.name)

    def migrate(
        self,
        uuid: str,
        target: str,
        max_downtime_ms: int,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        ends_at = self._world.now() + timeout_s
        with self._changing() as moment:
            domain = self._domain_to_migrate(moment, uuid, target)
            behaviour = behaviour_of(domain.xml)
            takes_s = self._options.migrate_s if behaviour.migrate_s is None else behaviour.migrate_s
            will_fail = moment.failure_count(uuid, "migrate") < behaviour.migrate_failures
            if will_fail:
                moment.count_failure(uuid, "migrate")
            fails_at = moment.now + takes_s / 2 if will_fail else None
            converges = max_downtime_ms >= behaviour.needs_downtime_ms
            arrives_at = moment.now + takes_s if converges else math.inf
            migration_id = moment.begin_migration(domain, target, arrives_at, fails_at)
        self._follow(migration_id, domain, ends_at, timeout_s, on_progress)

    def cancel_migration(self, uuid: str) -> None:
        with self._changing() as moment:
            migration = moment.migration_of(uuid, self._node)
            if migration is not None:
                moment.fail_migration(migration, "the migration was cancelled")

    def console(self, uuid: str) -> GuestConsole:
        """What the guest's screen shows; `HypervisorError` when it does not run here."""
        with self._looking() as moment:
            domain = moment.domain(self._node, uuid)
            if domain is None or domain.phase is Phase.INCOMING:
                raise HypervisorError(f"no domain {uuid} runs on {self._node}")
            return console_of(domain, moment.now)

    # ---------------------------------------------------------------------------------------------- how

    def _active(self, moment: Moment, uuid: str) -> SimulatedDomain:
        domain = moment.domain(self._node, uuid)
        if domain is None:
            raise HypervisorError(f"no domain {uuid} runs on {self._node}")
        return domain

    def _try_to_create(self, moment: Moment, domain: SimulatedDomain, behaviour: GuestBehaviour) -> str:
        """Begin the start; or the reason why it fails, which is remembered."""
        for other in moment.domains(node=self._node):
            if other.uuid == domain.uuid:
                raise HypervisorError(f"domain '{other.name}' is active already with UUID {other.uuid}")
            if other.name == domain.name:
                raise HypervisorError(f"domain '{other.name}' is active already with another UUID, {other.uuid}")
        problem = ""
        if behaviour.starts_only_on not in ("", self._node):
            problem = f"simulated start failure: starts only on {behaviour.starts_only_on}"
        elif moment.failure_count(domain.uuid, "start") < behaviour.start_failures:
            count = moment.count_failure(domain.uuid, "start")
            problem = f"simulated start failure {count} of {behaviour.start_failures}"
        if problem:
            moment.record(self._node, domain.uuid, domain.name, Happening.START_FAILED, problem)
            return problem
        boot_s = self._options.boot_s if behaviour.boot_s is None else behaviour.boot_s
        runs_at = moment.now + boot_s
        crashes_at = None if behaviour.crashes_after_s is None else runs_at + behaviour.crashes_after_s
        timed = replace(domain, booted_at=moment.now, runs_at=runs_at, crashes_at=crashes_at)
        moment.put(timed, Happening.CREATED)
        return ""

    def _domain_to_migrate(self, moment: Moment, uuid: str, target: str) -> SimulatedDomain:
        domain = moment.domain(self._node, uuid)
        if domain is None or domain.phase is not Phase.RUNNING:
            raise HypervisorError(f"domain {uuid} does not run on {self._node}")
        if moment.migration_of(uuid, self._node) is not None:
            raise HypervisorError(f"domain '{domain.name}' is being migrated already")
        if not moment.host_exists(target) or moment.is_away(target):
            raise HypervisorError(f"unable to connect to the hypervisor of {target}")
        if target == self._node:
            raise HypervisorError(f"domain '{domain.name}' cannot be migrated to the host it is on")
        if moment.domain(target, uuid) is not None:
            raise HypervisorError(f"domain '{domain.name}' is active already on {target}")
        return domain

    def _follow(
        self,
        migration_id: int,
        domain: SimulatedDomain,
        ends_at: float,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        """Report the migration's progress until it has ended; raise when it did not arrive."""
        while True:
            with self._looking() as moment:
                migration = moment.migration(migration_id)
            if migration is None:
                raise HypervisorError("the simulated world was removed", connection_lost=True)
            if migration.outcome is not None:
                break
            if moment.now >= ends_at:
                with self._changing() as moment:
                    still = moment.migration(migration_id)
                    if still is not None and still.outcome is None:
                        moment.fail_migration(still, f"the migration took longer than {timeout_s:g} s")
                continue
            done = (moment.now - migration.began_at) / max(migration.arrives_at - migration.began_at, 1e-9)
            progress = MigrationProgress(int(100 * done), int(domain.memory_mib * (1 - done)))
            tell_progress(on_progress, domain.uuid, progress)
            time.sleep(_POLL_INTERVAL_S)
        if migration.outcome:
            raise HypervisorError(migration.outcome)

    @contextmanager
    def _looking(self) -> Iterator[Moment]:
        with self._world.looking() as moment:
            self._refuse_when_away(moment)
            yield moment

    @contextmanager
    def _changing(self) -> Iterator[Moment]:
        with self._world.changing() as moment:
            self._refuse_when_away(moment)
            yield moment

    def _refuse_when_away(self, moment: Moment) -> None:
        if moment.is_away(self._node):
            raise HypervisorError(f"the hypervisor of {self._node} does not answer", connection_lost=True)


def _state_of(domain: SimulatedDomain) -> DomainState:
    return DomainState.PAUSED if domain.is_suspended else _STATES[domain.phase]


def _read(xml: str, node: str) -> tuple[SimulatedDomain, GuestBehaviour]:
    """A domain with a new boot ID, which has no times yet, and how its guest will behave."""
    try:
        definition = parse_domain(xml)
        behaviour = behaviour_of(xml)
    except InvalidInput as error:
        raise HypervisorError(f"XML error: {error}") from error
    domain = SimulatedDomain(
        node=node,
        uuid=definition.uuid or str(uuids.uuid4()),
        name=definition.name,
        xml=xml,
        memory_mib=definition.memory_mib,
        vcpus=definition.vcpus,
        phase=Phase.STARTING,
        boot_id=str(uuids.uuid4()),
        booted_at=0.0,
    )
    return domain, behaviour
