# SPDX-License-Identifier: Apache-2.0
"""The command against a whole cluster: real daemons and API on the embedded store and simulated hypervisors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Cli, Ran
from click.shell_completion import ShellComplete

from pvc_cli.main import cli as root_command
from pvc_lab.api_health import is_serving
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Three nodes, and an API over HTTP."""
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("cluster"))
    try:
        for node in cluster.nodes:
            cluster.start_daemon(node)
        cluster.start_api()
        yield cluster
    finally:
        cluster.down()


class Node:
    """`pvc` on a cluster node: in-process, without a token."""

    def __init__(self, run: Cli, cluster: EmbeddedCluster) -> None:
        self._run = run
        self._cluster = cluster

    def __call__(self, *words: str, status: int = 0, stdin: str = "") -> Ran:
        config = str(self._cluster.configuration_path("hv1"))
        ran = self._run(*words, stdin=stdin, PVC_CONFIG=config)
        assert ran.status == status, ran
        return ran

    def define(self, name: str, *words: str, stubborn: bool = False) -> dict[str, Any]:
        xml = self._cluster.definition(name, stubborn=stubborn)
        vm: dict[str, Any] = self("vm", "define", "-", *words, "-o", "json", stdin=xml).document["vm"]
        return vm

    def vm(self, name: str) -> dict[str, Any]:
        view: dict[str, Any] = self("vm", "info", name, "-o", "json").document
        return view


@pytest.fixture
def pvc(run: Cli, cluster: EmbeddedCluster) -> Iterator[Node]:
    """The command on a cluster without VMs, every node of which has reported."""
    node = Node(run, cluster)

    def all_have_reported() -> bool:
        nodes = node("node", "list", "-o", "json").document["nodes"]
        return len(nodes) == 3 and all(view["memory_total_mib"] for view in nodes)

    wait_for(all_have_reported, "three nodes to report")
    yield node
    for name in ("hv1", "hv2", "hv3"):
        node("node", "ready", name, "--wait")
    for name in node("vm", "list", "-o", "names").out.split():
        node("vm", "stop", name, "--wait")
        node("vm", "undefine", name, "-y")


def test_a_vm_lives_its_life(pvc: Node) -> None:
    defined = pvc.define("web1", "-l", "hv1, hv2", "-s", "vms", "-a", "--start", "--wait", "--tag", "front")
    assert defined["state"] == "running"
    assert defined["node"] in ("hv1", "hv2")
    assert defined["node_limit"] == ["hv1", "hv2"]
    assert pvc("vm", "list", "--tag", "front", "-o", "names").out == "web1\n"
    assert "outside the VM's limit" in pvc("vm", "explain", "web1").out

    pvc("vm", "meta", "web1", "-l", "hv3")
    assert pvc("vm", "list", "--limit-violated", "-o", "names").out == "web1\n"
    assert "web1 is running on hv3" in pvc("vm", "move", "web1", "--wait").out
    assert pvc.vm("web1")["home"] == "hv3"

    pvc("vm", "rename", "web1", "web2", status=5)
    assert pvc("vm", "shutdown", "web1", "--wait").out.startswith("web1 is stopped on hv3")
    pvc("vm", "rename", defined["uuid"][:6], "web2")
    assert "<name>web2</name>" in pvc("vm", "dump", "web2").out
    xml = pvc("vm", "dump", "web2").out.replace("<vcpu>1<", "<vcpu>2<")
    assert "+  <vcpu>2</vcpu>" in pvc("vm", "modify", "web2", "-", "-y", stdin=xml).err
    assert pvc.vm("web2")["vcpus"] == 2
    assert pvc("vm", "disable", "web2", "--wait").out.startswith("web2 is disabled")
    assert pvc("vm", "undefine", "web2", "-y").out == "web2 is undefined\n"
    pvc("vm", "info", "web2", status=4)


