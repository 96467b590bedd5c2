# SPDX-License-Identifier: Apache-2.0
"""fence-agents: drives the executables of the ClusterLabs project, fence_ipmilan, fence_redfish and their like.

Off counts as confirmed when the executable has ended the action `off` with status 0 *and* then, asked anew, ends the
action `status` with 2, which means off. Only these numbers decide; what is written is for people. Either of them alone
would be too little: interpreters and shells, too, end with 2 when they do not understand what they are given.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from pvc_core import FenceRequest, FenceStatus, FenceVerdict
from pvc_core.child_process import CommandFailed, Ended
from pvc_plugins.fencing.executables import Description, describe, find, run_action
from pvc_plugins.fencing.parameters import EXECUTABLE, UnusableDevice, executable_name, masked, refusal

ON, OFF = 0, 2
"""How the action `status` ends; everything else means that it does not know."""
NEEDED_ACTIONS = ("off", "status")
DESCRIPTION_S = 10.0
SAID_CHARACTERS = 200

_LOG_PREFIX = re.compile(r".*(?:ERROR|WARNING|CRITICAL): ?")


class FenceAgents:
    """folders: where executables are looked for. off_s, status_s: how long an action may take, in seconds."""

    def __init__(self, folders: Sequence[str], off_s: float, status_s: float) -> None:
        self._folders = folders
        self._off_s = off_s
        self._status_s = status_s

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        """See `FenceAgent`. Both actions together take no longer than their deadlines together."""
        device = request.device
        end_s = time.monotonic() + self._off_s + self._status_s
        try:
            name = executable_name(device)
            off = run_action("off", device, self._folders, self._off_s)
            if off.status != 0:
                return FenceVerdict(False, f"{name} did not switch off, {_end_of(off, device)}")
            status = run_action("status", device, self._folders, end_s - time.monotonic())
        except (CommandFailed, UnusableDevice) as failure:
            return FenceVerdict(False, _failure(failure, device))
        if status.status == OFF:
            return FenceVerdict(True, f"{_device_of(device)} says that {request.node} is off")
        if status.status == ON:
            return FenceVerdict(False, f"{name} took the command, and then said that {request.node} is on")
        return FenceVerdict(False, f"{name} took the command, and then knew no status, {_end_of(status, device)}")

    def status(self, request: FenceRequest) -> FenceStatus:
        """See `FenceAgent`."""
        device = request.device
        try:
            name = executable_name(device)
            ended = run_action("status", device, self._folders, self._status_s)
        except (CommandFailed, UnusableDevice) as failure:
            return FenceStatus("unknown", _failure(failure, device))
        if ended.status == ON:
            return FenceStatus("on", f"{_device_of(device)} answers")
        if ended.status == OFF:
            return FenceStatus("off", f"{_device_of(device)} answers")
        return FenceStatus("unknown", f"{name} knows no status, {_end_of(ended, device)}")

    def problems(self, request: FenceRequest) -> Mapping[str, str]:
        """See `DeviceCheck`. What the executable takes is known where it is installed; elsewhere it is not checked."""
        device = request.device
        try:
            name = executable_name(device)
        except UnusableDevice as unusable:
            return {EXECUTABLE: str(unusable).removeprefix(f"the parameter {EXECUTABLE} ")}
        others = [each for each in device if each != EXECUTABLE]
        refused = {each: problem for each in others if (problem := refusal(each))}
        try:
            path = find(name, self._folders)
        except CommandFailed:
            return refused
        try:
            described = describe(path, DESCRIPTION_S)
        except CommandFailed as failure:
            return {EXECUTABLE: f"{name} {failure}", **refused}
        return {**_misfits(name, described, others), **refused}


def _misfits(name: str, described: Description, given: Sequence[str]) -> Mapping[str, str]:
    lacking = [action for action in NEEDED_ACTIONS if action not in described.actions]
    if lacking:
        return {EXECUTABLE: f"{name} cannot tell that a node is off: it has no action {' nor '.join(lacking)}"}
    known = ", ".join(sorted(each for each in described.parameters if not refusal(each)))
    return {each: f"{name} has no such parameter; it has {known}" for each in given if each not in described.parameters}


def _device_of(device: Mapping[str, str]) -> str:
    """Which device, for a person: fence_ipmilan at 10.0.0.11, plug 3."""
    name = device[EXECUTABLE]
    address = device.get("ip") or device.get("ipaddr")
    plug = device.get("plug") or device.get("port")
    return masked(f"{name}{f' at {address}' if address else ''}{f', plug {plug},' if plug else ''}", device)


def _failure(failure: Exception, device: Mapping[str, str]) -> str:
    if isinstance(failure, UnusableDevice):
        return str(failure)
    return masked(f"{device[EXECUTABLE]} {failure}", device)[:SAID_CHARACTERS]


def _end_of(ended: Ended, device: Mapping[str, str]) -> str:
    """How it ended and what it said, for a person; nothing depends on it."""
    said = masked(_LOG_PREFIX.sub("", ended.complaint), device)
    return f"{ended.how}{f': {said[-SAID_CHARACTERS:]}' if said else ''}"
