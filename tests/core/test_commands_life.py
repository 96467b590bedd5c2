# SPDX-License-Identifier: Apache-2.0
"""commands: starting, stopping and migrating, and what is refused with which reason."""

from __future__ import annotations

from typing import Any

import pytest
from stored_cluster import UUID, Misfits, Xml, refused_without_a_trace, vm

from pvc_core.errors import NoCandidate, NotFound, Refused
from pvc_core.model import VmState
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


# ------------------------------------------------------------------------------------------ start and stop


def test_start_stays_on_its_node_when_that_is_ready(stopped: Any) -> None:
    outcome = stopped.commands.start("web1")
    assert (outcome.vm.state, outcome.vm.node, outcome.vm.reason) == (
        S.STARTING,
        "hv1",
        "start requested; hv1 was named and passes every filter",
    )


@pytest.mark.parametrize("mode", ["flushing", "flushed", "unflushing"])
def test_start_on_a_node_that_is_not_ready_places_elsewhere_and_keeps_the_home(
    stopped: Any, mode: str, misfits: Misfits
) -> None:
    stopped.set_mode("hv1", mode)
    outcome = stopped.commands.start("web1")
    assert (outcome.vm.state, outcome.vm.node, outcome.vm.home) == (S.STARTING, "hv2", "hv1")
    assert misfits(stopped.snapshot()) == []


def test_start_outside_the_limit_places_within_it(stopped: Any) -> None:
    stopped.commands.change_metadata("web1", {"node_limit": "hv3"})
    assert stopped.commands.start("web1").vm.node == "hv3"


def test_start_without_any_place_is_refused_with_each_nodes_reason(stopped: Any) -> None:
    stopped.commands.change_metadata("web1", {"node_limit": "hv1"})
    stopped.set_mode("hv1", "flushed")
    with refused_without_a_trace(stopped, NoCandidate, "hv1: is flushed; hv2: outside the VM's limit"):
        stopped.commands.start("web1")


def test_start_of_a_running_vm_changes_nothing(running: Any) -> None:
    before = running.content()
    assert not running.commands.start("web1").changed
    assert running.content() == before


def test_start_aborts_a_shutdown_and_says_so(running: Any) -> None:
    running.commands.shutdown("web1")
    outcome = running.commands.start("web1")
    assert (outcome.vm.state, outcome.reason) == (S.STARTING, "start requested: the shutdown is aborted")


def test_start_on_a_flushed_node_still_aborts_a_shutdown_there(running: Any) -> None:
    """The guest runs there still; refusing would terminate it."""
    running.commands.shutdown("web1")
    running.set_mode("hv1", "flushing")
    assert running.commands.start("web1").vm.node == "hv1"


def test_a_disabled_vm_starts_by_command(stopped: Any) -> None:
    stopped.commands.disable("web1")
    assert vm(stopped).state is S.DISABLED
    assert stopped.commands.start("web1").vm.state is S.STARTING


def test_stop_shutdown_restart_and_disable_write_what_the_agent_is_to_do(running: Any) -> None:
    commands = running.commands
    assert commands.restart("web1").vm.state is S.RESTARTING
    assert (commands.shutdown("web1").vm.state, vm(running).forced) == (S.SHUTTING_DOWN, False)
    assert (commands.disable("web1").vm.after_shutdown, vm(running).forced) == ("disabled", False)
    assert (commands.stop("web1").vm.after_shutdown, vm(running).forced) == ("disabled", True)
    assert running.happens("web1", E.ENDED).state is S.DISABLED


def test_disable_by_force_terminates_and_asked_twice_changes_nothing(running: Any) -> None:
    first = running.commands.disable("web1", force=True)
    assert (first.vm.forced, first.vm.after_shutdown) == (True, "disabled")
    assert first.vm.transition == 2
    assert not running.commands.disable("web1", force=True).changed


def test_disable_by_force_hurries_up_a_disable_that_waits(running: Any) -> None:
    gentle = running.commands.disable("web1").vm
    hurried = running.commands.disable("web1", force=True).vm
    assert (hurried.forced, hurried.transition) == (True, gentle.transition + 1)


def test_every_command_on_a_vm_that_is_not_there_says_so(three: Any, xml: Xml) -> None:
    commands = three.commands
    for call in (
        commands.start,
        commands.shutdown,
        commands.stop,
        commands.restart,
        commands.disable,
        commands.migrate,
        commands.move,
        commands.unmigrate,
        commands.undefine,
        lambda name: commands.questions().explain(name),
        lambda name: commands.questions().migrate(name),
        commands.definition,
        lambda name: commands.rename(name, "new"),
        lambda name: commands.redefine(name, xml()),
        lambda name: commands.change_metadata(name, {}),
    ):
        with refused_without_a_trace(three, NotFound, "ghost"):
            call("ghost")


