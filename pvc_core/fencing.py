# SPDX-License-Identifier: Apache-2.0
"""fencing: what a fence agent is asked, and what of its answer counts: only a confirmed "it is off".

Recovery starts a lost node's VMs elsewhere, so a node that is believed off and is not means a guest on two nodes.
Everything but a clear confirmation (an exception, a deadline that passed, an answer of the wrong kind) therefore
means "not fenced".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pvc_core.errors import PluginError
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

PowerState = Literal["on", "off", "unknown"]


@dataclass(frozen=True)
class FenceRequest:
    """The node that is to be off, and the device that can see to it.

    device: the agent's own parameters for this device, such as its address and credentials; never logged.
    """

    node: str
    address: str = ""
    device: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: PluginOptions = NO_OPTIONS


@dataclass(frozen=True)
class FenceVerdict:
    """confirmed: the device itself says that the node is off now. detail: a sentence for the operator."""

    confirmed: bool
    detail: str


class FenceAgent(Protocol):
    """Switches a node off through a device that works without the node's help."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        """Switch the node off and look whether it is. Idempotent: a node that is off already is confirmed."""

    def power_state(self, request: FenceRequest) -> PowerState:
        """What the device says now, without changing anything: for a dry check."""


@dataclass(frozen=True)
class FenceAgentEntry:
    """A fence agent by name. deadline_s: after which its answer does not count any more."""

    name: str
    summary: str
    agent: FenceAgent
    deadline_s: float = 60.0
    plugin: str = ""


def fence(entry: FenceAgentEntry, request: FenceRequest, calls: PluginCalls, options: PluginOptions) -> FenceVerdict:
    """Ask an agent to switch a node off. Fails closed: whatever is not a confirmation is a refusal with its reason."""
    try:
        answer = calls.ask(entry.plugin or entry.name, entry.agent.power_off, replace(request, options=options))
    except PluginError as failure:
        return FenceVerdict(False, failure.sentence())
    if not isinstance(answer, FenceVerdict) or answer.confirmed is not True:
        said = answer.detail if isinstance(answer, FenceVerdict) else f"it answered {type(answer).__name__}"
        return FenceVerdict(False, f"fence agent {entry.name}: {said or 'not confirmed'}")
    return answer
