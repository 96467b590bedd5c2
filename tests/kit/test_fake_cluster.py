# SPDX-License-Identifier: Apache-2.0
"""The fake cluster does with a plugin what a cluster would: places by it, drains by it, and tells of its failures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from pvc_core import (
    Event,
    FilterEntry,
    NodeCapacity,
    PlacementRequest,
    RecoveryPolicyEntry,
    SelectorEntry,
    Settings,
    VmChange,
    layout,
)
from pvc_core.errors import InvalidInput, NoCandidate, PluginError
from pvc_core.hookspecs import hookimpl
from pvc_core.model import NodeMode, VmState
from pvc_core.plugin_loading import installed_plugins
from pvc_core.ports import ClusterStore, Entry, Set, Subscription
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.testing.counting_store import CountingStore
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.fake_cluster import FakeCluster

T = TypeVar("T")


class Racks:
    """Rack b wins."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(node.labels.get("rack") == "b") for node in candidates}


class Moody:
    """Raises."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        raise RuntimeError("not today")


class NotOnTest:
    """Keeps VMs off nodes for tests."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        return {node.name: "is for tests" for node in nodes if node.labels.get("use") == "test"}


class KeepTagged:
    """What is tagged stays."""

    def without_candidate(self, request: PlacementRequest) -> str:
        return "stay" if "keep" in request.metadata.tags else "hold"


class AcmePlugin:
    """A plugin with everything."""

    @hookimpl
    def pvc_selectors(self) -> Sequence[SelectorEntry]:
        return [SelectorEntry("racks", "rack b", Racks()), SelectorEntry("moody", "a good day", Moody())]

    @hookimpl
    def pvc_filters(self) -> Sequence[FilterEntry]:
        return [FilterEntry("use", "nodes for tests", NotOnTest())]

    @hookimpl
    def pvc_recovery_policies(self) -> Sequence[RecoveryPolicyEntry]:
        return [RecoveryPolicyEntry("keep", "stays when tagged", KeepTagged())]


NODES = [
    a_node("hv1", labels={"rack": "a"}),
    a_node("hv2", labels={"rack": "b"}),
    a_node("hv3", labels={"rack": "b", "use": "test"}),
]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster(NODES, registry=registry_with(acme=AcmePlugin())) as cluster:
        yield cluster


def test_a_vm_goes_where_its_selector_says_and_the_explanation_names_it(cluster: FakeCluster) -> None:
    decision = cluster.define("web1", node_selector="racks")
    assert decision.node == cluster.node_of("web1") == "hv2"
    assert cluster.vm("web1").state is VmState.RUNNING
    assert cluster.explain("web1").selector == "racks"
    assert cluster.plugin_failures == []


def test_a_selector_that_raises_is_replaced_and_named(cluster: FakeCluster) -> None:
    decision = cluster.define("web1", node_selector="moody")
    assert decision.selector == "mem"
    assert [failure.plugin for failure in cluster.plugin_failures] == ["acme"]
    assert "not today" in decision.degraded


def test_a_filter_keeps_vms_away(cluster: FakeCluster) -> None:
    cluster.define("web1", node_selector="racks")
    assert [each.reason for each in cluster.explain("web1").rejections] == ["is for tests"]
    with pytest.raises(NoCandidate, match="is for tests"):
        cluster.define("web2", node_limit=["hv3"])


def test_a_flush_moves_the_vms_and_asks_the_policy_about_those_with_no_other_place(cluster: FakeCluster) -> None:
    cluster.define("web1", target="hv1")
    cluster.define("db1", node_limit=["hv1"], recovery_policy="keep", tags=["keep"])
    cluster.define("db2", node_limit=["hv1"], recovery_policy="keep")
    report = cluster.flush("hv1")
    assert cluster.mode_of("hv1") is NodeMode.FLUSHED
    assert cluster.vms_on("hv2") == ("web1",)
    assert list(report.stayed) == [cluster.vm("db1").uuid]
    assert cluster.vm("db2").held
    cluster.ready("hv1")
    assert cluster.vms_on("hv1") == ("db1", "db2", "web1")
    assert cluster.vm("db2").state is VmState.RUNNING


def test_a_vm_is_migrated_and_changed(cluster: FakeCluster) -> None:
    cluster.define("web1", target="hv1")
    assert cluster.migrate("web1").node == "hv2"
    assert cluster.change("web1", node_selector="racks").metadata.node_selector == "racks"
    with pytest.raises(InvalidInput, match="sidways"):
        cluster.change("web1", node_selector="sidways")


def test_a_setting_of_the_cluster_holds_for_the_next_decision(cluster: FakeCluster) -> None:
    cluster.configure(default_selector="racks")
    assert cluster.define("web1").node == "hv2"


def test_a_node_that_is_lost_takes_no_vms(cluster: FakeCluster) -> None:
    cluster.lose("hv2")
    assert cluster.define("web1", node_selector="racks").node == "hv1"


