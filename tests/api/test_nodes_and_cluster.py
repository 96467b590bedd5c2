# SPDX-License-Identifier: Apache-2.0
"""Nodes, their drains, and the cluster as a whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest
from api_cluster import Cluster, eventually, xml

from pvc_api.cluster_views import status_of
from pvc_api.drain_views import drain_view
from pvc_core import layout
from pvc_core.election import Holder
from pvc_core.model import DrainReport, NodeMode, Settings, VmState
from pvc_core.plugin_troubles import PluginTrouble
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of


def mode_becomes(cluster: Cluster, node: str, mode: NodeMode) -> None:
    """What the leader does at the end of a drain."""
    record = cluster.snapshot.node(node).record.value
    cluster.put(layout.node(node), msgspec.structs.replace(record, mode=mode))


def test_a_node_is_drained_and_taken_back(api: httpx.Client, cluster: Cluster) -> None:
    answer = api.post("/node/hv1/domain-state", json={"state": "flush"})
    assert (answer.status_code, answer.json()["changed"]) == (202, True)
    assert answer.json()["node"]["mode"] == "flushing"
    watch = httpx.URL(f"http://api{answer.json()['watch']}")
    assert api.get(watch).json()["settled"] is False
    again = api.post("/node/hv1/domain-state", json={"state": "flush"})
    assert (again.status_code, again.json()["changed"]) == (202, False)
    mode_becomes(cluster, "hv1", NodeMode.FLUSHED)
    eventually(lambda: api.get(watch).json()["settled"])
    done = api.post("/node/hv1/domain-state", json={"state": "flush"})
    assert (done.status_code, done.json()["changed"], done.json()["watch"]) == (200, False, "")
    back = api.post("/node/hv1/domain-state", json={"state": "ready"})
    assert (back.status_code, back.json()["node"]["mode"]) == (202, "unflushing")


def test_ready_during_a_flush_breaks_it_off(api: httpx.Client, cluster: Cluster) -> None:
    api.post("/node/hv1/domain-state", json={"state": "flush"})
    answer = api.post("/node/hv1/domain-state", json={"state": "ready"})
    assert (answer.status_code, answer.json()["node"]["mode"]) == (202, "unflushing")
    drain = cluster.snapshot.node("hv1").record.value.drain
    assert drain is not None
    assert drain.cancels_flush


def test_a_flush_is_held_until_it_is_over(api: httpx.Client, cluster: Cluster) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.post, "/node/hv1/domain-state?wait=30", json={"state": "flush"})
        eventually(lambda: cluster.snapshot.node("hv1").mode is NodeMode.FLUSHING)
        mode_becomes(cluster, "hv1", NodeMode.FLUSHED)
        answer = held.result(10)
    assert (answer.status_code, answer.json()["node"]["mode"]) == (200, "flushed")


def test_a_node_whose_daemon_is_lost_is_not_flushed(api: httpx.Client, cluster: Cluster) -> None:
    cluster.has([a_node("hv3", alive=False)])
    eventually(lambda: api.get("/node/hv3").status_code == 200)
    assert api.get("/node/hv3").json()["liveness"] == "lost"
    answer = api.post("/node/hv3/domain-state", json={"state": "flush"})
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")


def test_a_node_that_never_reported_is_shown_with_nothing_known(api: httpx.Client, cluster: Cluster) -> None:
    cluster.has([a_node("hv3", reported=False)])
    eventually(lambda: api.get("/node/hv3").status_code == 200)
    node = api.get("/node/hv3").json()
    assert (node["memory_total_mib"], node["report_stale"], node["hypervisor_connected"]) == (0, True, False)


def flushing(vms: list[object], **drain: object) -> ClusterSnapshot:
    node = a_node("hv1", mode=NodeMode.FLUSHING, drain=DrainReport(**drain))  # type: ignore[arg-type]
    return a_snapshot([node, a_node("hv2")], vms)  # type: ignore[arg-type]


def test_the_progress_of_a_flush_says_what_moves_what_waits_for_what_and_what_stayed() -> None:
    snapshot = flushing(
        [
            a_vm("a", state=VmState.MIGRATING, target="hv2"),
            a_vm("b", state=VmState.SHUTTING_DOWN, held=True),
            a_vm("c", state=VmState.RUNNING),
            a_vm("d", state=VmState.STARTING),
            a_vm("e", state=VmState.RUNNING),
            a_vm("f", state=VmState.STOPPED),
            a_vm("g", state=VmState.RUNNING, node="hv2", home="hv1"),
        ],
        total=6,
        stayed={uuid_of("e"): "it is precious", uuid_of("gone"): "it was"},
        attempts={uuid_of("a"): 1, uuid_of("g"): 1},
    )
    view = drain_view(snapshot.nodes["hv1"], snapshot)
    assert view is not None
    assert (view.total, view.remaining) == (7, 4)  # one more than when it began
    assert [(vm.vm, vm.state, vm.target, vm.progress_pct) for vm in view.moving] == [
        ("a", "migrating", "hv2", 0),
        ("b", "shutting-down", "", None),
    ]
    assert {vm.vm: vm.reason for vm in view.waiting} == {
        "c": "its turn: 1 of at most 2 migrations at a time are under way",
        "d": "it is starting; its turn comes when that is over",
    }
    assert {vm.vm: vm.reason for vm in view.stayed} == {"e": "it is precious", uuid_of("gone"): "it was"}


def test_the_progress_of_a_ready_counts_those_who_come_home_and_those_who_start() -> None:
    node = a_node(
        "hv1", mode=NodeMode.UNFLUSHING, drain=DrainReport(attempts={uuid_of("a"): 1, uuid_of("c"): 1, uuid_of("x"): 1})
    )
    snapshot = a_snapshot(
        [node, a_node("hv2")],
        [
            a_vm("a", node="hv2", home="hv1", state=VmState.MIGRATING, target="hv1"),
            a_vm("b", node="hv2", home="hv1", state=VmState.RUNNING),
            a_vm("c", state=VmState.STARTING),
            a_vm("d", state=VmState.STOPPED, held=True),
            a_vm("e", state=VmState.STOPPED, node_autostart=True),
            a_vm("f", state=VmState.DISABLED, node_autostart=True),
            a_vm("x", state=VmState.RUNNING),
        ],
    )
    view = drain_view(snapshot.nodes["hv1"], snapshot)
    assert view is not None
    assert [vm.vm for vm in view.moving] == ["a", "c"]
    assert {vm.vm: vm.reason for vm in view.waiting} == {
        "b": "its turn: 1 of at most 2 migrations at a time are under way",
        "d": "the leader to start it",
        "e": "the leader to start it",
    }
    assert (view.total, view.remaining) == (6, 5)


def test_a_drain_that_is_over_has_nothing_remaining() -> None:
    drain = DrainReport(total=3, stayed={uuid_of("a"): "no place"}, started_at="then", finished_at="now")
    snapshot = a_snapshot([a_node("hv1", mode=NodeMode.FLUSHED, drain=drain)], [a_vm("a"), a_vm("b")])
    view = drain_view(snapshot.nodes["hv1"], snapshot)
    assert view is not None
    assert (view.total, view.remaining, view.finished_at) == (3, 0, "now")
    assert [vm.vm for vm in view.stayed] == ["a"]


@pytest.mark.parametrize(
    ("snapshot", "problem"),
    [
        (a_snapshot([a_node("hv1", alive=False)]), "node hv1 is lost"),
        (a_snapshot([a_node("hv1", alive=False, left=True)]), "node hv1 has left"),
        (a_snapshot([a_node("hv1", report_age_s=31)]), "node hv1 does not report"),
        (a_snapshot([a_node("hv1", reported=False)]), "node hv1 does not report"),
        (a_snapshot([a_node("hv1", hypervisor_connected=False)]), "node hv1 has lost its hypervisor"),
        (a_snapshot([a_node("hv1", unknown_domains={"u": "stray"})]), "does not know: stray"),
        (a_snapshot([a_node("hv1", drain=DrainReport(stayed={"u": "r"}))]), "1 of its VMs could not be helped"),
        (a_snapshot([a_node("hv1")], [a_vm("a", state=VmState.FAILED, reason="no disk")]), "VM a has failed: no disk"),
        (a_snapshot([a_node("hv1")], [a_vm("a", state=VmState.STOPPED, held=True)]), "VM a is held until hv1"),
        (a_snapshot([a_node("hv1")], [a_vm("a", node_limit=["hv2"])]), "VM a is on hv1, outside its limit (hv2)"),
        (a_snapshot([], [a_vm("a")]), "VM a is assigned to hv1, which is no node"),
    ],
)
def test_the_status_has_a_sentence_for_what_an_operator_should_act_on(snapshot: ClusterSnapshot, problem: str) -> None:
    problems = status_of(snapshot, "connected", "hv1").problems
    assert len(problems) == 1
    assert problem in problems[0]


def test_the_status_of_a_healthy_cluster_has_no_problems() -> None:
    status = status_of(a_snapshot([a_node("hv1"), a_node("hv2")], [a_vm("a")]), "connected", "hv1")
    assert status.problems == ()
    assert (status.nodes, status.liveness, status.vms) == ({"ready": 2}, {"alive": 2}, {"running": 1})
    assert (status.memory_total_mib, status.memory_reserved_mib, status.vcpus_reserved, status.cores) == (
        8192,
        512,
        1,
        8,
    )


def test_the_status_names_the_leader(api: httpx.Client, cluster: Cluster) -> None:
    assert api.get("/cluster").json()["leader"] == ""
    cluster.put(layout.LEADER_HOLDER, Holder("hv2", "session", 1))
    assert api.get("/cluster").json()["leader"] == "hv2"


def test_plugins_that_differ_between_nodes_are_shown(api: httpx.Client, cluster: Cluster) -> None:
    for node, plugins in (("hv1", {"selectors": "0.1.0", "acme": "2"}), ("hv2", {"selectors": "0.0.9"})):
        entry = cluster.store.get(layout.member(node))
        assert entry is not None
        member = msgspec.json.decode(entry.data)
        cluster.put(layout.member(node), msgspec.json.encode({**member, "plugins": plugins}))
    eventually(lambda: any(p["name"] == "acme" for p in api.get("/plugin").json()["plugins"]))
    acme = api.get("/plugin/acme").json()
    assert (acme["state"], acme["skew"]) == ("absent", "hv1 has 2; hv2 has none")
    assert [(node["node"], node["state"], node["version"]) for node in acme["nodes"]] == [
        ("hv1", "active", "2"),
        ("hv2", "absent", ""),
    ]
    eventually(lambda: api.get("/plugin/selectors").json()["skew"] == "hv1 has 0.1.0; hv2 has 0.0.9")
    problems = api.get("/cluster").json()["problems"]
    assert any("plugin acme differs: hv1 has 2; hv2 has none" in problem for problem in problems)


def test_a_plugin_that_a_node_refused_or_leaves_out_is_shown_with_the_reason(
    api: httpx.Client, cluster: Cluster
) -> None:
    node = a_node("hv1")
    assert node.member is not None
    assert node.report is not None
    trouble = PluginTrouble(circuit="open", strikes=3, failures=7, last_error="ValueError: boom", last_error_at="now")
    member = msgspec.structs.replace(
        node.member.value, plugins={"acme": "2"}, plugins_refused={"other": "ImportError: gone", "third": ""}
    )
    cluster.put(layout.member("hv1"), member)
    cluster.put(layout.report("hv1"), msgspec.structs.replace(node.report.value, plugin_troubles={"acme": trouble}))
    eventually(lambda: any("leaves out" in problem for problem in api.get("/cluster").json()["problems"]))
    assert api.get("/plugin/acme").json()["nodes"][0]["trouble"]["last_error"] == "ValueError: boom"
    for plugin, state, error in (("other", "failed", "ImportError: gone"), ("third", "blocked", "")):
        on_node = api.get(f"/plugin/{plugin}").json()["nodes"][0]
        assert (on_node["state"], on_node["error"]) == (state, error)
    sentence = "node hv1 leaves out the plugin acme after 3 failures in a row: ValueError: boom"
    assert sentence in api.get("/cluster").json()["problems"]


def test_a_selector_that_a_coordinator_lacks_is_accepted_with_a_warning(api: httpx.Client, cluster: Cluster) -> None:
    for node, selectors in (("hv1", ("mem", "load")), ("hv2", ("mem",))):
        entry = cluster.store.get(layout.member(node))
        assert entry is not None
        member = msgspec.json.decode(entry.data)
        cluster.put(layout.member(node), msgspec.json.encode({**member, "drivers": {"selectors": selectors}}))
    warning = "hv2 lacks the selector load; while it leads, the default selector would rank instead"

    def set_by(body: dict[str, str]) -> list[str]:
        warnings: list[str] = api.post("/cluster/settings", json=body).json()["warnings"]
        return warnings

    eventually(lambda: set_by({"default_selector": "load"}) == [warning])
    assert set_by({"default_selector": "mem"}) == []
    body = {"definition": xml("web1"), "metadata": {"node_selector": "load"}}
    assert api.post("/vm", json=body).json()["warnings"] == [warning]
    assert api.post("/vm/web1", json={"node_selector": "load"}).json()["warnings"] == [warning]
    assert api.post("/vm/web1", json={"tags": ["front"]}).json()["warnings"] == []


def test_a_plugin_is_shown_by_its_name_or_by_that_of_its_driver(api: httpx.Client) -> None:
    for name in ("selectors", "memprov"):
        plugin = api.get(f"/plugin/{name}").json()
        assert plugin["name"] == "selectors"
        assert {driver["name"]: driver["kind"] for driver in plugin["drivers"]}["memprov"] == "selectors"
    missing = api.get("/plugin/nix")
    assert missing.status_code == 404
    assert "selectors" in missing.json()["known"]


def test_settings_are_changed_one_by_one(api: httpx.Client) -> None:
    before = api.get("/cluster/settings").json()
    assert before["settings"]["default_selector"] == Settings().default_selector
    answer = api.post("/cluster/settings", json={"default_selector": "load", "memory_overcommit": 1.5})
    assert (answer.status_code, answer.json()["changed"]) == (200, True)
    after = api.get("/cluster/settings").json()["settings"]
    assert after == {**before["settings"], "default_selector": "load", "memory_overcommit": 1.5}
    assert api.post("/cluster/settings", json={"default_selector": "load"}).json()["changed"] is False
    assert api.post("/cluster/settings", json={"default_selector": "nix"}).json()["allowed"]