def test_a_flush_moves_and_holds_and_a_ready_brings_everything_home(pvc: Node) -> None:
    for name, limit in (("web1", "hv1,hv2"), ("web2", "hv1,hv3"), ("db1", "hv1")):
        pvc.define(name, "-l", limit, "--target", "hv1", "--start", "--wait")
    flushed = pvc("node", "flush", "hv1", "--wait")
    assert flushed.out.startswith("hv1 is flushed: ")
    assert "(3 of 3 VMs done)" in flushed.out
    assert "  db1 is held until hv1 is ready: " in flushed.out
    assert flushed.err.startswith("hv1 is flushing, 0 of 3 VMs done")
    assert {name: pvc.vm(name)["node"] for name in ("web1", "web2")} == {"web1": "hv2", "web2": "hv3"}
    assert pvc("vm", "list", "--node", "hv1").out.splitlines()[1].split()[-1] == "held"
    assert pvc("node", "flush", "hv1", "--wait").out.startswith("hv1 is flushed: hv1 is flushed already")

    assert pvc("node", "ready", "hv1", "--wait").out.startswith("hv1 is ready: its VMs are back")
    vms = pvc("vm", "list", "-o", "json").document["vms"]
    assert {(vm["name"], vm["node"], vm["state"]) for vm in vms} == {
        (name, "hv1", "running") for name in ("web1", "web2", "db1")
    }


def test_start_aborts_the_shutdown_of_a_guest_that_ignores_it(pvc: Node) -> None:
    pvc.define("legacy1", "--start", "--wait", stubborn=True)
    assert "still waiting" in pvc("vm", "shutdown", "legacy1", "--timeout", "0.2", status=9).err
    assert "legacy1 is running" in pvc("vm", "start", "legacy1", "--wait").out


def test_migrations_keep_the_home_and_return(pvc: Node) -> None:
    pvc.define("app1", "--target", "hv1", "--start", "--wait")
    pvc("vm", "migrate", "app1", "--target", "hv2", "--wait")
    assert (pvc.vm("app1")["node"], pvc.vm("app1")["home"]) == ("hv2", "hv1")
    assert pvc("vm", "list").out.splitlines()[1].split()[2:4] == ["hv2", "hv1"]
    assert "app1 is running on hv1" in pvc("vm", "unmigrate", "app1", "--wait").out


def test_what_is_refused_says_why_with_a_status_of_its_own(pvc: Node, cluster: EmbeddedCluster) -> None:
    pvc.define("db1", "-l", "hv1", "--start", "--wait")
    assert "outside the VM's limit (hv1)" in pvc("vm", "migrate", "db1", "--target", "hv2", status=6).err
    assert "exists already" in pvc("vm", "define", "-", stdin=cluster.definition("db1"), status=5).err
    other = cluster.definition("db2")
    unknown = pvc("vm", "define", "-", "-l", "hv9", stdin=other, status=2).err
    assert unknown == "pvc: node_limit 'hv9': is not a node of this cluster (allowed: hv1, hv2, hv3)\n"
    assert "memprov" in pvc("vm", "define", "-", "-s", "best", stdin=other, status=2).err
    assert "max_downtime_ms" in pvc("vm", "meta", "db1", "--max-downtime-ms", "0", status=2).err
    assert "not well-formed" in pvc("vm", "define", "-", stdin="<domain>", status=2).err
    huge = cluster.definition("huge", memory_mib=10_000_000)
    assert "no node can take huge" in pvc("vm", "define", "-", stdin=huge, status=6).err
    assert pvc("node", "flush", "hv9", status=4).err == "pvc: no node is called 'hv9' (known: hv1, hv2, hv3)\n"
    pvc("vm", "undefine", "db1", "-y", status=5)
    assert pvc("cluster", "settings", "nonsense=1", status=2).err.startswith("pvc: nonsense")


