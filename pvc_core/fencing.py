# SPDX-License-Identifier: Apache-2.0
"""fencing: what a fence agent is asked, and what of its answer counts: only a confirmed "it is off".

Recovery starts a lost node's VMs elsewhere, so a node that is believed off and is not means a guest on two nodes.
Everything but a clear confirmation (an exception, a deadline that passed, an answer of the wrong kind) therefore
means "not fenced". An agent is always asked, also one whose last attempts failed: a node that stays "lost" for ever
because its power switch was unreachable three times is no safety.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal, Protocol, TypeVar, get_args, runtime_checkable

from pvc_core.errors import PluginError
from pvc_core.fence_secrets import without_secrets
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

T = TypeVar("T")

PowerState = Literal["on", "off", "unknown"]


@dataclass(frozen=True)
class FenceRequest:
    """The node that is to be off, and the device that can see to it.

    address: where other nodes reach it, "" when unknown. device: the agent's own parameters for this device, such as
    its address and credentials; never logged. lost_for_s: how long its session has been gone, by the clock of the
    node that asks; 0 when it is not lost. watchdog_s: the node had armed a watchdog, by which it is off this many
    seconds after the end of its session; None when it had not.
    """

    node: str
    address: str = ""
    device: Mapping[str, str] = field(default_factory=dict, repr=False)
    lost_for_s: float = 0.0
    watchdog_s: float | None = None
    options: PluginOptions = NO_OPTIONS


@dataclass(frozen=True)
class FenceVerdict:
    """confirmed: it is certain that the node is off, or can no longer do harm. detail: a sentence for the operator."""

    confirmed: bool
    detail: str


@dataclass(frozen=True)
class FenceStatus:
    """What a device says without being told to do anything. detail: a sentence, why it is unknown for example."""

    power: PowerState
    detail: str = ""


class FenceAgent(Protocol):
    """Switches a node off by means that work without the node's help. Called on any node, from several threads."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        """Switch the node off and look whether it is. Idempotent: a node that is off already is confirmed.

        That a command was accepted confirms nothing; only that the device, asked afterwards, says "off".
        """

    def status(self, request: FenceRequest) -> FenceStatus:
        """What the device says now, without changing anything: for a dry check of address and credentials."""


@runtime_checkable
class DeviceCheck(Protocol):
    """What a fence agent may offer besides: to look at a device's parameters before they are kept."""

    def problems(self, request: FenceRequest) -> Mapping[str, str]:
        """What is wrong, by the parameter's name: each a sentence that goes on after the name and holds no value.

        Called on whatever host serves the API, which need not be one that fences: what cannot be known there is no
        problem. Nothing is asked of the device.
        """


@dataclass(frozen=True)
class FenceAgentEntry:
    """A fence agent by name.

    deadline_s: after which its answer does not count any more. secrets: the device parameters that nobody may read
    again, such as ("password",); the others are shown to operators.
    """

    name: str
    summary: str
    agent: FenceAgent
    deadline_s: float = 60.0
    secrets: tuple[str, ...] = ()
    plugin: str = ""


@dataclass(frozen=True)
class FenceDevice:
    """One of the devices that can switch a node off: the agent that drives it and the agent's parameters for it.

    level: lower ones are tried first. All devices of a level have to confirm, as for a host with two power supplies.
    """

    agent: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    level: int = 1


OptionsOf = Callable[[str], PluginOptions]
"""What is configured for a plugin, by its name."""


def fence_node(
    request: FenceRequest,
    devices: Iterable[FenceDevice],
    agents: Mapping[str, FenceAgentEntry],
    calls: PluginCalls,
    options_of: OptionsOf,
) -> FenceVerdict:
    """Switch a node off by its devices: level by level, until all devices of one level have confirmed.

    Fails closed as `fence` does; without devices nothing is confirmed.
    """
    said: list[str] = []
    for _, level in groupby(sorted(devices, key=lambda device: device.level), key=lambda device: device.level):
        verdicts = []
        for device in level:
            entry = agents.get(device.agent)
            if entry is None:
                verdicts.append(FenceVerdict(False, f"the fence agent {device.agent} is not installed"))
            else:
                asked = replace(request, device=device.parameters)
                verdicts.append(fence(entry, asked, calls, options_of(entry.plugin)))
            if not verdicts[-1].confirmed:
                break
        if all(verdict.confirmed for verdict in verdicts):
            return FenceVerdict(True, "; ".join(verdict.detail for verdict in verdicts))
        said.append(verdicts[-1].detail)
    return FenceVerdict(False, "; ".join(said) or f"{request.node} has no fence device")


