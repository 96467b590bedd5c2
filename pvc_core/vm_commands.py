# SPDX-License-Identifier: Apache-2.0
"""vm_commands: what an operator can ask of a VM, as one method each: check, decide on the snapshot, commit.

A method returns when the *intent* is in the store; the agents carry it out. Every method is one transaction,
decided again when somebody else was faster; what is refused has changed nothing.
"""

from __future__ import annotations

import uuid as uuid_module
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import msgspec
import structlog

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import Stored
from pvc_core.domain_xml import DomainDefinition, check_vm_name, parse_domain, with_identity
from pvc_core.errors import AlreadyExists, BrokenRecord, InvalidInput, PvcError, Refused
from pvc_core.metadata import FIELDS, apply_patch, check_metadata
from pvc_core.model import NodeRecord, VmMetadata, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.plugin_calls import log_failure
from pvc_core.plugin_types import PlacementRequest, VmProposal
from pvc_core.ports import Clock, ClusterStore, Create, Delete, Entry, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF, VmEvent, rule_for

log = structlog.get_logger(__name__)
_START_REASONS = {
    VmState.SHUTTING_DOWN: "start requested: the shutdown is aborted",
    VmState.RESTARTING: "start requested: the restart is aborted",
    VmState.MIGRATING: "start requested: the migration is cancelled",
}


@dataclass(frozen=True)
class Outcome:
    """What a command did: the VM or node as it is now wanted, the sentence why, and how its place was chosen.

    `changed` is False when everything was as wanted already.
    """

    reason: str
    changed: bool
    vm: VmRecord | None = None
    node: NodeRecord | None = None
    decision: Decision | None = None


