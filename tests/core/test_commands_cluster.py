# SPDX-License-Identifier: Apache-2.0
"""commands: nodes and settings, races between processes, requests, and damaged records."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from stored_cluster import ANY, UUID, Misfits, Xml, limited, refused_without_a_trace, vm

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import decode
from pvc_core.commands import Commands
from pvc_core.errors import AlreadyExists, BrokenRecord, InvalidInput, NoCandidate, NotFound, Refused
from pvc_core.model import Ledger, NodeMode, Settings, VmRecord, VmState
from pvc_core.ports import Delete
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.counting_store import CountingStore
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


# ---------------------------------------------------------------------------------------- nodes and settings


def test_flush_and_ready_write_the_mode_and_how_much_there_is_to_do(running: Any, xml: Xml) -> None:
    running.commands.define(xml("off"), limited("hv1", node_autostart=True))
    flush = running.commands.flush("hv1")
    assert (flush.changed, flush.node.mode, flush.node.drain.total) == (True, NodeMode.FLUSHING, 1)
    ready = running.commands.ready("hv1")
    assert (ready.node.mode, ready.node.drain.total, ready.node.drain.cancels_flush) == (NodeMode.UNFLUSHING, 1, True)


def test_a_second_flush_or_ready_changes_nothing(three: Any) -> None:
    assert (three.commands.ready("hv1").changed, three.commands.ready("hv1").reason) == (False, "hv1 is ready already")
    three.commands.flush("hv1")
    before = three.content()
    assert (three.commands.flush("hv1").changed, three.commands.flush("hv1").reason) == (
        False,
        "hv1 is flushing already",
    )
    assert three.content() == before


def test_a_node_whose_daemon_does_not_run_is_neither_flushed_nor_made_ready(cluster: Any) -> None:
    cluster.add_nodes("lost", alive=False)
    cluster.add_nodes("left", alive=False, left=True, mode=NodeMode.FLUSHED)
    with refused_without_a_trace(cluster, Refused, "its daemon is lost"):
        cluster.commands.flush("lost")
    with refused_without_a_trace(cluster, Refused, "its daemon is left; start it first"):
        cluster.commands.ready("left")


def test_a_node_that_does_not_exist_is_refused_with_the_known_ones(three: Any) -> None:
    for command in (three.commands.flush, three.commands.ready):
        with refused_without_a_trace(three, NotFound) as caught:
            command("hv9")
        assert caught.value.known == ("hv1", "hv2", "hv3")


def test_settings_are_made_on_the_first_change_and_kept_otherwise(three: Any) -> None:
    assert layout.SETTINGS not in three.content()
    assert three.commands.change_settings({"memory_reserve_mib": 1024}).changed
    assert three.commands.change_settings({"default_selector": "vms"}).changed
    assert three.snapshot().settings == Settings(memory_reserve_mib=1024, default_selector="vms")
    assert not three.commands.change_settings({"default_selector": "vms"}).changed


def test_a_setting_that_is_given_as_none_is_its_default_again(three: Any) -> None:
    three.commands.change_settings({"default_selector": "vms", "report_stale_s": 60})
    three.commands.change_settings({"default_selector": None, "report_stale_s": None})
    assert three.snapshot().settings == Settings()


def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(three: Any) -> None:
    with refused_without_a_trace(three, InvalidInput, "is not a setting; is max_parallel_migrations meant?"):
        three.commands.change_settings({"max_paralel_migrations": 4})


def test_settings_given_as_text_are_understood(three: Any) -> None:
    three.commands.change_settings({"memory_overcommit": "1.5", "max_parallel_migrations": "4"})
    assert (three.snapshot().settings.memory_overcommit, three.snapshot().settings.max_parallel_migrations) == (1.5, 4)


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"colour": 1}, "colour"),
        ({"schema": 2}, "schema"),
        ({"default_selector": "best"}, "default_selector"),
        ({"default_selector": ["mem"]}, "default_selector"),
        ({"default_selector": 5}, "default_selector"),
        ({"memory_reserve_mib": -1}, "memory_reserve_mib"),
        ({"memory_overcommit": "much"}, "memory_overcommit"),
        ({"memory_overcommit": "nan"}, "memory_overcommit"),
        ({"memory_overcommit": 0}, "memory_overcommit"),
        ({"max_parallel_migrations": 0}, "max_parallel_migrations"),
        ({"report_stale_s": []}, "report_stale_s"),
        ({"plugins": {"acme": 2}}, "plugins"),
        ({"memory_reserve_mib": 100, "start_failures": 0}, "start_failures"),
    ],
)
def test_settings_that_cannot_be_are_refused_as_a_whole_and_named(
    three: Any, patch: dict[str, Any], field: str
) -> None:
    with refused_without_a_trace(three, InvalidInput) as caught:
        three.commands.change_settings(patch)
    assert caught.value.field == field


def test_a_changed_setting_applies_to_the_next_decision(three: Any, xml: Xml) -> None:
    three.commands.change_settings({"memory_overcommit": 2})
    three.commands.define(xml("large", 6000), ANY)
    three.commands.change_settings({"memory_reserve_mib": 2048})
    with pytest.raises(NoCandidate):
        three.commands.define(xml("larger", 5000), ANY)


# --------------------------------------------------------------------------------------- races and lost answers


def test_a_flush_that_was_asked_for_elsewhere_is_found_before_a_vm_is_placed_there(three: Any, xml: Xml) -> None:
    blind = three.new_commands()
    blind._view.close()
    three.commands.flush("hv1")
    assert blind.define(xml(), ANY).vm.node == "hv2", "hv1 would have been the first by name"


def test_nothing_to_do_is_never_concluded_from_an_old_copy(running: Any) -> None:
    """Another process has flushed the node and stopped the VM; this one has not been told."""
    blind = running.new_commands()
    blind._view.close()
    running.commands.flush("hv1")
    running.commands.stop("web1")
    assert blind.ready("hv1").changed
    assert blind.start("web1").vm.state is S.STARTING


def test_a_command_decides_again_when_somebody_was_faster(running: Any) -> None:
    blind = running.new_commands()
    blind._view.close()
    running.commands.shutdown("web1")
    running.happens("web1", E.ENDED)
    assert blind.start("web1").vm.state is S.STARTING
    running.settle()
    assert vm(running).state is S.STARTING


# --------------------------------------------------------------------------------------------- requests


REQUESTS: list[tuple[str, int, Callable[[Commands, Xml], object]]] = [
    ("resolve a name", 0, lambda commands, xml: commands._view.snapshot().vm("web1")),
    ("explain", 0, lambda commands, xml: commands.questions().explain("web1")),
    ("nothing to do", 1, lambda commands, xml: commands.stop("web1")),
    ("start", 1, lambda commands, xml: commands.start("web1")),
    ("disable", 1, lambda commands, xml: commands.disable("web1")),
    ("move", 1, lambda commands, xml: commands.move("web1")),
    ("flush", 1, lambda commands, xml: commands.flush("hv2")),
    ("define", 1, lambda commands, xml: commands.define(xml("web2"), ANY)),
    ("settings", 1, lambda commands, xml: commands.change_settings({"start_failures": 5})),
    ("metadata", 2, lambda commands, xml: commands.change_metadata("web1", {"priority": 1})),
    ("redefine", 2, lambda commands, xml: commands.redefine("web1", xml("web1", 256))),
    ("rename", 3, lambda commands, xml: commands.rename("web1", "web3")),
    ("undefine", 3, lambda commands, xml: commands.undefine("web1")),
]


@pytest.mark.parametrize(("what", "requests", "call"), REQUESTS, ids=[what for what, _, _ in REQUESTS])
def test_a_command_in_a_warm_copy_takes_few_requests(
    three: Any, xml: Xml, what: str, requests: int, call: Callable[[Commands, Xml], object]
) -> None:
    three.new_commands().define(xml("web1", uuid=UUID), limited("hv1", "hv3"))
    store = CountingStore(three.store)
    commands = Commands(three.new_view(store), store, three.registry, ManualClock())
    store.reset()
    call(commands, xml)
    assert store.requests == requests, store.calls


# -------------------------------------------------------------------------------------------- damaged records


def test_a_vm_record_that_does_not_parse_is_named_and_does_not_stand_in_the_way_of_others(
    stopped: Any, xml: Xml
) -> None:
    stopped.commands.define(xml("web2"), ANY)
    stopped.put(layout.vm(UUID), b"{not json")
    assert list(stopped.snapshot().broken) == [layout.vm(UUID)]
    with refused_without_a_trace(stopped, BrokenRecord, UUID):
        stopped.commands.start(UUID)
    with refused_without_a_trace(stopped, AlreadyExists):
        stopped.commands.define(xml("web9", uuid=UUID), ANY)
    with refused_without_a_trace(stopped, AlreadyExists, "web1"):
        stopped.commands.define(xml("web1"), ANY)
    assert stopped.commands.start("web2").changed
    assert stopped.commands.flush("hv1").changed
    assert stopped.commands.define(xml("web3"), ANY).changed


def test_a_node_record_that_does_not_parse_takes_no_vms_and_its_own_can_still_be_stopped(
    running: Any, xml: Xml
) -> None:
    running.put(layout.node("hv1"), b'{"name": 5}')
    with pytest.raises(NotFound):
        running.commands.define(xml("web2"), ANY, target="hv1")
    assert running.commands.define(xml("web2"), ANY).vm.node == "hv2"
    assert running.commands.shutdown("web1").changed
    assert running.happens("web1", E.ENDED).state is S.STOPPED
    with refused_without_a_trace(running, BrokenRecord, "/ledger/hv1"):
        running.commands.start("web1")


def test_a_ledger_that_does_not_parse_takes_no_vms_and_its_own_can_still_be_stopped(running: Any, xml: Xml) -> None:
    running.put(layout.ledger("hv1"), b"[]")
    assert running.commands.define(xml("web2"), ANY).vm.node == "hv2"
    with refused_without_a_trace(running, NoCandidate, "its ledger does not parse"):
        running.commands.define(xml("web3"), ANY, target="hv1")
    with refused_without_a_trace(running, BrokenRecord, "/ledger/hv1"):
        running.commands.migrate("web1", "hv2")
    assert running.commands.shutdown("web1").changed
    assert running.happens("web1", E.ENDED).state is S.STOPPED
    with refused_without_a_trace(running, BrokenRecord, "/ledger/hv1"):
        running.commands.undefine("web1")


def test_settings_that_do_not_parse_are_not_overwritten(three: Any, xml: Xml) -> None:
    three.put(layout.SETTINGS, b'{"memory_reserve_mib": "lots"}')
    assert three.commands.define(xml(), ANY).changed
    with refused_without_a_trace(three, BrokenRecord, layout.SETTINGS):
        three.commands.change_settings({"memory_reserve_mib": 1})


def test_a_definition_that_is_missing_is_named(stopped: Any, xml: Xml) -> None:
    stopped.store.transaction([Delete(layout.definition(UUID), 0)])
    for call in (
        lambda: stopped.commands.definition("web1"),
        lambda: stopped.commands.rename("web1", "db1"),
        lambda: stopped.commands.redefine("web1", xml()),
        lambda: stopped.commands.change_metadata("web1", {"priority": 1}),
    ):
        with refused_without_a_trace(stopped, BrokenRecord, "it is missing"):
            call()
    assert stopped.commands.start("web1").changed


def test_fields_that_a_newer_version_wrote_survive_every_command(stopped: Any, xml: Xml) -> None:
    newer = {**msgspec.to_builtins(vm(stopped)), "colour": "red"}
    stopped.put(layout.vm(UUID), msgspec.json.encode(newer))
    for call in (
        lambda: stopped.commands.start("web1"),
        lambda: stopped.commands.stop("web1"),
        lambda: stopped.happens("web1", E.ENDED),
        lambda: stopped.commands.change_metadata("web1", {"priority": 1}),
        lambda: stopped.commands.rename("web1", "db1"),
        lambda: stopped.commands.redefine("db1", xml("x", 300)),
    ):
        call()
        assert msgspec.json.decode(stopped.content()[layout.vm(UUID)][0])["colour"] == "red"


# ------------------------------------------------------------------------------------------------- small print


def test_every_reservation_follows_its_vm_through_a_whole_life(three: Any, xml: Xml, misfits: Misfits) -> None:
    commands = three.commands
    life: list[Callable[[], object]] = [
        lambda: commands.define(xml("web1", uuid=UUID), ANY, start=True),
        lambda: three.happens("web1", E.STARTED),
        lambda: commands.migrate("web1", "hv2"),
        lambda: commands.start("web1"),
        lambda: three.happens("web1", E.MIGRATION_CANCELLED),
        lambda: commands.move("web1", "hv3"),
        lambda: three.happens("web1", E.ARRIVED),
        lambda: commands.migrate("web1", "hv1"),
        lambda: three.happens("web1", E.MOVED_OFF),
        lambda: commands.stop("web1"),
        lambda: three.happens("web1", E.ENDED),
        lambda: commands.move("web1", "hv2"),
        lambda: commands.redefine("web1", xml("web1", 64)),
        lambda: commands.undefine("web1"),
    ]
    for step in life:
        step()
        assert misfits(three.snapshot()) == []
    ledgers = [
        msgspec.json.decode(data, type=Ledger) for key, (data, _) in three.content().items() if "/ledger/" in key
    ]
    assert [ledger.vms for ledger in ledgers] == [{}, {}, {}]


def test_the_transition_of_a_vm_grows_with_each_command(running: Any) -> None:
    seen = [vm(running).transition]
    for command in ("restart", "shutdown", "restart", "stop", "disable", "start"):
        getattr(running.commands, command)("web1")
        seen.append(vm(running).transition)
    assert all(earlier < later for earlier, later in pairwise(seen))


def test_a_commit_whose_decision_is_refused_has_not_written(three: Any) -> None:
    def decide(snapshot: ClusterSnapshot) -> Change:
        raise Refused("x", "no")

    with refused_without_a_trace(three, Refused):
        three.view.commit(decide)


def test_what_a_command_returns_is_what_stands_in_the_store(stopped: Any) -> None:
    returned = stopped.commands.start("web1").vm
    assert decode(stopped.store.get(layout.vm(UUID)), VmRecord).value == returned


def test_reports_that_grow_stale_between_two_of_them_are_refused(three: Any) -> None:
    with pytest.raises(InvalidInput, match=r"report_stale_s.*twice report_interval_s"):
        three.commands.change_settings({"report_interval_s": 20.0})
    three.commands.change_settings({"report_interval_s": 20.0, "report_stale_s": 60.0})
