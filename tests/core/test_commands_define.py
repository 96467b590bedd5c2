# SPDX-License-Identifier: Apache-2.0
"""commands: how a VM is defined and placed, also by many at the same time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from stored_cluster import ANY, OTHER_UUID, UUID, Misfits, Xml, limited, refused_without_a_trace, vm

from pvc_core import layout
from pvc_core.commands import Commands
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import AlreadyExists, InvalidInput, NoCandidate, NotFound, Refused
from pvc_core.hookspecs import hookimpl
from pvc_core.model import VmMetadata, VmState
from pvc_core.registry import Registry
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.store_harness import in_threads
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


# -------------------------------------------------------------------------------------------------- define


def test_a_vm_is_defined_with_record_definition_name_and_reservation(three: Any, xml: Xml) -> None:
    outcome = three.commands.define(xml("web1", 700, 2, UUID), limited("hv2", node_autostart=True))
    record = vm(three)
    assert outcome.vm == record
    assert (record.uuid, record.name, record.node, record.home, record.state) == (UUID, "web1", "hv2", "hv2", S.STOPPED)
    assert (record.memory_mib, record.vcpus, record.metadata.node_autostart) == (700, 2, True)
    content = three.content()
    assert content[layout.vm_name("web1")] == (UUID.encode(), 0)
    assert parse_domain(content[layout.definition(UUID)][0].decode()).uuid == UUID
    assert three.snapshot().node("hv2").reserved.memory_mib == 700


def test_a_vm_goes_within_its_limit_where_its_selector_sends_it(three: Any, xml: Xml) -> None:
    three.add_nodes("big", memory_mib=65536)
    commands = three.commands
    commands.define(xml("filler1", 1024), limited("hv1"))
    commands.define(xml("filler2", 512), limited("hv2"))
    assert commands.define(xml("a"), VmMetadata(node_selector="mem")).vm.node == "big"
    assert commands.define(xml("b"), VmMetadata(node_selector="vms")).vm.node == "hv3"
    assert commands.define(xml("c"), limited("hv1", "hv2", node_selector="memprov")).vm.node == "hv2"
    assert commands.define(xml("d"), limited("hv1")).vm.node == "hv1"


def test_a_define_says_how_its_place_was_chosen(three: Any, xml: Xml) -> None:
    outcome = three.commands.define(xml(), limited("hv2", "hv3"))
    assert outcome.decision.node == outcome.vm.node == "hv2"
    assert outcome.reason == outcome.vm.reason == f"defined; {outcome.decision.reason}"
    assert [(r.node, r.plugin) for r in outcome.decision.rejections] == [("hv1", "limit")]


def test_a_define_with_start_is_starting(three: Any, xml: Xml) -> None:
    assert three.commands.define(xml(), ANY, start=True).vm.state is S.STARTING


def test_a_define_without_a_uuid_invents_one_for_record_and_definition(three: Any, xml: Xml) -> None:
    record = three.commands.define(xml(), ANY).vm
    assert parse_domain(three.commands.definition("web1")).uuid == record.uuid


def test_several_vms_defined_one_after_the_other_spread(three: Any, xml: Xml) -> None:
    commands = three.commands
    assert sorted(commands.define(xml(f"vm{n}"), ANY).vm.node for n in range(6)) == [
        "hv1",
        "hv1",
        "hv2",
        "hv2",
        "hv3",
        "hv3",
    ]


@pytest.mark.parametrize("limit", ["hv2, hv3", " hv2 hv3 ", "hv3,,hv2,hv3", ["hv2 ", "hv3"], ["hv2, hv3"]])
def test_a_limit_may_be_written_with_commas_and_spaces(three: Any, xml: Xml, limit: Any) -> None:
    three.commands.define(xml(), limited("hv1"))
    three.commands.change_metadata("web1", {"node_limit": limit})
    assert sorted(vm(three).metadata.node_limit) == ["hv2", "hv3"]


def test_a_limit_with_spaces_is_understood_at_define_too(three: Any, xml: Xml) -> None:
    assert three.commands.define(xml(), limited("hv2, hv3")).vm.metadata.node_limit == ("hv2", "hv3")


@pytest.mark.parametrize("limit", [",", " , ", ["hv1", ","]])
def test_commas_without_a_name_are_no_way_to_lift_a_limit(three: Any, xml: Xml, limit: Any) -> None:
    three.commands.define(xml(), limited("hv1"))
    with pytest.raises(InvalidInput, match="commas but no name"):
        three.commands.change_metadata("web1", {"node_limit": limit})
    assert vm(three).metadata.node_limit == ("hv1",)


@pytest.mark.parametrize("limit", ["", "  ", [], [""]])
def test_an_empty_limit_means_any_node(three: Any, xml: Xml, limit: Any) -> None:
    three.commands.define(xml(), limited("hv1"))
    three.commands.change_metadata("web1", {"node_limit": limit})
    assert vm(three).metadata.node_limit == ()
    assert three.commands.questions().explain("web1").rejections == ()


@pytest.mark.parametrize(
    ("metadata", "field", "value"),
    [
        (limited("hv1", "hv9"), "node_limit", "hv9"),
        (VmMetadata(node_selector="best"), "node_selector", "best"),
        (VmMetadata(recovery_policy="hope"), "recovery_policy", "hope"),
    ],
)
def test_an_unknown_node_selector_or_policy_is_refused_with_the_known_ones(
    three: Any, xml: Xml, metadata: VmMetadata, field: str, value: str
) -> None:
    known = {
        "node_limit": ["hv1", "hv2", "hv3"],
        "node_selector": sorted(three.registry.selectors),
        "recovery_policy": sorted(three.registry.recovery_policies),
    }
    with refused_without_a_trace(three, InvalidInput) as caught:
        three.commands.define(xml(), metadata)
    assert (caught.value.field, caught.value.value, list(caught.value.allowed)) == (field, value, known[field])


def test_none_names_the_clusters_default_selector(three: Any, xml: Xml) -> None:
    assert three.commands.define(xml(), VmMetadata(node_selector="none")).vm.metadata.node_selector == ""


def test_a_second_vm_of_the_same_name_is_refused(stopped: Any, xml: Xml) -> None:
    with refused_without_a_trace(stopped, AlreadyExists, "web1"):
        stopped.commands.define(xml("web1"), ANY)


def test_a_second_vm_of_the_same_uuid_is_refused(stopped: Any, xml: Xml) -> None:
    for spelled in (UUID, UUID.upper(), UUID.replace("-", "")):
        with refused_without_a_trace(stopped, AlreadyExists, UUID):
            stopped.commands.define(xml("web2", uuid=spelled), ANY)


def test_a_name_or_uuid_that_another_process_took_a_moment_ago_is_refused(stopped: Any, xml: Xml) -> None:
    """Its watch has not told this process yet."""
    blind = stopped.new_commands()
    blind._view.close()
    stopped.commands.define(xml("web2", uuid=OTHER_UUID), ANY)
    with refused_without_a_trace(stopped, AlreadyExists, "web2"):
        blind.define(xml("web2"), ANY)
    with refused_without_a_trace(stopped, AlreadyExists, OTHER_UUID):
        blind.define(xml("web3", uuid=OTHER_UUID), ANY)


def test_a_vm_larger_than_any_node_is_refused_with_the_numbers(three: Any, xml: Xml) -> None:
    with refused_without_a_trace(three, NoCandidate, "needs 9000 MiB, 3584 MiB are free of 4096") as caught:
        three.commands.define(xml("huge", 9000), ANY)
    assert len(caught.value.rejections) == 3


def test_a_cluster_without_nodes_takes_no_vm(cluster: Any, xml: Xml) -> None:
    with pytest.raises(NoCandidate, match="the cluster has no node"):
        cluster.commands.define(xml(), ANY)


def test_an_explicit_target_outside_the_limit_is_refused(three: Any, xml: Xml) -> None:
    with refused_without_a_trace(three, NoCandidate, r"hv3: outside the VM's limit \(hv1, hv2\)"):
        three.commands.define(xml(), limited("hv1", "hv2"), target="hv3")


def test_an_explicit_target_that_does_not_exist_is_refused_with_the_known_nodes(three: Any, xml: Xml) -> None:
    with refused_without_a_trace(three, NotFound) as caught:
        three.commands.define(xml(), ANY, target="hv9")
    assert caught.value.known == ("hv1", "hv2", "hv3")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("flushing", "is being flushed"), ("flushed", "is flushed"), ("unflushing", "still coming back")],
)
def test_an_explicit_target_that_is_not_ready_is_refused(three: Any, xml: Xml, mode: str, reason: str) -> None:
    three.set_mode("hv2", mode)
    with refused_without_a_trace(three, NoCandidate, f"hv2: .*{reason}"):
        three.commands.define(xml(), ANY, target="hv2")


def test_an_explicit_target_that_is_too_small_is_refused(three: Any, xml: Xml) -> None:
    three.add_nodes("small", memory_mib=1024)
    with refused_without_a_trace(three, NoCandidate, "small: needs 600 MiB, 512 MiB are free of 1024"):
        three.commands.define(xml("web1", 600), ANY, target="small")


def test_a_node_whose_daemon_is_lost_takes_no_vm(cluster: Any, xml: Xml) -> None:
    cluster.add_nodes("hv1", alive=False)
    with refused_without_a_trace(cluster, NoCandidate, "session is lost"):
        cluster.commands.define(xml(), ANY)


@pytest.mark.parametrize(
    "text",
    ["", "<domain>", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain/>", "<network/>", "<domain><name>a b</name></domain>"],
)
def test_a_bad_definition_is_refused(three: Any, text: str) -> None:
    with refused_without_a_trace(three, InvalidInput):
        three.commands.define(text, ANY)


class Objector:
    """A plugin with an opinion."""

    @hookimpl
    def pvc_validate_vm(self, proposal: Any) -> list[str]:
        return ["no two-CPU guests on Sundays"] if proposal.definition.vcpus == 2 else []


def test_a_plugin_may_object_to_a_vm(three: Any, xml: Xml) -> None:
    built_in = three.registry
    registry = Registry.of(objector=Objector())
    registry.filters, registry.selectors = built_in.filters, built_in.selectors
    registry.recovery_policies = built_in.recovery_policies
    commands = Commands(three.view, three.store, registry, ManualClock())
    with refused_without_a_trace(three, InvalidInput, "objector: no two-CPU guests on Sundays"):
        commands.define(xml("web1", vcpus=2), ANY)
    commands.define(xml("web1", vcpus=1), ANY)
    with refused_without_a_trace(three, InvalidInput, "on Sundays"):
        commands.redefine("web1", xml("web1", vcpus=2))


# ------------------------------------------------------------------------------------ many at the same time


def test_twenty_processes_defining_at_once_never_overfill_a_node(three: Any, xml: Xml, misfits: Misfits) -> None:
    """Room is for 3 x 7 VMs; four processes with a session and a copy each want 40."""
    processes = [three.new_commands() for _ in range(4)]
    defined: list[str] = []
    refused: list[NoCandidate] = []

    def define(number: int) -> None:
        try:
            outcome = processes[number % 4].define(xml(f"vm{number:02}"), ANY, start=True)
            defined.append(outcome.vm.name)
        except NoCandidate as error:
            refused.append(error)

    def batch(first: int) -> None:
        define(first)
        define(first + 20)

    in_threads(*(lambda first=first: batch(first) for first in range(20)))  # type: ignore[misc]
    three.settle()
    assert (len(defined), len(refused)) == (21, 19)
    assert all("needs 512 MiB, 0 MiB are free" in error.sentence() for error in refused)
    assert sorted(defined) == sorted(record.value.name for record in three.snapshot().vms.values())
    assert misfits(three.snapshot()) == []
    assert [node.reserved.memory_mib for node in three.snapshot().nodes.values()] == [3584, 3584, 3584]
    assert {three.content()[layout.vm_name(name)][0].decode() for name in defined} == set(three.snapshot().vms)


def test_one_name_wanted_by_many_goes_to_one(three: Any, xml: Xml) -> None:
    processes = [three.new_commands() for _ in range(3)]
    won: list[str] = []

    def define(number: int) -> None:
        with suppress(AlreadyExists):
            won.append(processes[number % 3].define(xml("web1"), ANY).vm.uuid)

    in_threads(*(lambda number=number: define(number) for number in range(9)))  # type: ignore[misc]
    three.settle()
    assert list(three.snapshot().vms) == won
    assert len(won) == 1


def test_many_commands_on_one_vm_leave_record_and_ledgers_in_step(running: Any, misfits: Misfits) -> None:
    processes = [running.new_commands() for _ in range(3)]

    def ask(number: int) -> None:
        commands = processes[number % 3]
        for call in (
            lambda: commands.migrate("web1"),
            lambda: commands.start("web1"),
            lambda: commands.shutdown("web1"),
            lambda: commands.move("web1", "hv2"),
            lambda: commands.change_metadata("web1", {"priority": number}),
        ):
            try:
                call()
            except (Refused, NoCandidate):
                continue

    in_threads(*(lambda number=number: ask(number) for number in range(6)))  # type: ignore[misc]
    running.settle()
    assert misfits(running.snapshot()) == []
