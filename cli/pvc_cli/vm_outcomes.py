# SPDX-License-Identifier: Apache-2.0
"""vm_outcomes: what a person sees of a command on a VM: what it did, what goes on, and whether it came out right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pvc_cli.client import Answer
from pvc_cli.following import follow
from pvc_cli.output import emit, note, warn
from pvc_cli.problems import EndedOtherwise
from pvc_cli.session import Session
from pvc_cli.views import VmView
from pvc_cli.words import name_of, whereabouts


@dataclass(frozen=True)
class Ending:
    """The end a command is meant to come to: how a person says it, and how it is recognised."""

    wanted: str
    is_reached: Callable[[VmView], bool]


def in_state(*states: str) -> Ending:
    """At rest in one of these states; the first is the one to name."""
    return Ending(states[0], lambda vm: vm["state"] in states)


def running_on(node: str) -> Ending:
    """Running on this node."""
    return Ending(f"running on {node}", lambda vm: vm["state"] == "running" and vm["node"] == node)


def arrived_at(node: str) -> Ending:
    """On this node, running or off, for VMs that may change their node in either state."""
    return Ending(f"on {node}", lambda vm: vm["node"] == node and vm["state"] in ("running", "stopped", "disabled"))


def conclude(session: Session, answer: Answer, ending: Ending | None = None, wait_s: float = 0) -> None:
    """Print an outcome, after waiting when `wait_s` says so. Raises `EndedOtherwise` for another end than `ending`."""
    outcome: dict[str, Any] = answer.document
    if ending is not None and wait_s and outcome["watch"]:
        outcome = _waited(session, outcome, ending, wait_s)
    vm: VmView = outcome["vm"]
    emit(
        session.output,
        outcome,
        lambda: f"{name_of(vm)} {whereabouts(vm)}: {outcome['reason']}",
        lambda: [name_of(vm)],
    )
    warn(outcome.get("warnings", ()))
    if outcome["watch"]:
        note(f"it goes on, see `{shown_by(vm)}`")


def shown_by(vm: VmView) -> str:
    """The command that shows how it goes on."""
    return f"pvc vm info {name_of(vm)}"


def _waited(session: Session, outcome: dict[str, Any], ending: Ending, wait_s: float) -> dict[str, Any]:
    vm: VmView = outcome["vm"]
    waited_for = f"{name_of(vm)} to be {ending.wanted}"
    document = follow(session, outcome["watch"], waited_for, shown_by(vm), wait_s, _describe)
    vm = document["vm"]
    if not ending.is_reached(vm):
        raise EndedOtherwise(name_of(vm), ending.wanted, f"{vm['state']} on {vm['node']}", vm["reason"])
    return {**outcome, "vm": vm, "reason": vm["reason"], "watch": ""}


def _describe(document: dict[str, Any]) -> tuple[str, str]:
    vm: VmView = document["vm"]
    return f"{name_of(vm)} {whereabouts(vm)}", f"{vm['state']} {vm['node']} {vm['target']} {vm['cancelling']}"
