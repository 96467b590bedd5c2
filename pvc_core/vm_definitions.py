# SPDX-License-Identifier: Apache-2.0
"""vm_definitions: what an operator can say a VM is: define, redefine, rename, change its metadata, forget it.

A method returns when the *intent* is in the store. Every method is one transaction, decided again when somebody
else was faster; what is refused has changed nothing.
"""

from __future__ import annotations

import uuid as uuid_module
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import msgspec
import structlog

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import Stored
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.disk_xml import refuse_taken
from pvc_core.domain_xml import DomainDefinition, check_vm_name, parse_domain, with_identity
from pvc_core.driver_presence import metadata_warnings
from pvc_core.errors import AlreadyExists, BrokenRecord, InvalidInput, PvcError, Refused
from pvc_core.events import EventKind, of_vm
from pvc_core.leftovers import by_force, refuse_undefine, why_not_by_force
from pvc_core.limits import is_outside_limit, limit_words
from pvc_core.metadata import FIELDS, apply_patch, check_metadata
from pvc_core.model import VmMetadata, VmRecord, VmState
from pvc_core.placement import Decision
from pvc_core.plugin_types import PlacementRequest, VmProposal
from pvc_core.ports import Create, Delete, Entry, Op, Set
from pvc_core.rule_guards import rename_in_rules
from pvc_core.rules import listed, violations
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_snapshots import refuse_snapshots
from pvc_core.vm_states import OFF
from pvc_core.volume_claims import claims_on, releasing

log = structlog.get_logger(__name__)


