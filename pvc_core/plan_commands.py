# SPDX-License-Identifier: Apache-2.0
"""plan_commands: apply a plan while what it was made from still holds, and end the one that is being carried out.

Applying writes what is to be done; the leader carries it out (`leader_plan`). The plan of a flush is applied as a
flush that goes where the plan says.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.errors import InvalidInput, PlanOutdated, Refused
from pvc_core.events import EventKind, Happening, of_node
from pvc_core.leader_flush import refuse_flush
from pvc_core.leader_plan import write_plan
from pvc_core.model import DrainReport, NodeMode, NodeRecord
from pvc_core.plan_document import MOVES_FOR_GOOD, PlanDocument, changed_since
from pvc_core.plan_record import LeftVm, PlannedStep, PlanRecord, report
from pvc_core.planner import Step
from pvc_core.ports import Check, Create, Op
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF


class PlanCommands(CommandBase):
    """Commands on plans."""

    def apply_plan(self, plan: PlanDocument, *, force: bool = False) -> Outcome:
        """Have the leader carry out the plan. force: also so soon after the last balance.

        Raises `PlanOutdated` when the cluster is not as it was when the plan was made, `Refused` while another plan
        is carried out, `InvalidInput` for a plan that makes no sense.
        """
        if not plan.steps:
            return Outcome("the plan has no steps: there is nothing to do", False)
        _check(plan)
        nodes: list[NodeRecord] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            outdated = changed_since(plan.basis, snapshot)
            if outdated:
                raise PlanOutdated(outdated)
            if plan.kind == "flush":
                return self._flush_as_planned(plan, snapshot, nodes)
            return self._begin(plan, snapshot, force)

        change = self._view.commit(decide)
        return Outcome(change.reason, bool(change.ops), node=nodes[-1] if nodes else None)

    def _flush_as_planned(self, plan: PlanDocument, snapshot: ClusterSnapshot, nodes: list[NodeRecord]) -> Change:
        """A flush that sends each VM where the plan does, as long as all of that is possible."""
        view = snapshot.node(plan.subject)
        refuse_flush(view)
        now, before = self._clock.utc_iso(), view.record.value
        planned = {snapshot.vm(step.vm).value.uuid: step.target for step in plan.steps if step.action == "migrate"}
        drain = DrainReport(total=len(plan.steps) + len(plan.stay), started_at=now)
        if view.mode is NodeMode.FLUSHING and before.drain is not None:
            drain = before.drain
        reason = "flush requested, as planned"
        drain = msgspec.structs.replace(drain, planned=planned)
        record = msgspec.structs.replace(before, mode=NodeMode.FLUSHING, drain=drain, reason=reason, changed_at=now)
        nodes[:] = [record]
        happening = of_node(EventKind.NODE_FLUSHING, before, record, reason)
        ops: tuple[Op, ...] = (changes.write_node(view.record, record), *_as_seen(plan, snapshot, but=plan.subject))
        return Change(ops, reason, happenings=(happening,))

    def _begin(self, plan: PlanDocument, snapshot: ClusterSnapshot, force: bool) -> Change:
        """Write the record that the leader carries out."""
        if layout.PLAN in snapshot.broken:
            raise snapshot.broken[layout.PLAN]
        now, stored = self._clock.utc_iso(), snapshot.plan
        last_spread_at = stored.value.last_spread_at if stored else ""
        if stored and not stored.value.is_finished:
            raise Refused("plan", f"another is being carried out ({report(stored.value)}); see `pvc cluster plan`")
        if plan.spreads and not force:
            _refuse_so_soon(last_spread_at, now, snapshot.settings.balance_cooldown_s)
        record = PlanRecord(
            kind=plan.kind,
            subject=plan.subject,
            permanent=plan.kind in MOVES_FOR_GOOD,
            steps=tuple(_planned(step, snapshot) for step in plan.steps),
            left=tuple(LeftVm(vm=stay.vm, reason=stay.reason) for stay in plan.stay),
            reason=plan.reason,
            started_at=now,
            last_spread_at=now if plan.spreads else last_spread_at,
        )
        write: Op = write_plan(stored, record) if stored else Create(layout.PLAN, encode(record))
        happening = Happening(EventKind.PLAN_APPLIED, plan.reason)
        ops = (write, *_as_seen(plan, snapshot))
        return Change(ops, f"plan accepted: {plan.reason}", happenings=(happening,))

    def cancel_plan(self) -> Outcome:
        """Begin no further step of the plan under way; migrations that have begun come to their end."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.plan
            if stored is None or stored.value.is_finished:
                raise Refused("plan", "none is being carried out")
            if stored.value.cancelled:
                return changes.already(stored, "the plan is cancelled already")
            record = msgspec.structs.replace(stored.value, cancelled=True)
            for index, step in enumerate(record.steps):
                if step.state == "waiting":
                    record = record.with_step(index, state="dropped", note="the plan was cancelled")
            happening = Happening(EventKind.PLAN_CANCELLED, report(record))
            return Change((write_plan(stored, record),), f"the plan is {report(record)}", happenings=(happening,))

        change = self._view.commit(decide)
        return Outcome(change.reason, bool(change.ops))


def _planned(step: Step, snapshot: ClusterSnapshot) -> PlannedStep:
    vm = snapshot.vm(step.vm).value
    return PlannedStep(
        uuid=vm.uuid,
        vm=vm.name,
        source=step.source,
        target=step.target,
        after=step.after,
        reason=step.reason,
        off=vm.state in OFF,
    )


def _as_seen(plan: PlanDocument, snapshot: ClusterSnapshot, but: str = "") -> Iterator[Check]:
    """The plan is applied only to the very records that it was compared with. but: a node that is written anyway."""
    for name in plan.basis.vms:
        stored = snapshot.vm(name)
        yield Check(stored.key, stored.version)
    for name in plan.basis.nodes:
        node = snapshot.node(name)
        if name != but:
            yield Check(node.record.key, node.record.version)
        if node.ledger is not None:
            yield Check(node.ledger.key, node.ledger.version)


def _refuse_so_soon(last_at: str, now: str, cooldown_s: float) -> None:
    """Raises `Refused` within the cool-down of the last plan that spread VMs."""
    if not last_at:
        return
    until = datetime.fromisoformat(last_at) + timedelta(seconds=cooldown_s)
    if datetime.fromisoformat(now) < until:
        raise Refused(
            "plan",
            f"the last balance was at {last_at}; the next is due at {until.isoformat().replace('+00:00', 'Z')}, unless "
            "it is forced",
        )


def _check(plan: PlanDocument) -> None:
    """A plan may have been written or edited by anybody. Raises `InvalidInput` naming the step."""
    if plan.kind == "flush" and not plan.subject:
        raise InvalidInput("subject", "names the node of a flush")
    for index, step in enumerate(plan.steps):
        where = f"steps[{index}]"
        if step.action != "migrate" and plan.kind != "flush":
            raise InvalidInput(f"{where}.action", "is not part of such a plan", step.action, ("migrate",))
        if any(not 0 <= before < index for before in step.after):
            raise InvalidInput(f"{where}.after", "names a step that does not come before", str(list(step.after)))
        if step.vm not in plan.basis.vms:
            raise InvalidInput("basis.vms", f"does not have the VM of {where}", step.vm)
        for node in (step.source, step.target):
            if node not in plan.basis.nodes:
                raise InvalidInput("basis.nodes", f"does not have a node of {where}", node)