def test_a_vm_is_found_by_name_and_by_uuid_however_that_is_written(stopped: Any) -> None:
    for reference in ("web1", UUID, UUID.upper()):
        assert not stopped.commands.stop(reference).changed


# ---------------------------------------------------------------------------------------------- migrating


def test_migrate_reserves_on_the_target_and_keeps_home_and_source(running: Any, misfits: Misfits) -> None:
    outcome = running.commands.migrate("web1")
    assert (outcome.vm.state, outcome.vm.node, outcome.vm.target, outcome.vm.home) == (S.MIGRATING, "hv1", "hv2", "hv1")
    assert running.snapshot().node("hv2").reserved.vms[UUID].incoming
    assert misfits(running.snapshot()) == []


def test_unmigrate_brings_it_back(running: Any) -> None:
    running.commands.migrate("web1", "hv3")
    running.happens("web1", E.ARRIVED)
    assert running.commands.unmigrate("web1").vm.target == "hv1"
    assert running.happens("web1", E.ARRIVED).node == "hv1"
    assert not running.commands.unmigrate("web1").changed


def test_move_of_a_running_vm_changes_its_home_on_arrival(running: Any) -> None:
    running.commands.move("web1", "hv3")
    moved = running.happens("web1", E.ARRIVED)
    assert (moved.node, moved.home) == ("hv3", "hv3")


def test_move_of_a_stopped_vm_gives_it_another_node_at_once(stopped: Any, misfits: Misfits) -> None:
    moved = stopped.commands.move("web1", "hv2").vm
    assert (moved.state, moved.node, moved.home) == (S.STOPPED, "hv2", "hv2")
    assert misfits(stopped.snapshot()) == []


def test_move_to_where_a_migrated_vm_is_makes_that_its_home(running: Any) -> None:
    running.commands.migrate("web1", "hv3")
    running.happens("web1", E.ARRIVED)
    outcome = running.commands.move("web1", "hv3")
    assert (outcome.changed, outcome.vm.home, outcome.vm.state) == (True, "hv3", S.RUNNING)


@pytest.mark.parametrize("command", ["migrate", "move"])
def test_an_explicit_target_of_a_migration_obeys_limit_mode_and_memory(running: Any, xml: Xml, command: str) -> None:
    migrate = getattr(running.commands, command)
    running.add_nodes("tiny", memory_mib=900)
    running.commands.change_metadata("web1", {"node_limit": "hv1,hv3,tiny"})
    running.set_mode("hv3", "flushed")
    for target, error, why in (
        ("hv2", NoCandidate, "outside the VM's limit"),
        ("hv3", NoCandidate, "is flushed"),
        ("tiny", NoCandidate, "needs 512 MiB"),
        ("hv9", NotFound, "hv9"),
    ):
        with refused_without_a_trace(running, error, why):
            migrate("web1", target)


def test_a_migration_without_any_candidate_says_why_not_each_node(running: Any) -> None:
    running.commands.change_metadata("web1", {"node_limit": "hv1"})
    with refused_without_a_trace(running, NoCandidate, "hv1: is where the VM is now; hv2: outside"):
        running.commands.migrate("web1")


def test_migrate_to_where_it_is_changes_nothing(running: Any) -> None:
    outcome = running.commands.migrate("web1", "hv1")
    assert (outcome.changed, outcome.reason) == (False, "is on hv1 already")


@pytest.mark.parametrize("state", ["stopped", "starting", "shutting-down"])
def test_only_a_running_vm_migrates(running: Any, state: str) -> None:
    if state == "starting":
        running.happens("web1", E.GONE)
    else:
        running.commands.shutdown("web1")
    if state == "stopped":
        running.happens("web1", E.ENDED)
    with refused_without_a_trace(running, Refused, state):
        running.commands.migrate("web1")


def test_a_migrating_vm_takes_a_start_which_cancels_and_new_metadata_and_nothing_else(running: Any, xml: Xml) -> None:
    commands = running.commands
    commands.migrate("web1")
    for call in (
        commands.shutdown,
        commands.stop,
        commands.restart,
        commands.disable,
        commands.migrate,
        commands.move,
        commands.unmigrate,
        lambda name: commands.migrate(name, "hv2"),
        lambda name: commands.redefine(name, xml("web1", 300)),
    ):
        with refused_without_a_trace(running, Refused, "cancels the migration"):
            call("web1")
    for call in (commands.undefine, lambda name: commands.rename(name, "web9")):
        with refused_without_a_trace(running, Refused, "is migrating"):
            call("web1")
    commands.change_metadata("web1", {"priority": 3})
    assert commands.start("web1").vm.cancelling
    assert not commands.start("web1").changed