class VmCommands:
    """All commands on VMs. Thread-safe, as the view and the store are."""

    def __init__(self, view: ClusterView, store: ClusterStore, registry: Registry, clock: Clock) -> None:
        self._view = view
        self._store = store
        self._registry = registry
        self._clock = clock
        self._placer = Placer(registry, log_failure)

    # -------------------------------------------------------------------------- define, change, forget

    def define(self, xml: str, metadata: VmMetadata, *, target: str = "", start: bool = False) -> Outcome:
        """A new VM from libvirt XML, placed within its limit by its selector, or on `target`.

        Raises `InvalidInput`, `AlreadyExists` (name or UUID), `NotFound` (target), `NoCandidate`.
        """
        domain = parse_domain(xml)
        check_vm_name(domain.name)
        uuid = domain.uuid or str(uuid_module.uuid4())
        xml = with_identity(xml, uuid, domain.name)
        taken: dict[str, PvcError] = {
            layout.vm_name(domain.name): AlreadyExists("VM", domain.name),
            layout.vm(uuid): AlreadyExists("VM", uuid),
            layout.definition(uuid): AlreadyExists("VM", uuid),
        }
        chosen: list[Decision] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            if domain.name in snapshot.uuid_by_name:
                raise AlreadyExists("VM", domain.name)
            if uuid in snapshot.vms or layout.vm(uuid) in snapshot.broken:
                raise AlreadyExists("VM", uuid)
            checked = self._checked(metadata, snapshot)
            self._ask_validators(snapshot, domain, checked, None)
            record = self._new_record(domain, uuid, checked, start)
            decision = self._placer.place(PlacementRequest.for_vm(record), snapshot, only=target)
            decision.raise_if_none()
            chosen[:] = [decision]
            placed = msgspec.structs.replace(
                record, node=decision.node, home=decision.node, reason=f"defined; {decision.reason}"
            )
            change = changes.create_vm(placed, xml, snapshot.node(decision.node).ledger, taken)
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return Outcome(change.reason, True, vm=change.vm, decision=chosen[0])

    def _new_record(self, domain: DomainDefinition, uuid: str, metadata: VmMetadata, start: bool) -> VmRecord:
        return VmRecord(
            uuid=uuid,
            name=domain.name,
            state=VmState.STARTING if start else VmState.STOPPED,
            node="",
            home="",
            memory_mib=domain.memory_mib,
            vcpus=domain.vcpus,
            metadata=metadata,
            changed_at=self._clock.utc_iso(),
        )

    def definition(self, vm: str) -> str:
        """The VM's libvirt XML, name and UUID as in its record."""
        stored = self._view.snapshot().vm(vm)
        return self._definition_entry(stored.value).data.decode()

    def redefine(self, vm: str, xml: str) -> Outcome:
        """Replace the VM's definition; what runs takes it over at its next start.

        Name and UUID stay the record's. Raises `InvalidInput`, `NoCandidate` when it has grown too large for its node.
        """
        domain = parse_domain(xml)
        old = self._definition_entry(self._view.snapshot().vm(vm).value)

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            self._refuse_migrating(before)
            after = msgspec.structs.replace(before, memory_mib=domain.memory_mib, vcpus=domain.vcpus)
            self._ask_validators(snapshot, domain, after.metadata, before)
            text = with_identity(xml, before.uuid, before.name).encode()
            if text == old.data and after == before:
                return changes.already(stored, "the definition is the same", before)
            if after.memory_mib > before.memory_mib:
                self._refuse_growth(after, snapshot)
            return Change(
                (
                    Set(old.key, text, old.version),
                    changes.write_vm(stored, after),
                    *changes.ledger_ops(before, after, changes.ledgers_of(snapshot, before.node)),
                ),
                "the definition is replaced" + ("" if before.state in OFF else "; it takes effect at the next start"),
                after,
                _overtaken(before.name, old),
            )

        return self._outcome(self._view.commit(decide))

    def _refuse_growth(self, record: VmRecord, snapshot: ClusterSnapshot) -> None:
        decision = self._placer.place(PlacementRequest.for_vm(record), snapshot, only=record.node)
        too_small = [r.reason for r in decision.rejections if r.plugin == "memory"]
        if too_small:
            raise Refused(record.name, f"it would not fit on {record.node} any more: {too_small[0]}")

    def undefine(self, vm: str) -> Outcome:
        """Forget a VM that is off. Its volumes are not touched."""
        name_entry, definition = self._identity_entries(vm)

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            if stored.value.state not in OFF:
                raise Refused(stored.value.name, f"is {stored.value.state}; stop it before it is undefined")
            ledgers = changes.ledgers_of(snapshot, stored.value.node)
            change = changes.remove_vm(stored, ledgers, definition.version, name_entry.version)
            return replace(change, on_conflict=_overtaken(stored.value.name, name_entry, definition))

        return self._outcome(self._view.commit(decide))

    def rename(self, vm: str, new_name: str) -> Outcome:
        """Give a VM that is off another name: in its record, its definition and the index of names, at once."""
        check_vm_name(new_name)
        name_entry, definition = self._identity_entries(vm)
        new_key = layout.vm_name(new_name)

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            if before.name == new_name:
                return changes.already(stored, f"its name is {new_name} already", before)
            if new_name in snapshot.uuid_by_name:
                raise AlreadyExists("VM", new_name)
            if before.state not in OFF:
                raise Refused(before.name, f"is {before.state}; only a VM that is off can be renamed")
            reason = f"renamed from {before.name}"
            after = msgspec.structs.replace(before, name=new_name, reason=reason, changed_at=self._clock.utc_iso())
            text = with_identity(definition.data.decode(), before.uuid, new_name).encode()
            return Change(
                (
                    Create(new_key, before.uuid.encode()),
                    Delete(name_entry.key, name_entry.version),
                    changes.write_vm(stored, after),
                    Set(definition.key, text, definition.version),
                ),
                reason,
                after,
                {new_key: AlreadyExists("VM", new_name), **_overtaken(before.name, name_entry, definition)},
            )

        return self._outcome(self._view.commit(decide))

    def change_metadata(self, vm: str, patch: Mapping[str, object]) -> Outcome:
        """Change some metadata fields. What runs goes on where it is; the next decision uses the new values."""
        domain = parse_domain(self.definition(vm))

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            metadata = self._checked(apply_patch(before.metadata, patch), snapshot, tuple(patch))
            if metadata == before.metadata:
                return changes.already(stored, "the metadata is the same", before)
            self._ask_validators(snapshot, domain, metadata, before)
            after = msgspec.structs.replace(before, metadata=metadata)
            limit = metadata.node_limit
            violated = bool(limit) and before.node not in limit
            note = f"; {before.node}, where it is now, is outside its limit until it is moved" if violated else ""
            return Change((changes.write_vm(stored, after),), f"metadata changed{note}", after)

        return self._outcome(self._view.commit(decide))

    # ---------------------------------------------------------------------------------- start and stop

    def start(self, vm: str) -> Outcome:
        """Start on its node, or where it is placed when that node cannot take it; aborts a shutdown or a migration."""
        chosen: list[Decision] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record = stored.value
            if record.state not in OFF:
                return self._event(snapshot, stored, VmEvent.START, _START_REASONS.get(record.state, "start requested"))
            decision = self._place_for_start(record, snapshot)
            decision.raise_if_none()
            chosen[:] = [decision]
            reason = f"start requested; {decision.reason}"
            ledgers = changes.ledgers_of(snapshot, record.node, decision.node)
            change = changes.start_on(stored, decision.node, reason, self._clock.utc_iso(), ledgers)
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return self._outcome(change, chosen[0] if chosen else None)

    def _place_for_start(self, record: VmRecord, snapshot: ClusterSnapshot) -> Decision:
        """On its own node if that takes it, else wherever it is placed."""
        request = PlacementRequest.for_vm(record)
        if record.node in snapshot.nodes:
            here = self._placer.place(request, snapshot, only=record.node)
            if here.node:
                return here
        return self._placer.place(request, snapshot)

    def shutdown(self, vm: str) -> Outcome:
        """Ask the guest to power off; it is terminated when its shutdown timeout is over."""
        return self._simple(vm, VmEvent.SHUTDOWN, "shutdown requested")

    def stop(self, vm: str) -> Outcome:
        """Terminate the guest now."""
        return self._simple(vm, VmEvent.STOP, "stop requested")

    def restart(self, vm: str) -> Outcome:
        """Shut down and start again on the same node."""
        return self._simple(vm, VmEvent.RESTART, "restart requested")

    def disable(self, vm: str, *, force: bool = False) -> Outcome:
        """Shut down (terminate with `force`) and leave it alone until it is started by command."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            change = self._event(snapshot, stored, VmEvent.DISABLE, "disabled by command")
            if not force or change.vm is None or change.vm.state in OFF or change.vm.forced:
                return change
            after = msgspec.structs.replace(change.vm, forced=True, transition=stored.value.transition + 1)
            return Change((changes.write_vm(stored, after),), change.reason, after)

        return self._outcome(self._view.commit(decide))

    # ----------------------------------------------------------------------------------------- placing

    def migrate(self, vm: str, target: str = "") -> Outcome:
        """Move a running VM live, for a time: it keeps its home. The selector chooses, unless `target` is given."""
        return self._migrate(vm, target, permanent=False)

    def move(self, vm: str, target: str = "") -> Outcome:
        """Move a VM for good: live when it runs, otherwise by giving it another node."""
        return self._migrate(vm, target, permanent=True)

    def unmigrate(self, vm: str) -> Outcome:
        """Bring a VM back to its home."""
        record = self._view.snapshot().vm(vm).value
        return self._migrate(vm, record.home, permanent=False)

    def _migrate(self, vm: str, target: str, *, permanent: bool) -> Outcome:
        chosen: list[Decision] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record = stored.value
            is_there = bool(target) and record.node == target and record.state is not VmState.MIGRATING
            if is_there and (not permanent or record.home == target):
                return changes.already(stored, f"is on {target} already", record)
            if is_there:
                after = msgspec.structs.replace(record, home=target)
                return Change((changes.write_vm(stored, after),), f"{target}, where it is, is its home now", after)
            relocates = permanent and record.state in OFF
            event = VmEvent.RELOCATE if relocates else VmEvent.MIGRATE
            self._refuse(stored.value, event)
            if changes.unreadable_ledger(snapshot, record.node):
                raise BrokenRecord(layout.ledger(record.node), "on arrival it would have to be changed")
            decision = self._placer.place(
                PlacementRequest.for_vm(record, exclude=frozenset({record.node})), snapshot, only=target
            )
            decision.raise_if_none()
            chosen[:] = [decision]
            verb = "moves" if permanent else "migrates"
            reason = f"{verb} from {record.node} to {decision.node}; {decision.reason}"
            change = changes.of_event(
                stored,
                event,
                reason,
                self._clock.utc_iso(),
                changes.ledgers_of(snapshot, record.node, decision.node),
                target=decision.node,
                permanent=permanent,
            )
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return self._outcome(change, chosen[0] if chosen else None)

    def explain(self, vm: str) -> Decision:
        """Where the VM would be placed now, and why; nothing changes."""
        snapshot = self._view.snapshot()
        return self._placer.place(PlacementRequest.for_vm(snapshot.vm(vm).value), snapshot)

    # ----------------------------------------------------------------------------------------- helpers

    def _checked(self, metadata: VmMetadata, snapshot: ClusterSnapshot, fields: Collection[str] = FIELDS) -> VmMetadata:
        registry = self._registry
        return check_metadata(metadata, snapshot.nodes, registry.selectors, registry.recovery_policies, fields)

    def _ask_validators(
        self, snapshot: ClusterSnapshot, domain: DomainDefinition, metadata: VmMetadata, previous: VmRecord | None
    ) -> None:
        """Every plugin may object to a VM as it would be."""
        validation = self._registry.validate_vm(VmProposal(domain, metadata, previous), snapshot)
        for failure in validation.failures:
            log.warning("validator_failed", plugin=failure.plugin, problem=failure.problem)
        if validation.objections:
            raise InvalidInput("VM", validation.sentence)

    def _simple(self, vm: str, event: VmEvent, reason: str) -> Outcome:
        def decide(snapshot: ClusterSnapshot) -> Change:
            return self._event(snapshot, snapshot.vm(vm), event, reason)

        return self._outcome(self._view.commit(decide))

    def _event(self, snapshot: ClusterSnapshot, stored: Stored[VmRecord], event: VmEvent, reason: str) -> Change:
        record = stored.value
        ledgers = changes.ledgers_of(snapshot, record.node, record.target)
        return changes.of_event(stored, event, reason, self._clock.utc_iso(), ledgers)

    @staticmethod
    def _refuse(record: VmRecord, event: VmEvent) -> None:
        rule = rule_for(record.state, event)
        if isinstance(rule, str):
            raise Refused(record.name, rule)

    @staticmethod
    def _refuse_migrating(record: VmRecord) -> None:
        if record.state is VmState.MIGRATING:
            raise Refused(record.name, f"is migrating to {record.target}; `pvc vm start` cancels the migration")

    def _definition_entry(self, record: VmRecord) -> Entry:
        entry = self._store.get(layout.definition(record.uuid))
        if entry is None:
            raise BrokenRecord(layout.definition(record.uuid), "it is missing")
        return entry

    def _identity_entries(self, vm: str) -> tuple[Entry, Entry]:
        """The name's and the definition's entries, read in one request."""
        record = self._view.snapshot().vm(vm).value
        keys = (layout.vm_name(record.name), layout.definition(record.uuid))
        found = self._store.get_many(keys)
        for key in keys:
            if key not in found:
                raise BrokenRecord(key, "it is missing")
        return found[keys[0]], found[keys[1]]

    @staticmethod
    def _outcome(change: Change, decision: Decision | None = None) -> Outcome:
        return Outcome(change.reason, bool(change.ops), vm=change.vm, decision=decision)


def _overtaken(vm: str, *read_before: Entry) -> dict[str, PvcError]:
    """What it means when one of these was changed after it was read."""
    refused = Refused(vm, "its name or definition was changed by somebody else at the same time")
    return {entry.key: refused for entry in read_before}
