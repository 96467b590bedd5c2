# SPDX-License-Identifier: Apache-2.0
"""Real nodes are lost: without power, cut off, hung, two at once, with and without a BMC that answers.

Each test ends with the proof that no guest ever ran on two nodes: all hypervisors were looked at from outside all the
time, and every console shows one boot after the other.
"""

from __future__ import annotations

import pytest
from machine_room import MachineRoom

from lab_support import counted_on
from pvc_core.events import EventKind
from pvc_core.model import FenceStep
from pvc_lab.cluster_node import RESET_COMMAND
from pvc_lab.host_bmc import BMC_PASSWORD, BMC_USER
from pvc_lab.waiting import wait_for

AWAY_S = 20
"""So long the store is away: many times longer than sessions last without it."""

pytestmark = [pytest.mark.lab, pytest.mark.libvirt, pytest.mark.zookeeper, pytest.mark.timeout(300)]


def test_a_daemon_that_hung_goes_on_as_if_nothing_had_been_if_nothing_could_switch_its_node_off(
    room: MachineRoom,
) -> None:
    lost, _, _ = room.followers()
    marks = room.run_guests({"web1": lost})
    lost.bmc.silence()
    lost.pause_daemon()
    room.wait_refused(lost)
    lost.continue_daemon()
    room.wait_step(lost, FenceStep.RECOVERED)
    room.wait_ready()
    assert counted_on(room.cluster, "web1", marks["web1"])
    assert room.operator.vm("web1").node == lost.name
    assert room.events(EventKind.NODE_FENCED) == []


def test_a_node_whose_bmc_is_dead_too_waits_for_a_person(room: MachineRoom) -> None:
    lost, _, _ = room.followers()
    marks = room.run_guests({"web1": lost})
    lost.bmc.stop()
    lost.power_off()
    room.wait_refused(lost)
    assert room.operator.vm("web1").node == lost.name
    assert room.cluster.active_on("web1") == ()
    room.pvc("node", "confirm-fenced", lost.name, "-y")
    room.wait_restarted(marks, lost)


def test_a_host_is_switched_by_its_bmc_though_its_cable_is_cut(room: MachineRoom) -> None:
    asking, asked, _ = room.followers()
    asked.cut_cable()
    argv = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", asked.bmc.address, "-U", BMC_USER, "-P", BMC_PASSWORD]
    off = asking.host.run([*argv, "chassis", "power", "off"])
    assert (off.returncode, asked.host.is_on) == (0, False), off.output
    on = asking.host.run([*argv, "chassis", "power", "on"])
    assert (on.returncode, asked.host.is_on, asked.daemon_runs) == (0, True, True), on.output


def test_a_host_that_resets_itself_boots_again_and_one_that_was_switched_off_does_not(room: MachineRoom) -> None:
    resetting, off, _ = room.followers()
    off.power_off()
    before = resetting.boots
    resetting.host.spawn(RESET_COMMAND, room.cluster.lab.log_path("reset"))
    wait_for(lambda: resetting.boots > before and resetting.daemon_runs, "the host to boot again")
    assert not off.host.is_on
    assert off.bmc.power == "off"


def test_the_store_loses_its_leader_and_the_cluster_nothing(room: MachineRoom) -> None:
    first, second, _ = room.followers()
    marks = room.run_guests({"web1": first})
    room.ensemble.leader().kill()
    room.ensemble.leader()  # another one
    room.wait_for_store()
    marks |= room.run_guests({"web2": second})
    assert all(counted_on(room.cluster, name, mark) for name, mark in marks.items())
    assert room.nodes_in(EventKind.NODE_LOST) == set()


def test_a_cluster_whose_store_was_away_goes_on_where_it_was(room: MachineRoom) -> None:
    first, second, _ = room.followers()
    marks = room.run_guests({"web1": first, "web2": second, "web3": room.leader()})
    room.ensemble.kill()
    for name, mark in marks.items():
        wait_for(
            lambda name=name, mark=mark: room.cluster.console(name).ticks > mark.ticks + AWAY_S, f"{name} to count"
        )
    room.ensemble.start()
    room.wait_for_store()
    room.wait_ready()
    room.run_guests({"web4": first})
    assert all(counted_on(room.cluster, name, mark) for name, mark in marks.items())
    assert room.nodes_in(EventKind.NODE_LOST) == room.nodes_in(EventKind.NODE_FENCED) == set()
