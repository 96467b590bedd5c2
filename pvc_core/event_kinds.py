# SPDX-License-Identifier: Apache-2.0
"""event_kinds: what events are about, what each kind means, and how much a person should care."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class EventKind(enum.StrEnum):
    """What an event is about. A reader takes kinds it does not know for what they are: newer."""

    VM_DEFINED = "vm_defined"
    VM_CHANGED = "vm_changed"
    VM_RENAMED = "vm_renamed"
    VM_UNDEFINED = "vm_undefined"
    VM_UNDEFINED_BY_FORCE = "vm_undefined_by_force"
    VM_LEFTOVER_GONE = "vm_leftover_gone"
    VM_STARTING = "vm_starting"
    VM_STARTED = "vm_started"
    VM_START_FAILED = "vm_start_failed"
    VM_FAILED = "vm_failed"
    VM_ENDED = "vm_ended"
    VM_SHUTTING_DOWN = "vm_shutting_down"
    VM_RESTARTING = "vm_restarting"
    VM_STOPPED = "vm_stopped"
    VM_DISABLED = "vm_disabled"
    VM_MIGRATING = "vm_migrating"
    VM_MIGRATION_CANCELLED = "vm_migration_cancelled"
    VM_MIGRATION_FAILED = "vm_migration_failed"
    VM_MIGRATED = "vm_migrated"
    VM_MOVED = "vm_moved"
    VM_HELD = "vm_held"
    VM_TERMINATED = "vm_terminated"
    VM_STAYED = "vm_stayed"
    VM_RECOVERING = "vm_recovering"
    VM_RETRIED = "vm_retried"
    VM_SETTLED = "vm_settled"
    VM_VOLUME_ADDED = "vm_volume_added"
    VM_VOLUME_REMOVED = "vm_volume_removed"
    VM_VOLUME_RELEASED = "vm_volume_released"
    VM_VOLUME_RENAMING = "vm_volume_renaming"
    VM_VOLUME_RENAMED = "vm_volume_renamed"
    VM_VOLUME_FAILED = "vm_volume_failed"
    VOLUME_DELETED = "volume_deleted"
    VM_SNAPSHOT_BEGUN = "vm_snapshot_begun"
    VM_SNAPSHOT_TAKEN = "vm_snapshot_taken"
    VM_SNAPSHOT_FAILED = "vm_snapshot_failed"
    VM_SNAPSHOT_REMOVED = "vm_snapshot_removed"
    VM_ROLLING_BACK = "vm_rolling_back"
    VM_ROLLED_BACK = "vm_rolled_back"
    NODE_JOINED = "node_joined"
    NODE_LEFT = "node_left"
    NODE_FLUSHING = "node_flushing"
    NODE_FLUSHED = "node_flushed"
    NODE_UNFLUSHING = "node_unflushing"
    NODE_READY = "node_ready"
    NODE_HYPERVISOR_AWAY = "node_hypervisor_away"
    NODE_HYPERVISOR_BACK = "node_hypervisor_back"
    NODE_GONE = "node_gone"
    NODE_LOST = "node_lost"
    NODE_NOT_FENCED = "node_not_fenced"
    NODE_FENCED = "node_fenced"
    NODE_FENCE_ENDED = "node_fence_ended"
    NODE_SHUTTING_OUT = "node_shutting_out"
    NODE_SHUT_OUT = "node_shut_out"
    NODE_NOT_SHUT_OUT = "node_not_shut_out"
    NODE_ADMITTED = "node_admitted"
    NODE_NOT_ADMITTED = "node_not_admitted"
    NODE_RECOVERED = "node_recovered"
    NODE_WATCHDOG_ARMED = "node_watchdog_armed"
    NODE_WATCHDOG_DISARMED = "node_watchdog_disarmed"
    MAINTENANCE_BEGAN = "maintenance_began"
    MAINTENANCE_GOES_ON = "maintenance_goes_on"
    MAINTENANCE_ENDED = "maintenance_ended"
    NODE_MAINTENANCE_BEGAN = "node_maintenance_began"
    NODE_MAINTENANCE_GOES_ON = "node_maintenance_goes_on"
    NODE_MAINTENANCE_ENDED = "node_maintenance_ended"
    FENCE_DEVICE_ADDED = "fence_device_added"
    FENCE_DEVICE_REMOVED = "fence_device_removed"
    FENCE_DEVICE_USELESS = "fence_device_useless"
    PLAN_APPLIED = "plan_applied"
    PLAN_CANCELLED = "plan_cancelled"
    PLAN_STEP_ENDED = "plan_step_ended"
    PLAN_FINISHED = "plan_finished"
    LEADER_ELECTED = "leader_elected"
    SETTINGS_CHANGED = "settings_changed"
    RULE_ADDED = "rule_added"
    RULE_CHANGED = "rule_changed"
    RULE_REMOVED = "rule_removed"
    TOKEN_CREATED = "token_created"
    TOKEN_REMOVED = "token_removed"
    TASK_GIVEN = "task_given"
    TASK_DONE = "task_done"
    TASK_FAILED = "task_failed"
    TASK_CANCELLED = "task_cancelled"
    PLUGIN_FAILED = "plugin_failed"
    NOTIFICATION_TEST = "notification_test"


MEANINGS: Mapping[EventKind, str] = {
    EventKind.VM_DEFINED: "A VM is new; `decision` says how its node was chosen.",
    EventKind.VM_CHANGED: "A VM's definition, metadata or home is another.",
    EventKind.VM_RENAMED: "A VM has another name.",
    EventKind.VM_UNDEFINED: "A VM is forgotten.",
    EventKind.VM_UNDEFINED_BY_FORCE: "A VM is forgotten though its guest may still run on `node`, which is lost.",
    EventKind.VM_LEFTOVER_GONE: "The guest of a VM that was undefined by force does not run on `node` any more.",
    EventKind.VM_STARTING: "A VM is to start, or what would have stopped it is called off.",
    EventKind.VM_STARTED: "A VM runs.",
    EventKind.VM_START_FAILED: "An attempt to start a VM failed; there will be another.",
    EventKind.VM_FAILED: "A VM failed too often: it is off until it is started by command or tried on another node.",
    EventKind.VM_ENDED: "A VM ended though it should run; it is started again.",
    EventKind.VM_SHUTTING_DOWN: "A VM is to stop.",
    EventKind.VM_RESTARTING: "A VM is to shut down and start again.",
    EventKind.VM_STOPPED: "A VM is off.",
    EventKind.VM_DISABLED: "A VM is off and is left alone until it is started by command.",
    EventKind.VM_MIGRATING: "A VM is to move live from `node` to `target`.",
    EventKind.VM_MIGRATION_CANCELLED: "A migration is called off; the VM stays on `node`.",
    EventKind.VM_MIGRATION_FAILED: "A migration failed; the VM runs on on `node`.",
    EventKind.VM_MIGRATED: "A VM has arrived on `target`.",
    EventKind.VM_MOVED: "A VM belongs to `target` now: it was off, or was shut down to move there.",
    EventKind.VM_HELD: "No node can take a VM: it is off or shut down until its home or, if so chosen, any is ready.",
    EventKind.VM_TERMINATED: "A guest had its power cut: it did not power off in time, or ran where it must not.",
    EventKind.VM_STAYED: "A drain or a return of `node` could not help this VM.",
    EventKind.VM_RECOVERING: "The node of a VM is off: the VM starts on `target`.",
    EventKind.VM_RETRIED: "A VM has failed on `node`: it is tried on `target`.",
    EventKind.VM_SETTLED: "A VM that had failed elsewhere has run well for long enough.",
    EventKind.VM_VOLUME_ADDED: "A VM has another volume as a disk.",
    EventKind.VM_VOLUME_REMOVED: "A volume is to be no disk of a VM any more.",
    EventKind.VM_VOLUME_RELEASED: "A VM's guest has let go of a volume that was removed from the VM.",
    EventKind.VM_VOLUME_RENAMING: "A volume of a VM is about to get another name; the VM is kept off until it has.",
    EventKind.VM_VOLUME_RENAMED: "A volume of a VM has another name, or keeps its own because its storage refused.",
    EventKind.VM_VOLUME_FAILED: "A guest that runs does not get a disk, or does not let go of one; it is tried again.",
    EventKind.VOLUME_DELETED: "A volume of a VM is deleted with what it held.",
    EventKind.VM_SNAPSHOT_BEGUN: "A snapshot of a VM is about to be taken.",
    EventKind.VM_SNAPSHOT_TAKEN: "There is a snapshot of a VM: of all its volumes at one moment, and its definition.",
    EventKind.VM_SNAPSHOT_FAILED: "A snapshot of a VM could not be taken, or not be gone back to.",
    EventKind.VM_SNAPSHOT_REMOVED: "A snapshot of a VM is no more, by command or as too old to be kept.",
    EventKind.VM_ROLLING_BACK: "A VM goes back to one of its snapshots; it does not start before that is over.",
    EventKind.VM_ROLLED_BACK: "A VM is what it was at one of its snapshots.",
    EventKind.NODE_JOINED: "A node's daemon is there (again).",
    EventKind.NODE_LEFT: "A node's daemon stopped on purpose; its guests run on.",
    EventKind.NODE_FLUSHING: "A node is being drained.",
    EventKind.NODE_FLUSHED: "A node is drained.",
    EventKind.NODE_UNFLUSHING: "A node is being taken back into service.",
    EventKind.NODE_READY: "A node is in service again.",
    EventKind.NODE_HYPERVISOR_AWAY: "A node's hypervisor does not answer: guests run on, nothing can be done there.",
    EventKind.NODE_HYPERVISOR_BACK: "A node's hypervisor answers again.",
    EventKind.NODE_GONE: "A node on which no VM is to run is gone: it is not fenced, and takes no VMs.",
    EventKind.NODE_LOST: "A node that VMs are to run on is gone: it is fenced, and then they are recovered.",
    EventKind.NODE_NOT_FENCED: "Nothing confirmed that a lost node is off: nothing is recovered; it is tried again.",
    EventKind.NODE_FENCED: "It is certain that a node is off, or shut out of its storage; its VMs are recovered.",
    EventKind.NODE_FENCE_ENDED: "A fence is called off: there is nothing to recover, or a person said so.",
    EventKind.NODE_SHUTTING_OUT: "Storage is told to shut the clients of a lost node out, to prove it harmless.",
    EventKind.NODE_SHUT_OUT: "Storage has shut the clients of a lost node out: nothing there can write to it.",
    EventKind.NODE_NOT_SHUT_OUT: "Storage did not confirm that it has shut a lost node out.",
    EventKind.NODE_ADMITTED: "Storage lets the clients of a node in again.",
    EventKind.NODE_NOT_ADMITTED: "Storage does not let a node in again: it takes no VMs; it is tried again.",
    EventKind.NODE_RECOVERED: "All VMs of a fenced node have been dealt with.",
    EventKind.NODE_WATCHDOG_ARMED: "A node that VMs are to run on is off soon after it has lost the store, by itself.",
    EventKind.NODE_WATCHDOG_DISARMED: "A node does not end itself any more when it has lost the store.",
    EventKind.MAINTENANCE_BEGAN: "The cluster is in maintenance, by these terms: nothing is fenced or recovered.",
    EventKind.MAINTENANCE_GOES_ON: "The cluster still is in maintenance; every `maintenance_reminder_s`.",
    EventKind.MAINTENANCE_ENDED: "The maintenance of the cluster is over, by command or by its deadline.",
    EventKind.NODE_MAINTENANCE_BEGAN: "A node is in maintenance, by these terms: it is not fenced and takes no VMs.",
    EventKind.NODE_MAINTENANCE_GOES_ON: "A node still is in maintenance; every `maintenance_reminder_s`.",
    EventKind.NODE_MAINTENANCE_ENDED: "The maintenance of a node is over, by command or by its deadline.",
    EventKind.FENCE_DEVICE_ADDED: "A further device can switch `node` off.",
    EventKind.FENCE_DEVICE_REMOVED: "A device is not asked to switch `node` off any more, or none is.",
    EventKind.FENCE_DEVICE_USELESS: "A device of a node that has joined is silent, or calls it off though it lives.",
    EventKind.PLAN_APPLIED: "A plan is to be carried out.",
    EventKind.PLAN_CANCELLED: "No further step of the plan begins.",
    EventKind.PLAN_STEP_ENDED: "A step of the plan is done, has failed, or gave way to something else.",
    EventKind.PLAN_FINISHED: "The plan is over; `pvc cluster plan` has what became of each step.",
    EventKind.LEADER_ELECTED: "Another daemon, that of `node`, leads the cluster.",
    EventKind.SETTINGS_CHANGED: "Settings of the cluster are others.",
    EventKind.RULE_ADDED: "There is a new rule.",
    EventKind.RULE_CHANGED: "A rule says something else now.",
    EventKind.RULE_REMOVED: "A rule is forgotten.",
    EventKind.TOKEN_CREATED: "There is a new token for the API.",
    EventKind.TOKEN_REMOVED: "A token for the API is refused from now on.",
    EventKind.TASK_GIVEN: "`node` is to do something that only it can; see `pvc task list`.",
    EventKind.TASK_DONE: "A task of `node` is done.",
    EventKind.TASK_FAILED: "A task of `node` has failed, or died with the node's daemon.",
    EventKind.TASK_CANCELLED: "A task of `node` is called off, or ended because it was.",
    EventKind.PLUGIN_FAILED: "`plugin` failed and something else took its place; at most once a minute and process.",
    EventKind.NOTIFICATION_TEST: "Somebody tries out whether notifications arrive; nothing has happened.",
}
"""What each kind says, for people."""


class Severity(enum.StrEnum):
    """How much a person should care, in rising order."""

    INFO = "info"
    """As somebody wanted it."""
    WARNING = "warning"
    """Something went wrong, or is part of a loss; PVC deals with it. Look when there is time."""
    CRITICAL = "critical"
    """Something that should run does not, or PVC cannot go on by itself. Look now."""

    def reaches(self, least: Severity) -> bool:
        """Whether it is at least as severe as this."""
        rising = tuple(Severity)
        return rising.index(self) >= rising.index(least)


SEVERITIES: Mapping[EventKind, Severity] = {
    EventKind.VM_UNDEFINED_BY_FORCE: Severity.WARNING,
    EventKind.VM_START_FAILED: Severity.WARNING,
    EventKind.VM_FAILED: Severity.CRITICAL,
    EventKind.VM_ENDED: Severity.WARNING,
    EventKind.VM_MIGRATION_FAILED: Severity.WARNING,
    EventKind.VM_HELD: Severity.CRITICAL,
    EventKind.VM_TERMINATED: Severity.WARNING,
    EventKind.VM_STAYED: Severity.WARNING,
    EventKind.VM_RECOVERING: Severity.WARNING,
    EventKind.VM_RETRIED: Severity.WARNING,
    EventKind.VM_VOLUME_FAILED: Severity.WARNING,
    EventKind.VM_SNAPSHOT_FAILED: Severity.WARNING,
    EventKind.NODE_HYPERVISOR_AWAY: Severity.CRITICAL,
    EventKind.NODE_HYPERVISOR_BACK: Severity.WARNING,
    EventKind.NODE_GONE: Severity.WARNING,
    EventKind.NODE_LOST: Severity.CRITICAL,
    EventKind.NODE_NOT_FENCED: Severity.CRITICAL,
    EventKind.NODE_FENCED: Severity.WARNING,
    EventKind.NODE_FENCE_ENDED: Severity.WARNING,
    EventKind.NODE_SHUTTING_OUT: Severity.WARNING,
    EventKind.NODE_SHUT_OUT: Severity.WARNING,
    EventKind.NODE_NOT_SHUT_OUT: Severity.CRITICAL,
    EventKind.NODE_NOT_ADMITTED: Severity.CRITICAL,
    EventKind.NODE_RECOVERED: Severity.WARNING,
    EventKind.FENCE_DEVICE_USELESS: Severity.WARNING,
    EventKind.MAINTENANCE_GOES_ON: Severity.WARNING,
    EventKind.NODE_MAINTENANCE_GOES_ON: Severity.WARNING,
    EventKind.TASK_FAILED: Severity.WARNING,
    EventKind.PLUGIN_FAILED: Severity.WARNING,
}
"""Of the kinds that are more than information."""


def severity_of(kind: str) -> Severity:
    """Of a kind's name; of one that only a newer PVC knows, that it is information."""
    return SEVERITIES.get(EventKind(kind), Severity.INFO) if kind in MEANINGS else Severity.INFO