def test_settings_plugins_and_the_status_of_the_cluster(pvc: Node) -> None:
    before = pvc("cluster", "settings", "-o", "json").document["max_parallel_migrations"]
    assert pvc("cluster", "settings", f"max_parallel_migrations={before + 1}").out.endswith(f"={before + 1}\n")
    pvc("cluster", "settings", f"max_parallel_migrations={before}")
    assert "memprov" in pvc("plugin", "list").out
    assert "fewest assigned VMs" in pvc("plugin", "show", "vms").out
    status = pvc("cluster", "status", "-o", "json").document
    assert status["nodes"] == {"ready": 3}


def test_an_expression_goes_all_the_way_from_the_option_to_the_explanation(pvc: Node) -> None:
    assert pvc.define("web1", "-s", "mem:2, load")["node_selector"] == "mem:2,load:1"
    explained = pvc("vm", "explain", "web1").out.splitlines()
    assert next(line for line in explained if "RANK" in line).split()[3:] == ["MEM:2,LOAD:1", "MEM", "LOAD"]
    assert "best" in pvc("vm", "meta", "web1", "-s", "mem,best", status=2).err
    pvc("cluster", "settings", "default_selector=mem:2,load:1")
    pvc("vm", "meta", "web1", "-s", "")
    assert set(pvc("vm", "explain", "web1", "-o", "json").document["ranking"][0]["parts"]) == {"mem", "load"}
    assert pvc("cluster", "settings", "--reset", "default_selector").out.endswith("default_selector=mem\n")


def test_over_http_a_token_decides_what_is_allowed(pvc: Node, run: Cli, cluster: EmbeddedCluster) -> None:
    admin = pvc("token", "create", "boss", "--role", "admin").out.strip()
    wait_for(lambda: is_serving(cluster.url, admin, 3), "the API to serve")
    remote = {"PVC_API_URL": cluster.url, "PVC_API_TOKEN": admin}
    assert run("node", "list", "-o", "names", **remote).out.split() == ["hv1", "hv2", "hv3"]
    xml = cluster.definition("web1")
    assert run("vm", "define", "-", "--start", "--wait", stdin=xml, **remote).out.startswith("web1 is running on ")

    viewer = run("token", "create", "eyes", **remote).out.strip()
    assert run("vm", "list", "-o", "names", **{**remote, "PVC_API_TOKEN": viewer}).out == "web1\n"
    denied = run("vm", "stop", "web1", **{**remote, "PVC_API_TOKEN": viewer})
    assert (denied.status, denied.err) == (8, "pvc: this needs the role operator; the token has viewer\n")
    for token in ("", "pvc_boss_00"):
        ran = run("vm", "list", **{**remote, "PVC_API_TOKEN": token})
        assert ran.status == 8
        assert "pvc token create" in ran.err
    assert run("token", "revoke", "eyes", **remote).status == 0
    assert run("token", "list", "-o", "names", **remote).out == "boss\n"
    pvc("token", "revoke", "boss")


def test_an_api_that_is_not_there_is_said_in_one_line(run: Cli) -> None:
    ran = run("vm", "list", PVC_API_URL="http://127.0.0.1:1")
    assert ran.status == 7
    assert ran.err.startswith("pvc: the API at http://127.0.0.1:1 cannot be reached: ")


def test_a_configuration_that_makes_no_sense_is_named(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "pvc.toml").write_text("[cluster]\nstore = 'sqlite:///x'\nstroe = 1\n")
    ran = run("vm", "list", PVC_CONFIG=str(tmp_path / "pvc.toml"))
    assert ran.status == 2
    assert "stroe" in ran.err


