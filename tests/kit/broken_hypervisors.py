# SPDX-License-Identifier: Apache-2.0
"""broken_hypervisors: hypervisors with one mistake each, as they are made in earnest, and the rules that they break.

Every class is the simulated hypervisor but for one method. `breaks` names the rules that have to notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar
from uuid import uuid4

from pvc_core.domain_xml import parse_domain
from pvc_core.errors import HypervisorError
from pvc_core.host_secrets import HostSecret
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
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor

Progress = Callable[[MigrationProgress], None]
Listener = Callable[[DomainEvent | None], None]


class Broken(SimulatedHypervisor):
    """The simulated hypervisor, to be broken in one method."""

    breaks: ClassVar[tuple[str, ...]] = ()
    """Rules, without "test_"."""

    def __init__(self, url: str, node: str) -> None:
        super().__init__(url, node)
        self.url = url
        self.definitions: dict[str, str] = {}

    def create(self, xml: str) -> None:
        """Remembers what it has started."""
        super().create(xml)
        self.definitions[parse_domain(xml).uuid] = xml


# --------------------------------------------------------------------------------------------------- life


class StartsAnew(Broken):
    """Takes "start" for "start again"."""

    breaks = ("a_domain_that_is_active_is_not_created_again",)

    def create(self, xml: str) -> None:
        if "<uuid>" in xml:
            self.destroy(parse_domain(xml).uuid)
        super().create(xml)


class LetsErrorsOut(Broken):
    """Lets the errors of its own libraries out."""

    breaks = ("a_definition_that_makes_no_sense_is_refused_with_a_reason",)

    def create(self, xml: str) -> None:
        try:
            super().create(xml)
        except HypervisorError as error:
            raise ValueError(error.reason) from error


class PullsThePlug(Broken):
    """Terminates a guest that should be asked."""

    breaks = ("a_stubborn_guest_runs_on_until_it_is_destroyed",)

    def shutdown(self, uuid: str) -> None:
        self.destroy(uuid)


class WantsItThere(Broken):
    """Finds fault with terminating what is gone."""

    breaks = ("shutting_down_or_destroying_what_is_gone_is_no_error",)

    def destroy(self, uuid: str) -> None:
        if uuid not in [domain.uuid for domain in self.domains()]:
            raise HypervisorError("domain not found")
        super().destroy(uuid)


class OneKindOfEnd(Broken):
    """Tells a crash as if the guest had been shut down."""

    breaks = ("a_crash_is_told_from_a_power_off_and_both_leave_room_for_a_new_start",)

    def add_listener(self, listener: Listener) -> Subscription:
        def tell(event: DomainEvent | None) -> None:
            is_crash = event is not None and event.kind is DomainEventKind.CRASHED
            listener(replace(event, kind=DomainEventKind.STOPPED) if event is not None and is_crash else event)

        return super().add_listener(tell)


class AnyEndIsAPowerOff(Broken):
    """Tells the end of a guest that was terminated as if it had powered off."""

    breaks = ("the_end_of_a_guest_that_is_terminated_is_no_power_off",)

    def add_listener(self, listener: Listener) -> Subscription:
        def tell(event: DomainEvent | None) -> None:
            is_end = event is not None and event.kind is DomainEventKind.STOPPED
            listener(replace(event, kind=DomainEventKind.POWERED_OFF) if event is not None and is_end else event)

        return super().add_listener(tell)


class MoreThanAll(Broken):
    """Takes what the host keeps for itself off its memory, and not off what is available."""

    breaks = ("the_host_tells_what_it_has",)

    def host(self) -> HostFacts:
        facts = super().host()
        return replace(facts, memory_total_mib=facts.memory_total_mib // 2)


# -------------------------------------------------------------------------------------------- connections


class TakesGuestsAlong(Broken):
    """Ends its guests when it is closed."""

    breaks = ("guests_survive_the_driver_and_the_next_one_finds_them",)

    def close(self) -> None:
        if self.connected:
            for domain in self.domains():
                self.destroy(domain.uuid)
        super().close()


class NothingRuns(Broken):
    """Takes a hypervisor that does not answer for one without guests."""

    breaks = ("while_the_hypervisor_is_away_calls_say_so_and_guests_run_on",)

    def domains(self) -> tuple[Domain, ...]:
        try:
            return super().domains()
        except HypervisorError:
            return ()


class SaysFailed(Broken):
    """Does not tell "it did not answer" from "it said no"."""

    breaks = ("while_the_hypervisor_is_away_calls_say_so_and_guests_run_on",)

    def destroy(self, uuid: str) -> None:
        try:
            super().destroy(uuid)
        except HypervisorError as error:
            raise HypervisorError(error.reason) from error


class MissesTheGap(Broken):
    """Goes on after the hypervisor was away as if nothing had happened."""

    breaks = ("events_arrive_again_after_the_hypervisor_was_away",)

    def add_listener(self, listener: Listener) -> Subscription:
        return super().add_listener(lambda event: None if event is None else listener(event))


class WantsItAtStart(Broken):
    """Fails to start while the hypervisor is away."""

    breaks = ("a_driver_that_starts_while_the_hypervisor_is_away_connects_when_it_is_there",)

    def start(self) -> None:
        super().start()
        self.domains()


# ---------------------------------------------------------------------------------------------- migration


class StartsItThere(Broken):
    """Moves a guest by ending it here and starting it there."""

    breaks = ("a_migration_moves_the_running_guest_and_tells_its_progress",)

    def migrate(self, uuid: str, target: str, max_downtime_ms: int, timeout_s: float, on_progress: Progress) -> None:
        on_progress(MigrationProgress(0, 64))
        self.destroy(uuid)
        there = SimulatedHypervisor(self.url, target)
        there.start()
        there.create(self.definitions[uuid])
        there.close()


class RunsInBothPlaces(Broken):
    """Starts the guest here again when it has arrived there."""

    breaks = ("a_migration_moves_the_running_guest_and_tells_its_progress",)

    def migrate(self, uuid: str, target: str, max_downtime_ms: int, timeout_s: float, on_progress: Progress) -> None:
        super().migrate(uuid, target, max_downtime_ms, timeout_s, on_progress)
        self.create(self.definitions[uuid])


class OneMigrationAtATime(Broken):
    """Refuses to migrate a guest while another one migrates."""

    breaks = ("guests_migrate_side_by_side",)

    def __init__(self, url: str, node: str) -> None:
        super().__init__(url, node)
        self.migrating = threading.Lock()

    def migrate(self, uuid: str, target: str, max_downtime_ms: int, timeout_s: float, on_progress: Progress) -> None:
        if not self.migrating.acquire(blocking=False):
            raise HypervisorError("a migration is under way")
        try:
            super().migrate(uuid, target, max_downtime_ms, timeout_s, on_progress)
        finally:
            self.migrating.release()


class CancelEndsTheGuest(Broken):
    """Cancels a migration by ending what is to be migrated."""

    breaks = ("a_cancelled_migration_leaves_the_guest_as_it_was_and_may_be_repeated",)

    def cancel_migration(self, uuid: str) -> None:
        super().cancel_migration(uuid)
        self.destroy(uuid)


class CancelsOnlyItsOwn(Broken):
    """Knows the migrations that this very process has begun."""

    breaks = ("the_next_daemon_sees_and_cancels_a_migration_that_it_did_not_begin",)

    def __init__(self, url: str, node: str) -> None:
        super().__init__(url, node)
        self.begun: set[str] = set()

    def migrate(self, uuid: str, target: str, max_downtime_ms: int, timeout_s: float, on_progress: Progress) -> None:
        self.begun.add(uuid)
        super().migrate(uuid, target, max_downtime_ms, timeout_s, on_progress)

    def cancel_migration(self, uuid: str) -> None:
        if uuid in self.begun:
            super().cancel_migration(uuid)


class TakesItsTime(Broken):
    """Does not look at the time that a migration may take."""

    breaks = ("a_migration_that_takes_too_long_is_given_up",)

    def migrate(self, uuid: str, target: str, max_downtime_ms: int, timeout_s: float, on_progress: Progress) -> None:
        super().migrate(uuid, target, max_downtime_ms, 3600.0, on_progress)


class OnlyWhatRuns(Broken):
    """Does not list the copy of a guest that is on its way here."""

    breaks = ("a_migration_is_seen_on_both_hosts_while_it_is_under_way",)

    def domains(self) -> tuple[Domain, ...]:
        return tuple(domain for domain in super().domains() if domain.state is DomainState.RUNNING)


class UnreachableIsGone(Broken):
    """Takes a host that does not answer for one that does not have the guest."""

    breaks = ("the_other_hosts_domains_can_be_looked_at",)

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        try:
            return super().peer_domain_state(target, uuid)
        except HypervisorError:
            return None


# -------------------------------------------------------------------------------------------------- disks


class NamesDisksItself(Broken):
    """Has aliases of its own for disks, whatever it is told."""

    breaks = (
        "a_disk_is_attached_under_the_alias_that_it_was_given",
        "a_disk_goes_with_its_guest_to_another_host_under_its_alias",
    )

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        return tuple(replace(disk, alias=f"virtio-{disk.device}") for disk in super().disks(uuid))


class ChangesDisks(Broken):
    """Takes "attach" for "have this one instead"."""

    breaks = ("a_device_is_not_attached_twice",)

    def attach_disk(self, uuid: str, xml: str) -> None:
        for disk in self.disks(uuid):
            super().detach_disk(uuid, disk.device, 0.0)
        super().attach_disk(uuid, xml)


class LetsErrorsOutOfDisks(Broken):
    """Lets the errors of its own libraries out when it is given what is no disk."""

    breaks = ("what_is_no_disk_is_refused_with_a_reason",)

    def attach_disk(self, uuid: str, xml: str) -> None:
        try:
            super().attach_disk(uuid, xml)
        except HypervisorError as error:
            raise ValueError(error.reason) from error


class DoesNotWaitForTheGuest(Broken):
    """Asks the guest to let go of a disk, and calls that done."""

    breaks = ("of_a_guest_that_does_not_let_go_it_is_said_and_it_keeps_the_disk",)

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        with suppress(HypervisorError):
            super().detach_disk(uuid, device, 0.0)


class WantsADiskThere(Broken):
    """Finds fault with detaching what is not there."""

    breaks = ("detaching_what_is_not_there_is_no_error",)

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        if device not in [disk.device for disk in self.disks(uuid)]:
            raise HypervisorError(f"no disk {device}")
        super().detach_disk(uuid, device, timeout_s)


class ForgetsToDetach(Broken):
    """Never takes a disk away."""

    breaks = ("a_disk_that_is_detached_is_gone_and_can_come_back",)

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None: ...


class NoDisksOfTheDead(Broken):
    """Says of a guest that does not run that it has no disks."""

    breaks = ("a_guest_that_does_not_run_here_has_no_disks",)

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        try:
            return super().disks(uuid)
        except HypervisorError:
            return ()


# ------------------------------------------------------------------------------------------------ secrets


class ForgetsSecrets(Broken):
    """Says yes, and keeps nothing."""

    breaks = (
        "a_secret_is_known_on_its_host_alone_and_may_be_given_again_with_another_key",
        "a_secret_ends_with_the_hypervisor_and_can_be_given_again",
    )

    def ensure_secret(self, secret: HostSecret) -> None: ...


class KeepsOldSecrets(Broken):
    """Has a secret by whatever UUID it ever had."""

    breaks = ("a_secret_replaces_the_one_that_had_its_name_and_no_other",)

    def ensure_secret(self, secret: HostSecret) -> None:
        super().ensure_secret(replace(secret, name=f"{secret.name} {uuid4()}"))


class TellsKeys(Broken):
    """Shows what it does not like."""

    breaks = ("what_is_no_key_is_refused_without_telling_it",)

    def ensure_secret(self, secret: HostSecret) -> None:
        try:
            super().ensure_secret(secret)
        except HypervisorError as error:
            raise HypervisorError(f"{error.reason}: {secret.key or 'nothing'}") from error


# -------------------------------------------------------------------------------------------------- holds


class SleepsOn(Broken):
    """Lets a guest go on only if it has stopped it itself."""

    breaks = ("what_one_has_suspended_another_lets_go_on",)

    def __init__(self, url: str, node: str) -> None:
        super().__init__(url, node)
        self.suspended: set[str] = set()

    def suspend(self, uuid: str) -> None:
        super().suspend(uuid)
        self.suspended.add(uuid)

    def resume(self, uuid: str) -> bool:
        return uuid in self.suspended and super().resume(uuid)


class Restless(Broken):
    """Says yes, and stops nothing."""

    breaks = ("a_guest_that_is_suspended_is_paused_and_goes_on_in_the_same_life",)

    def suspend(self, uuid: str) -> None:
        if uuid not in self.definitions:
            super().suspend(uuid)


class TakesASleeperForFrozen(Broken):
    """Believes that every guest has an agent."""

    breaks = ("a_guest_without_an_agent_is_not_frozen",)

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        super().freeze(uuid, timeout_s)
        return True


class InsistsOnGoingOn(Broken):
    """Takes what goes on already for a mistake."""

    breaks = (
        "to_let_go_on_what_does_is_no_error",
        "a_guest_that_is_not_there_cannot_hold_still_and_needs_not_go_on",
    )

    def resume(self, uuid: str) -> bool:
        if not super().resume(uuid):
            raise HypervisorError("it is not suspended")
        return True
