# SPDX-License-Identifier: Apache-2.0
"""Real nodes are lost: without power, cut off, hung, two at once, with and without a BMC that answers.

Each test ends with the proof that no guest ever ran on two nodes: all hypervisors were looked at from outside all the
time, and every console shows one boot after the other.
"""

from __future__ import annotations

import os

import pytest
from machine_room import MachineRoom

from lab_support import counted_on
from pvc_core.events import EventKind
from pvc_core.model import FenceStep
from pvc_lab.cluster_configuration import RESET_COMMAND
from pvc_lab.host_bmc import BMC_PASSWORD, BMC_USER
from pvc_lab.waiting import wait_for

AWAY_S = int(os.environ.get("PVC_LAB_STORE_AWAY_S", "20"))
"""So long the store is away: ten times longer than sessions last without it."""

pytestmark = [pytest.mark.lab, pytest.mark.libvirt, pytest.mark.zookeeper, pytest.mark.timeout(300)]


def test_guests_of_a_node_without_power_start_elsewhere(room: MachineRoom) -> None:
    lost, other, _ = room.followers()
    marks = room.run_guests({"web1": lost, "web2": lost, "web3": other})
    lost.power_off()
    room.wait_restarted({"web1": marks["web1"], "web2": marks["web2"]}, lost)
    assert counted_on(room.cluster, "web3", marks["web3"])
    assert room.nodes_in(EventKind.NODE_FENCED) == {lost.name}
    lost.boot()
    room.wait_ready()


def test_a_node_that_is_cut_off_and_lives_on_is_off_before_its_guests_start_elsewhere(room: MachineRoom) -> None:
    lost, _, _ = room.followers()
    marks = room.run_guests({"web1": lost, "web2": lost})
    lost.cut_cable()
    assert counted_on(room.cluster, "web1", marks["web1"])
    room.wait_restarted(marks, lost)
    assert not lost.host.is_on


def test_a_leader_that_is_cut_off_leads_no_more_and_is_fenced_like_any_other_node(room: MachineRoom) -> None:
    lost = room.leader()
    marks = room.run_guests({"web1": lost})
    lost.cut_cable()
    room.wait_restarted(marks, lost)
    assert not lost.host.is_on
    assert room.leader() is not lost


def test_two_nodes_without_power_are_fenced_side_by_side(room: MachineRoom) -> None:
    first, second, _ = room.followers()
    marks = room.run_guests({"web1": first, "web2": first, "web3": second})
    first.power_off()
    second.power_off()
    room.wait_restarted(marks, first, second)
    assert room.nodes_in(EventKind.NODE_RECOVERED) == {first.name, second.name}


def test_a_leader_and_another_node_without_power_are_recovered_by_the_next_leader(room: MachineRoom) -> None:
    leader, other = room.leader(), room.followers()[0]
    marks = room.run_guests({"web1": leader, "web2": other})
    leader.power_off()
    other.power_off()
    room.wait_restarted(marks, leader, other)


def test_a_daemon_that_hangs_has_its_node_switched_off(room: MachineRoom) -> None:
    lost, _, _ = room.followers()
    marks = room.run_guests({"web1": lost})
    lost.pause_daemon()
    room.wait_restarted(marks, lost)
    assert not lost.host.is_on
    lost.continue_daemon()  # nothing is left of it
    assert room.cluster.active_on("web1") == (room.operator.vm("web1").node,)


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


def test_the_leader_killed_during_a_recovery_leaves_it_to_the_next(room: MachineRoom) -> None:
    leader, (lost, _, _) = room.leader(), room.followers()
    marks = room.run_guests({"web1": lost, "web2": lost, "web3": leader})
    lost.power_off()
    room.wait_step(lost, FenceStep.RECOVERING, FenceStep.RECOVERED)
    leader.kill_daemon()
    leader.start_daemon()
    room.wait_restarted({"web1": marks["web1"], "web2": marks["web2"]}, lost)
    room.wait_step(lost, FenceStep.RECOVERED)
    assert counted_on(room.cluster, "web3", marks["web3"])


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


def test_a_node_that_is_cut_off_and_has_a_dead_bmc_ends_itself_by_its_watchdog(room: MachineRoom) -> None:
    lost, _, _ = room.followers()
    room.give_watchdogs(lost)
    marks = room.run_guests({"web1": lost})
    room.wait_armed(lost)
    before = lost.boots
    lost.bmc.stop()
    lost.cut_cable()
    room.wait_restarted(marks, lost)
    assert lost.boots > before
    assert "watchdog" in room.events(EventKind.NODE_FENCED)[0].reason


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


# ------------------------------------------------------------------------------------------------ the store


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
        end = mark.ticks + AWAY_S
        wait_for(
            lambda name=name, end=end: room.cluster.console(name).ticks >= end,
            f"{name} to count so far",
            deadline_s=60 + 3 * AWAY_S,
        )
    room.ensemble.start()
    room.wait_for_store()
    room.wait_ready()
    room.run_guests({"web4": first})
    assert all(counted_on(room.cluster, name, mark) for name, mark in marks.items())
    assert room.nodes_in(EventKind.NODE_LOST) == room.nodes_in(EventKind.NODE_FENCED) == set()


def test_a_cluster_whose_nodes_have_all_reset_themselves_while_the_store_was_away_starts_as_from_cold(
    room: MachineRoom,
) -> None:
    nodes = list(room.cluster.nodes.values())
    room.give_watchdogs(*nodes)
    marks = room.run_guests({f"web{number}": node for number, node in enumerate(nodes)})
    room.wait_armed(*nodes)
    before = {node: node.boots for node in nodes}
    room.ensemble.kill()
    for node in nodes:
        wait_for(lambda node=node: node.boots > before[node] and node.daemon_runs, f"{node.name} to reset itself")
    assert all(room.cluster.active_on(name) == () for name in marks)
    room.ensemble.start()
    room.wait_for_store()
    room.wait_restarted(marks)
    assert {name: room.boots_of(name) for name in marks} == dict.fromkeys(marks, 2)
