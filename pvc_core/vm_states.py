# SPDX-License-Identifier: Apache-2.0
"""vm_states: the life of a VM as one table, `(state, event) -> rule`, and the one function that changes a state.

A pair that is not in `RULES` is refused with the sentence in `REFUSALS`, so that every pair has an answer.
`stopped`, `disabled` and `failed` are only ever written once the guest is known to be off: whoever wants a VM
to stop writes `shutting-down` and says in the record how (`forced`) and what follows (`after_shutdown`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from pvc_core.errors import Refused
from pvc_core.model import VmRecord, VmState


class VmEvent(enum.StrEnum):
    """What can happen to a VM: commands first, then what the leader decides, then what its agent finds out."""

    START = "start"
    SHUTDOWN = "shutdown"
    STOP = "stop"
    RESTART = "restart"
    DISABLE = "disable"
    MIGRATE = "migrate"
    HOLD = "hold"
    RELOCATE = "relocate"
    RETRY = "retry"
    RECOVER = "recover"
    TARGET_LOST = "target-lost"
    LOST_HELD = "lost-held"
    LOST = "lost"
    STARTED = "started"
    START_FAILED = "start-failed"
    GAVE_UP = "gave-up"
    SETTLED = "settled"
    GONE = "gone"
    POWERED_OFF = "powered-off"
    ENDED = "ended"
    ARRIVED = "arrived"
    MOVED_OFF = "moved-off"
    MIGRATION_FAILED = "migration-failed"
    MIGRATION_CANCELLED = "migration-cancelled"


class NodeChange(enum.Enum):
    """What a rule does to the record's node and target."""

    KEEP = "keep"
    SET_TARGET = "set target"
    TO_TARGET = "node becomes target"
    TO_GIVEN = "node becomes another"
    DROP_TARGET = "target is given up"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event makes of a state. `same`: nothing changes, the command was carried out already."""

    to: VmState
    same: bool = False
    forced: bool = False
    disables: bool = False
    holds: bool = False
    cancels: bool = False
    node: NodeChange = NodeChange.KEEP


_S, _E = VmState, VmEvent
OFF = (_S.STOPPED, _S.FAILED, _S.DISABLED)
"""The states in which the guest is known to be off."""
_WINDING_DOWN = (_S.SHUTTING_DOWN, _S.RESTARTING)
_LIVE = (_S.STARTING, _S.RUNNING, *_WINDING_DOWN)
_WANTED = (_S.STARTING, _S.RUNNING, _S.RESTARTING, _S.MIGRATING)

RULES: dict[tuple[VmState, VmEvent], Rule] = {
    # commands
    **{(s, _E.START): Rule(_S.STARTING) for s in (*OFF, *_WINDING_DOWN)},
    **{(s, _E.START): Rule(s, same=True) for s in (_S.STARTING, _S.RUNNING)},
    (_S.MIGRATING, _E.START): Rule(_S.MIGRATING, cancels=True),
    **{(s, _E.SHUTDOWN): Rule(_S.SHUTTING_DOWN) for s in (_S.STARTING, _S.RUNNING, _S.RESTARTING)},
    (_S.SHUTTING_DOWN, _E.SHUTDOWN): Rule(_S.SHUTTING_DOWN, same=True),
    **{(s, _E.STOP): Rule(_S.SHUTTING_DOWN, forced=True) for s in _LIVE},
    **{(s, e): Rule(_S.STOPPED) for s in (_S.STOPPED, _S.FAILED) for e in (_E.SHUTDOWN, _E.STOP)},
    **{(_S.DISABLED, e): Rule(_S.DISABLED, same=True) for e in (_E.SHUTDOWN, _E.STOP, _E.DISABLE)},
    **{(s, _E.RESTART): Rule(_S.RESTARTING) for s in (_S.RUNNING, _S.SHUTTING_DOWN)},
    (_S.RESTARTING, _E.RESTART): Rule(_S.RESTARTING, same=True),
    **{(s, _E.DISABLE): Rule(_S.SHUTTING_DOWN, disables=True) for s in _LIVE},
    **{(s, _E.DISABLE): Rule(_S.DISABLED) for s in (_S.STOPPED, _S.FAILED)},
    (_S.RUNNING, _E.MIGRATE): Rule(_S.MIGRATING, node=NodeChange.SET_TARGET),
    **{(s, _E.RELOCATE): Rule(s, node=NodeChange.TO_GIVEN) for s in OFF},
    # the leader, for a VM that has failed on its node and is to be tried on another
    (_S.FAILED, _E.RETRY): Rule(_S.STARTING, node=NodeChange.TO_GIVEN),
    # the leader, draining a node on which a VM cannot be helped
    **{(s, _E.HOLD): Rule(_S.SHUTTING_DOWN, holds=True) for s in (_S.STARTING, _S.RUNNING, _S.RESTARTING)},
    # the leader, for a VM whose node, or whose migration's target, is known to be off
    **{(s, _E.RECOVER): Rule(_S.STARTING, node=NodeChange.TO_GIVEN) for s in _WANTED},
    **{(s, _E.LOST_HELD): Rule(_S.STOPPED, holds=True, node=NodeChange.DROP_TARGET) for s in _WANTED},
    **{(s, _E.LOST): Rule(_S.STOPPED, node=NodeChange.DROP_TARGET) for s in _WANTED},
    (_S.MIGRATING, _E.TARGET_LOST): Rule(_S.STARTING, node=NodeChange.DROP_TARGET),
    # what the agent finds out
    (_S.STARTING, _E.STARTED): Rule(_S.RUNNING),
    (_S.STARTING, _E.START_FAILED): Rule(_S.STARTING),
    **{(s, _E.GAVE_UP): Rule(_S.FAILED) for s in (_S.STARTING, _S.RUNNING)},
    (_S.RUNNING, _E.SETTLED): Rule(_S.RUNNING),
    (_S.RUNNING, _E.GONE): Rule(_S.STARTING),
    (_S.MIGRATING, _E.GONE): Rule(_S.STARTING, node=NodeChange.DROP_TARGET),
    **{(s, _E.POWERED_OFF): Rule(_S.STOPPED) for s in (_S.STARTING, _S.RUNNING)},
    (_S.MIGRATING, _E.POWERED_OFF): Rule(_S.STOPPED, node=NodeChange.DROP_TARGET),
    (_S.SHUTTING_DOWN, _E.ENDED): Rule(_S.STOPPED),
    (_S.RESTARTING, _E.ENDED): Rule(_S.STARTING),
    (_S.MIGRATING, _E.ARRIVED): Rule(_S.RUNNING, node=NodeChange.TO_TARGET),
    (_S.MIGRATING, _E.MOVED_OFF): Rule(_S.STARTING, node=NodeChange.TO_TARGET),
    (_S.MIGRATING, _E.MIGRATION_FAILED): Rule(_S.RUNNING, node=NodeChange.DROP_TARGET),
    (_S.MIGRATING, _E.MIGRATION_CANCELLED): Rule(_S.RUNNING, node=NodeChange.DROP_TARGET),
}

_MIGRATING_HINT = "is migrating; `pvc vm start` cancels the migration"
REFUSALS: dict[tuple[VmState, VmEvent], str] = {
    **{(_S.MIGRATING, e): _MIGRATING_HINT for e in (_E.SHUTDOWN, _E.STOP, _E.RESTART, _E.DISABLE, _E.MIGRATE, _E.HOLD)},
    **{(s, _E.RESTART): f"is {s}, not running; `pvc vm start` starts it" for s in (*OFF, _S.STARTING)},
    **{(s, _E.MIGRATE): f"is {s}; `pvc vm move` gives it another node" for s in OFF},
    **{(s, _E.MIGRATE): f"is {s}; only a running VM migrates" for s in (_S.STARTING, *_WINDING_DOWN)},
    **{(s, _E.RELOCATE): f"is {s}; only one that is off changes its node without a migration" for s in VmState},
    **{(s, _E.HOLD): f"is {s}, there is nothing to hold" for s in (*OFF, _S.SHUTTING_DOWN)},
}


def rule_for(state: VmState, event: VmEvent) -> Rule | str:
    """The rule for a pair, or the sentence (without subject) that refuses it."""
    rule = RULES.get((state, event))
    if rule is not None:
        return rule
    return REFUSALS.get((state, event), f"is {state}, in which `{event}` cannot happen")


def advance(
    record: VmRecord, event: VmEvent, reason: str, now: str, target: str = "", permanent: bool = False
) -> VmRecord:
    """The record after an event: the only way a VM changes its state.

    `target` belongs to MIGRATE, RELOCATE, RETRY and RECOVER, `permanent` to the first two; `now` is wall-clock time for
    people. The same object comes back when nothing changes. Raises `Refused` when the event cannot happen in this
    state, or would start a VM that is kept off.
    """
    rule = rule_for(record.state, event)
    if isinstance(rule, str):
        raise Refused(record.name, rule)
    if rule.same and not (event in (VmEvent.SHUTDOWN, VmEvent.STOP) and record.held):
        return record
    if record.kept_off and record.state in OFF and rule.to not in OFF:
        raise Refused(record.name, record.kept_off)
    if event is VmEvent.START_FAILED:
        return msgspec.structs.replace(record, reason=reason, changed_at=now)
    disables = rule.disables or (event is VmEvent.STOP and record.after_shutdown == "disabled")
    changed = msgspec.structs.replace(
        record,
        state=VmState(record.after_shutdown) if _ends_shutdown(record, event) else rule.to,
        forced=rule.forced or (event is VmEvent.DISABLE and record.forced),
        after_shutdown="disabled" if disables else "stopped",
        cancelling=rule.cancels,
        held=rule.holds or (record.held and (event is VmEvent.RELOCATE or _ends_shutdown(record, event))),
        failed_on=_failed_on(record, event),
        transition=record.transition + 1,
        reason=reason,
        changed_at=now,
    )
    changed = _with_node(changed, rule, event, target, permanent)
    same = msgspec.structs.replace(
        changed, transition=record.transition, reason=record.reason, changed_at=record.changed_at
    )
    return record if same == record else changed


def _failed_on(record: VmRecord, event: VmEvent) -> tuple[str, ...]:
    """Forgotten when it has settled, and when a person says what is to become of it."""
    if event in (_E.START, _E.SHUTDOWN, _E.STOP, _E.RESTART, _E.DISABLE, _E.RELOCATE, _E.SETTLED):
        return ()
    if event is _E.GAVE_UP and record.node not in record.failed_on:
        return (*record.failed_on, record.node)
    return record.failed_on


def _ends_shutdown(record: VmRecord, event: VmEvent) -> bool:
    return event is VmEvent.ENDED and record.state is VmState.SHUTTING_DOWN


def _with_node(record: VmRecord, rule: Rule, event: VmEvent, target: str, permanent: bool) -> VmRecord:
    """Apply the rule's effect on node, target and home."""
    if rule.node is NodeChange.SET_TARGET:
        return msgspec.structs.replace(record, target=target, permanent=permanent)
    if rule.node is NodeChange.TO_TARGET:
        return _at(record, record.target, stays=record.permanent)
    if rule.node is NodeChange.TO_GIVEN:
        # A move whose source was lost is one all the same: where it went, the VM is at home.
        has_moved = event is VmEvent.RECOVER and record.permanent and target == record.target
        return _at(record, target, stays=permanent or has_moved)
    if rule.node is NodeChange.DROP_TARGET:
        return msgspec.structs.replace(record, target="", permanent=False)
    return record


def _at(record: VmRecord, node: str, *, stays: bool) -> VmRecord:
    home = node if stays else record.home
    return msgspec.structs.replace(record, node=node, home=home, target="", permanent=False)
