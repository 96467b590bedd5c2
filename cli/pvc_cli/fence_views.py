# SPDX-License-Identifier: Apache-2.0
"""fence_views: what the commands on fence devices read of the API's answers."""

from __future__ import annotations

from typing import TypedDict


class FenceDeviceView(TypedDict):
    """A device that can switch a node off, without its secrets."""

    number: int
    agent: str
    level: int
    parameters: dict[str, str]
    problem: str


class FenceAgentView(TypedDict):
    """A fence agent that a device may name."""

    name: str
    summary: str
    secrets: list[str]


class CheckedDeviceView(TypedDict):
    """What a device says."""

    number: int
    agent: str
    level: int
    power: str
    detail: str
    problem: str
