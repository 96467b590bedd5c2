# SPDX-License-Identifier: Apache-2.0
"""A guest on real libvirt whose agent freezes its file systems, and thaws them for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from agent_guest import CHANNEL, image_with_agent

from pvc_core.testing.hypervisor_harness import Bench

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.lab import Lab

pytestmark = pytest.mark.libvirt
AGENT_S = 10.0


@pytest.fixture
def testbed(lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
    from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

    testbed = LibvirtTestbed(lab_of_two)
    yield testbed
    testbed.clear()


@pytest.fixture
def bench(testbed: LibvirtTestbed) -> Iterator[Bench]:
    with ExitStack() as cleanup:
        yield Bench(testbed, cleanup)


def started_with_agent(bench: Bench, testbed: LibvirtTestbed) -> tuple[str, Path]:
    """Its UUID and console; its agent has opened the channel."""
    uuid = str(uuid4())
    testbed.definition("web1", uuid)
    console = testbed.lab.console_path(uuid)
    image = image_with_agent(console.parent)
    guest = replace(testbed.lab.guest("web1"), uuid=UUID(uuid), console=console, image=image)
    bench.here.create(guest.xml().replace("</devices>", f"{CHANNEL}</devices>"))
    testbed.wait_until_up("hv1", uuid)

    def is_connected() -> bool:
        with testbed._domain("hv1", uuid) as domain:
            return "state='connected'" in domain.XMLDesc(0)

    bench.until(is_connected, "its agent has opened the channel")
    return uuid, console


def agent_said(console: Path) -> list[str]:
    """What the agent was told, in order."""
    return [line.strip() for line in console.read_text(errors="replace").splitlines() if line.startswith("agent ")]


def test_a_guest_is_frozen_by_its_agent_and_thawed_by_another_life(bench: Bench, testbed: LibvirtTestbed) -> None:
    uuid, console = started_with_agent(bench, testbed)
    assert bench.here.freeze(uuid, AGENT_S)
    bench.here.close()
    other = bench.connect("hv1")
    assert other.thaw(uuid, AGENT_S)
    assert not other.thaw(uuid, AGENT_S), "it was not frozen any more"
    bench.until(lambda: len(agent_said(console)) == 3, "the console")
    assert agent_said(console) == ["agent freezes", "agent thaws", "agent thaws"]


def test_an_agent_that_answers_nothing_freezes_nothing(bench: Bench, testbed: LibvirtTestbed) -> None:
    uuid, console = started_with_agent(bench, testbed)
    bench.here.suspend(uuid)
    assert not bench.here.freeze(uuid, 2.0)
    assert bench.here.resume(uuid)
    assert agent_said(console) == []
