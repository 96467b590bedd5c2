# SPDX-License-Identifier: Apache-2.0
"""Daemons on which a third party's plugins loop without end and do not import: they drain, report and end as ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from installed_module import install_module
from operators import Operator, an_operator
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster

PLUGINS = {
    "acme-loops": """
        from pvc_core import FilterEntry, hookimpl

        class Endless:
            def reject(self, request, nodes, settings):
                while True:
                    pass

        @hookimpl
        def pvc_filters():
            return [FilterEntry("endless", "nothing", Endless())]
    """,
    "acme-gone": "import a_module_that_nobody_has",
}


@pytest.fixture
def broken_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions on the path of every process that this test starts, but not on its own."""
    folder = tmp_path / "site"
    for name, code in PLUGINS.items():
        install_module(folder, name, code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def cluster(broken_plugins: None, tmp_path: Path) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(tmp_path)
    try:
        for node in cluster.nodes:
            cluster.start_daemon(node)
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield operator


def leaves_out(snapshot: ClusterSnapshot, plugin: str) -> bool:
    """Some node's report says so."""
    reports = [node.report.value for node in snapshot.nodes.values() if node.report]
    return any(report.plugin_troubles[plugin].circuit == "open" for report in reports if report.plugin_troubles)


def test_a_plugin_in_an_endless_loop_stops_neither_a_flush_nor_the_daemons_end(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    names = [f"web{number}" for number in range(4)]
    for name in names:
        operator.define(name, target="hv1")
    operator.wait_state(*names)
    operator.commands.flush("hv1")
    operator.wait_mode("hv1", "flushed")
    assert {operator.vm(name).node for name in names} == {"hv2", "hv3"}
    operator.wait(
        lambda snapshot: leaves_out(snapshot, "acme-loops"), "the leader to report the plugin that it leaves out"
    )
    for node in cluster.nodes:
        cluster.stop(node)


def test_a_node_publishes_which_plugins_it_has_and_why_not_the_others(operator: Operator) -> None:
    operator.wait(lambda snapshot: all(node.member for node in snapshot.nodes.values()), "all nodes")
    member = operator.view.snapshot().node("hv1").member
    assert member is not None
    assert member.value.plugins["acme-loops"] == "1.0"
    assert "a_module_that_nobody_has" in member.value.plugins_refused["acme-gone"]
