# SPDX-License-Identifier: Apache-2.0
"""vm_states_diagram: `docs/vm-states.md`, written from the table of states, so that it cannot say anything else.

python -m pvc_core.vm_states_diagram > docs/vm-states.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pvc_core.model import VmState
from pvc_core.vm_states import OFF, RULES, NodeChange, Rule, VmEvent, rule_for

COMMANDS = (VmEvent.START, VmEvent.SHUTDOWN, VmEvent.STOP, VmEvent.RESTART, VmEvent.DISABLE, VmEvent.MIGRATE)
"""What an operator asks for."""
DECISIONS = (VmEvent.HOLD, VmEvent.RELOCATE, VmEvent.RETRY)
"""What follows from a drain, and from a move of a VM that is off."""
RECOVERY = (VmEvent.RECOVER, VmEvent.TARGET_LOST, VmEvent.LOST_HELD, VmEvent.LOST)
"""What follows once a node is known to be off."""
FINDINGS = tuple(event for event in VmEvent if event not in (*COMMANDS, *DECISIONS, *RECOVERY))
"""What the node's agent finds out."""

INTRODUCTION = f"""\
# The states of a VM

<!-- Generated from pvc_core/vm_states.py by: python -m pvc_core.vm_states_diagram > docs/vm-states.md -->

A VM is always in one of eight states. The table is the program: `pvc_core/vm_states.py` holds it, one function
carries it out, and this page is generated from it.

- {", ".join(f"`{state}`" for state in OFF)}: the guest is known to be off. Nothing but the end of the guest, as its
  node's agent saw it, or of its node, as it was confirmed, leads here from a state in which it may run.
- Whoever wants a guest to end asks for `shutting-down`; the record says whether the guest is asked or terminated at
  once, and whether `stopped` or `disabled` follows.
- `held`: the VM is off because no node was left for it, in a drain or after its node was lost; it starts again when
  its node is ready.
"""


def document() -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        "## Diagram\n",
        "```mermaid\n" + "\n".join(_diagram()) + "\n```\n",
        "## Commands\n",
        "\n".join(_table(COMMANDS)) + "\n",
        "## Drain and move\n",
        "\n".join(_table(DECISIONS)) + "\n",
        "## Recovery\n",
        "The node of these VMs, or the target of their migration, is known to be off.\n",
        "\n".join(_list_of(RECOVERY)) + "\n",
        "## What the agent finds out\n",
        "Pairs that are not listed cannot happen; a report of them is dropped.\n",
        "\n".join(_list_of(FINDINGS)) + "\n",
        "## Refused\n",
        "\n".join(_refusals()),
    ]
    return "\n".join(parts) + "\n"


def _identifier(state: VmState) -> str:
    return state.value.replace("-", "_")


def _diagram() -> Iterator[str]:
    """One arrow per pair of states, labelled with the events that lead along it."""
    yield "stateDiagram-v2"
    for state in VmState:
        yield f'    state "{state}" as {_identifier(state)}'
    yield "    [*] --> stopped: define"
    yield "    [*] --> starting: define and start"
    arrows: dict[tuple[VmState, VmState], list[str]] = {}
    for (state, event), rule in RULES.items():
        for to in _targets(state, event, rule):
            if to is not state:
                arrows.setdefault((state, to), []).append(event.value)
    for (state, to), events in arrows.items():
        yield f"    {_identifier(state)} --> {_identifier(to)}: {', '.join(events)}"
    for state in OFF:
        yield f"    {_identifier(state)} --> [*]: undefine"


def _targets(state: VmState, event: VmEvent, rule: Rule) -> tuple[VmState, ...]:
    """Where the pair may lead; the end of a shutdown leads where the record says."""
    if (state, event) == (VmState.SHUTTING_DOWN, VmEvent.ENDED):
        return (VmState.STOPPED, VmState.DISABLED)
    return (rule.to,)


def _table(events: tuple[VmEvent, ...]) -> Iterator[str]:
    yield "| state | " + " | ".join(events) + " |"
    yield "|---" * (len(events) + 1) + "|"
    for state in VmState:
        yield f"| **{state}** | " + " | ".join(_cell(state, event) for event in events) + " |"


def _cell(state: VmState, event: VmEvent) -> str:
    rule = rule_for(state, event)
    if isinstance(rule, str):
        return "refused"
    if rule.same:
        return "already so"
    return _effect(state, event, rule)


def _effect(state: VmState, event: VmEvent, rule: Rule) -> str:
    targets = " or ".join(to.value for to in _targets(state, event, rule))
    notes = [
        note
        for applies, note in (
            (rule.forced, "terminated at once"),
            (rule.disables, "then disabled"),
            (rule.holds, "held"),
            (rule.cancels, "cancelled"),
            (rule.node is not NodeChange.KEEP, rule.node.value),
        )
        if applies
    ]
    return f"{targets} ({', '.join(notes)})" if notes else targets


def _list_of(events: tuple[VmEvent, ...]) -> Iterator[str]:
    yield "| state | event | becomes |"
    yield "|---|---|---|"
    for (state, event), rule in RULES.items():
        if event in events:
            yield f"| **{state}** | {event} | {_effect(state, event, rule)} |"


def _refusals() -> Iterator[str]:
    yield "| state | command | answer |"
    yield "|---|---|---|"
    for event in (*COMMANDS, *DECISIONS):
        for state in VmState:
            rule = rule_for(state, event)
            if isinstance(rule, str):
                yield f"| **{state}** | {event} | {rule} |"


if __name__ == "__main__":
    sys.stdout.write(document())