class VmDefinitions(CommandBase):
    """Commands on what a VM is."""

    def define(self, xml: str, metadata: VmMetadata, *, target: str = "", start: bool = False) -> Outcome:
        """A new VM from libvirt XML, placed within its limit by its selector, or on `target`.

        Raises `InvalidInput`, `AlreadyExists` (name or UUID), `NotFound` (target), `NoCandidate`, `NotAdmitted`.
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
        warnings: list[str] = []

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
            warnings[:] = (*metadata_warnings(snapshot, checked), *self._admit(placed, snapshot))
            change = changes.create_vm(placed, xml, snapshot.node(decision.node).ledger, taken, decision)
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return Outcome(change.reason, True, vm=change.vm, decision=chosen[0], warnings=tuple(warnings))

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
            only_volumes=not domain.has_storage,
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
            self._refuse_in_between(before)
            only_volumes = not domain.has_storage and (before.only_volumes or before.state in OFF)
            after = msgspec.structs.replace(
                before, memory_mib=domain.memory_mib, vcpus=domain.vcpus, only_volumes=only_volumes
            )
            self._ask_validators(snapshot, domain, after.metadata, before)
            refuse_taken([disk.target for disk in domain.disks], [volume.device for volume in before.volumes])
            text = with_identity(xml, before.uuid, before.name).encode()
            if text == old.data and after == before:
                return changes.already(stored, "the definition is the same", before)
            self._refuse_growth(before, after, snapshot)
            note = "" if before.state in OFF else "; it takes effect at the next start"
            reason = f"the definition is replaced{note}"
            return Change(
                (
                    Set(old.key, text, old.version),
                    changes.write_vm(stored, after),
                    *changes.ledger_ops(before, after, changes.ledgers_of(snapshot, before.node)),
                ),
                reason,
                after,
                _overtaken(before.name, old),
                happenings=(of_vm(EventKind.VM_CHANGED, before, after, reason),),
            )

        return self._outcome(self._view.commit(decide))

    def _refuse_growth(self, before: VmRecord, after: VmRecord, snapshot: ClusterSnapshot) -> None:
        """Raises `Refused` where something that it needs more of than before is not there."""
        grown = {"memory": after.memory_mib > before.memory_mib, "vcpus": after.vcpus > before.vcpus}
        if not any(grown.values()):
            return
        decision = self._placer.place(PlacementRequest.for_vm(after), snapshot, only=after.node)
        too_small = [rejection.reason for rejection in decision.rejections if grown.get(rejection.plugin)]
        if too_small:
            raise Refused(after.name, f"it would not fit on {after.node} any more: {' and '.join(too_small)}")

    def undefine(self, vm: str, *, force: bool = False) -> Outcome:
        """Forget a VM that is off. Its volumes stay, and are nobody's; rules keep its name.

        force: also one whose guest may still run on a node that is lost; its volumes stay its own until that is over.
        """

        def release(record: VmRecord) -> tuple[Op, ...]:
            if record.kept_off:
                raise Refused(record.name, record.kept_off)
            refuse_snapshots(record)
            claims = claims_on(self._store, record.volumes).values()
            return releasing(claim for claim in claims if claim.value.purpose == "attached")

        return self._undefine(vm, release, force=force)

    def _undefine(self, vm: str, dispose: Callable[[VmRecord], tuple[Op, ...]], *, force: bool = False) -> Outcome:
        """dispose: what becomes of the claims on the volumes of a VM that is off."""
        name_entry, definition = self._identity_entries(vm)

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record, versions = stored.value, (definition.version, name_entry.version)
            ledgers = changes.ledgers_of(snapshot, record.node, record.target)
            if record.state in OFF:
                change = changes.remove_vm(stored, ledgers, *versions)
                change = replace(change, ops=(*change.ops, *dispose(record)))
            elif force:
                self._refuse_force(record, snapshot)
                change = changes.abandon_vm(stored, ledgers, *versions, by_force(record))
                change = changes.on_same_node(change, snapshot, record.node)
            else:
                raise refuse_undefine(record, snapshot)
            reason = f"{change.reason}{_still_named(record.name, snapshot)}"
            return replace(change, reason=reason, on_conflict=_overtaken(record.name, name_entry, definition))

        return self._outcome(self._view.commit(decide))

    def _refuse_force(self, record: VmRecord, snapshot: ClusterSnapshot) -> None:
        """Raises `Refused` unless the VM's node is lost, which the store itself has to say.

        A daemon that joins changes its node's record, so none does between this question and the transaction.
        """
        refuse_snapshots(record)
        node = snapshot.node(record.node)
        why_not = why_not_by_force(record, node)
        if not why_not and self._store.get(layout.member(node.name)) is not None:
            why_not = f"is {record.state} on {node.name}, whose daemon is there again"
        if why_not:
            raise Refused(record.name, why_not)

    def rename(self, vm: str, new_name: str) -> Outcome:
        """Give a VM that is off another name: in its record, its definition, rules and the index of names, at once."""
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
                    *rename_in_rules(before.name, new_name, snapshot),
                ),
                reason,
                after,
                {new_key: AlreadyExists("VM", new_name), **_overtaken(before.name, name_entry, definition)},
                happenings=(of_vm(EventKind.VM_RENAMED, before, after, reason),),
            )

        return self._outcome(self._view.commit(decide))

    def change_metadata(self, vm: str, patch: Mapping[str, object]) -> Outcome:
        """Change some metadata fields. What runs goes on where it is; the next decision uses the new values."""
        domain = parse_domain(self.definition(vm))
        warnings: list[str] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            if before.kept_off:
                raise Refused(before.name, before.kept_off)
            metadata = self._checked(apply_patch(before.metadata, patch), snapshot, tuple(patch))
            warnings[:] = metadata_warnings(snapshot, metadata, tuple(patch))
            if metadata == before.metadata:
                return changes.already(stored, "the metadata is the same", before)
            self._ask_validators(snapshot, domain, metadata, before)
            after = msgspec.structs.replace(before, metadata=metadata)
            violated = is_outside_limit(after, snapshot)
            note = f"; {before.node}, where it is now, is outside its limit until it is moved" if violated else ""
            if metadata.tags != before.metadata.tags:
                note += _newly_broken(stored, after, snapshot)
            return changes.change_vm(stored, after, f"metadata changed{note}")

        return self._outcome(self._view.commit(decide), warnings=tuple(warnings))

    def _checked(self, metadata: VmMetadata, snapshot: ClusterSnapshot, fields: Collection[str] = FIELDS) -> VmMetadata:
        registry = self._registry
        return check_metadata(metadata, limit_words(snapshot), registry.selectors, registry.recovery_policies, fields)

    def _ask_validators(
        self, snapshot: ClusterSnapshot, domain: DomainDefinition, metadata: VmMetadata, previous: VmRecord | None
    ) -> None:
        """Every plugin may object to a VM as it would be."""
        validation = self._registry.validate_vm(VmProposal(domain, metadata, previous), snapshot)
        for failure in validation.failures:
            self._on_plugin_failure(failure)
        if validation.objections:
            raise InvalidInput("VM", validation.sentence)

    @staticmethod
    def _refuse_in_between(record: VmRecord) -> None:
        """Raises `Refused` while something goes on that a change of the VM must not get between."""
        if record.kept_off:
            raise Refused(record.name, record.kept_off)
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


def _still_named(vm: str, snapshot: ClusterSnapshot) -> str:
    """Which rules name the VM, also when it is gone."""
    rules = [name for name, rule in snapshot.rules.items() if vm in rule.value.members]
    return f"; still named in {'rule' if len(rules) == 1 else 'rules'} {listed(rules)}" if rules else ""


def _newly_broken(stored: Stored[VmRecord], after: VmRecord, snapshot: ClusterSnapshot) -> str:
    """Which rules the VM breaks as it is now, and did not break before."""
    if not snapshot.rules:
        return ""
    changed = replace(snapshot, vms={**snapshot.vms, after.uuid: replace(stored, value=after)})
    before = {one.rule for one in violations(snapshot)}
    found = [one for one in violations(changed) if one.rule not in before]
    return "".join(f"; rule {one.rule} is broken now: {one.reason}" for one in found)


def _overtaken(vm: str, *read_before: Entry) -> dict[str, PvcError]:
    """What it means when one of these was changed after it was read."""
    refused = Refused(vm, "its name or definition was changed by somebody else at the same time")
    return {entry.key: refused for entry in read_before}