def test_a_node_reports_what_it_has_beside_its_guests() -> None:
    nodes = [a_node("hv1", memory_mib=8192, available_mib=1024, load_1m=3.0), a_node("hv2")]
    with FakeCluster(nodes) as cluster:
        assert cluster.define("web1", node_selector="mem").node == "hv2"
        assert cluster.define("web2", node_selector="load").node == "hv2"


def test_vms_can_be_there_from_the_beginning() -> None:
    with FakeCluster(vms=[a_vm("web1", node="hv2")]) as cluster:
        assert cluster.vms_on("hv2") == ("web1",)
        assert cluster.migrate("web1", "hv3").home == "hv2"


class LateWatches(CountingStore):
    """Tells what is there at first, and nothing of what others write after that."""

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        return super().mirror(parent, only_once(listener))


def only_once(listener: Callable[[T], None]) -> Callable[[T], None]:
    first = iter([listener])

    def tell(news: T) -> None:
        for tell_it in first:
            tell_it(news)

    return tell


class LateRegistry(Registry):
    """Opens such stores; `stores_opened` are those behind them."""

    def __init__(self) -> None:
        super().__init__(installed_plugins([]))
        self.stores_opened: list[ClusterStore] = []

    def open_store(self, url: str) -> ClusterStore:
        self.stores_opened.append(super().open_store(url))
        return LateWatches(self.stores_opened[-1])

    def writes_anew(self, key: str) -> None:
        """Somebody else writes what is there: a newer version."""
        (store,) = self.stores_opened
        entry = store.get(key)
        assert entry is not None
        store.transaction([Set(key, entry.data, entry.version)])


def test_a_flush_is_over_although_the_leaders_first_write_was_decided_on_what_a_watch_had_not_told() -> None:
    vms = [a_vm("web1", node="hv1"), a_vm("web2", node="hv1")]
    registry = LateRegistry()
    with FakeCluster(["hv1", "hv2"], vms, registry=registry) as cluster:
        for vm in vms:
            registry.writes_anew(layout.vm(vm.uuid))
        cluster.flush("hv1")
        assert cluster.vms_on("hv2") == ("web1", "web2")
        assert cluster.mode_of("hv1") is NodeMode.FLUSHED


def test_a_node_reports_also_when_a_watch_has_not_told_of_its_last_report() -> None:
    registry = LateRegistry()
    with FakeCluster(["hv1"], [a_vm("web1", node="hv1", vcpus=3)], registry=registry) as cluster:
        registry.writes_anew(layout.report("hv1"))
        cluster.settle()
        report = cluster.snapshot().node("hv1").report
        assert report is not None
        assert report.value.load_1m == 3


def test_a_node_is_lost_also_when_a_watch_has_not_told_of_its_session() -> None:
    registry = LateRegistry()
    with FakeCluster(["hv1", "hv2"], registry=registry) as cluster:
        registry.writes_anew(layout.member("hv1"))
        cluster.lose("hv1")
        assert not cluster.snapshot().node("hv1").is_alive


def test_a_guest_that_does_not_obey_keeps_a_flush_waiting_for_nobody() -> None:
    with FakeCluster(["hv1", "hv2"]) as cluster:
        cluster.define("web1", target="hv1")
        cluster.agents.immovable.add("web1")
        report = cluster.flush("hv1")
        assert cluster.node_of("web1") == "hv1"
        assert report.stayed


def test_nothing_is_left_of_a_cluster_that_nobody_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cluster = FakeCluster(["hv1"])
    assert cluster.define("web1").node == "hv1"
    assert list(tmp_path.iterdir()) != []
    del cluster
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_registry_without_a_store_is_refused_clearly_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises((InvalidInput, PluginError), match="no driver is loaded"):
        FakeCluster(registry=Registry.of(AcmePlugin()))
    assert list(tmp_path.iterdir()) == []


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    @hookimpl
    def pvc_vm_changed(self, change: VmChange) -> None:
        self.told.append((change.vm.name if change.vm else "", change.reason.partition(";")[0]))

    @hookimpl
    def pvc_event(self, event: Event) -> None:
        self.told.append(event.kind)


def test_a_plugin_is_told_of_every_change_by_the_time_that_the_command_is_over() -> None:
    listener = Listener()
    with FakeCluster(registry=registry_with(listener=listener)) as cluster:
        cluster.define("web1")
        assert listener.told == [("web1", "defined"), "vm_defined", ("web1", "started"), "vm_started"]
        cluster.flush(cluster.node_of("web1"))
        assert [event.kind for event in cluster.events(vm="web1")] == [
            "vm_defined",
            "vm_started",
            "vm_migrating",
            "vm_migrated",
        ]


def test_a_plugin_that_fails_to_be_told_is_among_the_failures() -> None:
    class Deaf:
        @hookimpl
        def pvc_event(self, event: Event) -> None:
            raise RuntimeError("not today")

    with FakeCluster(registry=registry_with(deaf=Deaf())) as cluster:
        cluster.define("web1")
        assert {failure.plugin for failure in cluster.plugin_failures} == {"deaf"}
        assert cluster.vm("web1").state is VmState.RUNNING