def test_tab_offers_the_vms_and_nodes_of_the_cluster(
    pvc: Node, cluster: EmbeddedCluster, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pvc.define("web1")
    for name in ("PVC_API_URL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PVC_CONFIG", str(cluster.configuration_path("hv1")))
    complete = ShellComplete(root_command, {}, "pvc", "_PVC_COMPLETE")
    assert [item.value for item in complete.get_completions(["vm", "start"], "we")] == ["web1"]
    assert [item.value for item in complete.get_completions(["node", "flush"], "")] == ["hv1", "hv2", "hv3"]
    assert [item.value for item in complete.get_completions(["vm", "migrate", "web1", "--target"], "hv3")] == ["hv3"]
    assert [item.value for item in complete.get_completions(["vm", "meta", "web1", "-s"], "mem:2,lo")] == ["mem:2,load"]
    offered = [item.value for item in complete.get_completions(["cluster", "settings"], "report_")]
    assert offered == ["report_interval_s=", "report_stale_s="]


def test_a_balance_is_recommended_applied_and_then_left_alone(pvc: Node) -> None:
    for number in range(6):
        pvc.define(f"web{number}", "--target", "hv1", "--start", "--wait")
    recommended = pvc("cluster", "balance", "-o", "json").document
    assert recommended["steps"]
    carried_out = pvc("cluster", "balance", "--apply", "-y", "--wait")
    assert f"{len(recommended['steps'])} of {len(recommended['steps'])} steps done" in carried_out.out
    vms = pvc("vm", "list", "-o", "json").document["vms"]
    assert all(vm["home"] == vm["node"] and vm["state"] == "running" for vm in vms)
    assert [sum(vm["node"] == node for vm in vms) for node in ("hv1", "hv2", "hv3")] == [2, 2, 2]
    again = pvc("cluster", "balance", "-o", "json").document
    assert again["steps"] == []
    assert "ended" in pvc("cluster", "plan").out


def test_a_maintenance_is_begun_seen_everywhere_and_ended(pvc: Node) -> None:
    pvc("cluster", "maintenance", "on", "--for", "2h", "--reason", "new core switch")
    said = pvc("cluster", "maintenance").out
    assert "(new core switch): no node is fenced and no VM recovered; about 2 h left" in said
    assert "(new core switch): no node is fenced" in pvc("node", "list").out.splitlines()[0]
    assert "`pvc cluster maintenance off` ends that" in pvc("cluster", "status").out
    assert "warning: the cluster is in maintenance until" in pvc("node", "flush", "hv1", "--wait").err
    pvc("node", "maintenance", "hv1", "on", "--reason", "new fan")
    assert "pvc node maintenance hv1 off" in pvc("node", "ready", "hv1", status=5).err
    pvc("node", "maintenance", "hv1", "off")
    pvc("cluster", "maintenance", "off")
    assert pvc("cluster", "maintenance").out == "the cluster is not in maintenance\n"
    ran = pvc("node", "ready", "hv1", "--wait")
    assert "warning" not in ran.err


def test_a_plan_is_applied_unless_the_cluster_has_changed_since(pvc: Node, tmp_path: Path) -> None:
    for name in ("web1", "web2"):
        pvc.define(name, "--target", "hv1", "--start", "--wait")
    path, snapshot = tmp_path / "plan.json", tmp_path / "cluster.json"
    snapshot.write_text(pvc("cluster", "snapshot").out)
    path.write_text(pvc("vm", "move", "web1", "--plan", "--target", "hv3", "-o", "json").out)
    offline = pvc("vm", "move", "web1", "--plan", "--target", "hv3", "--snapshot", str(snapshot), "-o", "json")
    assert offline.document["basis"] == json.loads(path.read_text())["basis"]
    pvc("vm", "migrate", "web2", "--target", "hv3", "--wait")
    refused = pvc("cluster", "apply", str(path), "-y", status=5)
    assert "node hv3 is not as it was" in refused.err
    assert pvc.vm("web1")["node"] == "hv1"
    path.write_text(pvc("node", "flush", "hv1", "--plan", "-o", "json").out)
    planned = json.loads(path.read_text())["steps"][0]["to"]
    assert "hv1 is flushed" in pvc("cluster", "apply", str(path), "-y", "--wait").out
    assert pvc.vm("web1")["node"] == planned
