# SPDX-License-Identifier: Apache-2.0
"""agent_snapshot: what an agent decides on, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pvc_core.agent_actions import Action
from pvc_core.agent_memory import VmMemory
from pvc_core.codec import Stored
from pvc_core.model import Settings, VmRecord
from pvc_core.ports import Domain

Look = Literal["absent", "in a migration", "other"]


@dataclass(frozen=True)
class Seen:
    """How a VM's domain has looked at every look since `since_s`."""

    look: Look
    since_s: float


@dataclass(frozen=True)
class AgentSnapshot:
    """One node's view of its own VMs.

    vms: the records in its ledger, incoming ones included. strays: records of VMs that are active here but stand in
    another node's ledger. domains: the active domains, listed after the records were read. busy: the action under
    way, by UUID; begun_s: since when. last_start_s: when the last start began. paused_until_s: VMs whose last action
    failed are left alone until then. seen: how long each domain has looked as it does; one that is missing: for long.
    """

    node: str
    vms: Mapping[str, Stored[VmRecord]]
    domains: Mapping[str, Domain]
    settings: Settings
    strays: Mapping[str, Stored[VmRecord]] = field(default_factory=dict)
    busy: Mapping[str, Action] = field(default_factory=dict)
    begun_s: Mapping[str, float] = field(default_factory=dict)
    last_start_s: float | None = None
    paused_until_s: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, VmMemory] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentDecision:
    """The actions, and the monotonic time at which to decide again even if nothing happens (None: never)."""

    actions: tuple[Action, ...]
    wake_at_s: float | None


def looked_at(
    before: Mapping[str, Seen], uuids: Iterable[str], domains: Mapping[str, Domain], now_s: float
) -> dict[str, Seen]:
    """What is seen now of these VMs, with the time since when, after what was seen before."""
    seen = {}
    for uuid in uuids:
        look, last = _look(domains.get(uuid)), before.get(uuid)
        seen[uuid] = last if last is not None and last.look == look else Seen(look, now_s)
    return seen


def _look(domain: Domain | None) -> Look:
    if domain is None:
        return "absent"
    return "in a migration" if domain.paused_by_migration else "other"
