# SPDX-License-Identifier: Apache-2.0
"""plan_record: the plan that is being carried out, or was last, as it stands in the store: step by step, with notes.

There is one at a time. Whoever leads reads here what has been done and what is next, so that another leader goes on
at any line; an operator reads here what became of each VM.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from pvc_core.layout import SCHEMA_VERSION

StepState = Literal["waiting", "under-way", "done", "dropped", "failed"]
"""dropped: something else was done with the VM meanwhile, or the plan was cancelled. failed: it was tried."""
OPEN: tuple[StepState, ...] = ("waiting", "under-way")


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One VM that goes from a node to another, and how far that is. `after`: the steps, by index, that come first."""

    uuid: str
    vm: str
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    after: tuple[int, ...] = ()
    reason: str = ""
    off: bool = False
    """The VM was off when the plan was applied: only its node changes."""
    state: StepState = "waiting"
    attempts: int = 0
    note: str = ""
    """Why it ended as it did."""

    @property
    def is_open(self) -> bool:
        """It has not come to its end."""
        return self.state in OPEN


class LeftVm(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that the plan had no place for, and why."""

    vm: str
    reason: str


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A plan under way, or the last one. finished_at: "" while it goes on.

    permanent: the node that a VM has come to is its home. last_spread_at: when a plan was applied last that moved VMs
    for evenness alone; carried on from plan to plan.
    """

    schema: int = SCHEMA_VERSION
    kind: str
    subject: str = ""
    permanent: bool = False
    steps: tuple[PlannedStep, ...] = ()
    left: tuple[LeftVm, ...] = ()
    cancelled: bool = False
    reason: str = ""
    started_at: str = ""
    finished_at: str = ""
    last_spread_at: str = ""

    @property
    def is_finished(self) -> bool:
        """Nothing will be done for it any more."""
        return bool(self.finished_at)

    def count(self, *states: StepState) -> int:
        """How many steps are in these states."""
        return sum(step.state in states for step in self.steps)

    def with_step(self, index: int, **changes: object) -> PlanRecord:
        """The record with one step changed."""
        steps = list(self.steps)
        steps[index] = msgspec.structs.replace(steps[index], **changes)
        return msgspec.structs.replace(self, steps=tuple(steps))


def report(record: PlanRecord) -> str:
    """What the plan has come to, in one sentence; the steps have the reasons."""
    done = f"{record.count('done')} of {len(record.steps)} steps done"
    parts = [f"cancelled, {done}" if record.cancelled else done]
    parts += [f"{number} {state}" for state, number in _not_done(record)]
    return ", ".join(parts)


def _not_done(record: PlanRecord) -> Iterator[tuple[StepState, int]]:
    states: tuple[StepState, ...] = ("under-way", "waiting", "dropped", "failed")
    for state in states:
        if number := record.count(state):
            yield state, number