def fence(entry: FenceAgentEntry, request: FenceRequest, calls: PluginCalls, options: PluginOptions) -> FenceVerdict:
    """Ask an agent to switch a node off. Fails closed: whatever is not a confirmation is a refusal with its reason."""

    def power_off(request: FenceRequest) -> FenceVerdict:
        verdict = checked_verdict(entry.agent.power_off(request))
        return replace(verdict, detail=without_secrets(verdict.detail, request.device, entry.secrets))

    try:
        asked = replace(request, options=options)
        question = _discreet(power_off, entry)
        verdict = calls.insist(entry.plugin or entry.name, question, asked, deadline_s=entry.deadline_s)
    except PluginError as failure:
        return FenceVerdict(False, f"fence agent {entry.name}: {failure.problem}")
    if not verdict.confirmed:
        return FenceVerdict(False, f"fence agent {entry.name}: {verdict.detail or 'not confirmed'}")
    return verdict


def fence_status(
    entry: FenceAgentEntry, request: FenceRequest, calls: PluginCalls, options: PluginOptions
) -> FenceStatus:
    """Ask a device what it says, changing nothing. An agent that fails knows nothing, which its detail explains."""

    def status(request: FenceRequest) -> FenceStatus:
        answer = entry.agent.status(request)
        if type(answer) is not FenceStatus or answer.power not in get_args(PowerState):
            raise TypeError(f"it answered {answer!r} instead of a FenceStatus")
        return FenceStatus(answer.power, without_secrets(str(answer.detail), request.device, entry.secrets))

    try:
        asked = replace(request, options=options)
        question = _discreet(status, entry)
        return calls.insist(entry.plugin or entry.name, question, asked, deadline_s=entry.deadline_s)
    except PluginError as failure:
        return FenceStatus("unknown", f"fence agent {entry.name}: {failure.problem}")


def device_problems(
    entry: FenceAgentEntry, request: FenceRequest, calls: PluginCalls, options: PluginOptions
) -> Mapping[str, str]:
    """What the agent finds wrong with a device's parameters, if it looks at them. Raises `PluginError`."""
    agent = entry.agent
    if not isinstance(agent, DeviceCheck):
        return {}

    def problems(request: FenceRequest) -> Mapping[str, str]:
        found = {str(name): str(problem) for name, problem in agent.problems(request).items()}
        return {name: without_secrets(problem, request.device, entry.secrets) for name, problem in found.items()}

    asked = replace(request, options=options)
    return calls.insist(entry.plugin or entry.name, _discreet(problems, entry), asked, deadline_s=entry.deadline_s)


def _discreet(question: Callable[[FenceRequest], T], entry: FenceAgentEntry) -> Callable[[FenceRequest], T]:
    """The same question; what the agent raises has no secret of the device in it."""

    def asked(request: FenceRequest) -> T:
        try:
            return question(request)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            told = without_secrets(said, request.device, entry.secrets)
            if told == said:
                raise
            raise RuntimeError(told) from None

    return asked


def checked_verdict(answer: object) -> FenceVerdict:
    """A plugin's answer, if it is a verdict and nothing that merely looks like one. Raises `TypeError`.

    Exactly this type, and exactly True or False in it: what equals True only when it is asked is no confirmation.
    """
    if type(answer) is not FenceVerdict:
        raise TypeError(f"it answered {type(answer).__name__} instead of a FenceVerdict")
    if answer.confirmed is not True and answer.confirmed is not False:
        raise TypeError(f"`confirmed` is {type(answer.confirmed).__name__} instead of True or False")
    return FenceVerdict(answer.confirmed, answer.detail if type(answer.detail) is str else "")
