# SPDX-License-Identifier: Apache-2.0
"""Fence devices on real daemons: one that confirms starts the VMs elsewhere without a person, and nothing else does."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from operators import Operator
from pvc_core.codec import encode
from pvc_core.event_log import EventLog
from pvc_core.fence_devices import NodeFenceDevices, NumberedDevice
from pvc_core.fencing import FenceDevice
from pvc_core.layout import fence_devices
from pvc_core.ports import Create
from pvc_lab.embedded_cluster import EmbeddedCluster

SECRET = "Swordfish-4711"
PLUGIN = """
    from pvc_core import FenceAgentEntry, FenceStatus, FenceVerdict, hookimpl

    class Pdu:
        def power_off(self, request):
            if request.device["password"] != "Swordfish-4711":
                raise RuntimeError("the wrong password")
            is_off = request.device["outlet"] == "honest"
            return FenceVerdict(is_off, f"outlet {request.device['outlet']} says {'off' if is_off else 'on'}")

        def status(self, request):
            if request.device["outlet"] == "silent":
                raise TimeoutError("no answer")
            return FenceStatus("on")

    @hookimpl
    def pvc_fence_agents():
        return [FenceAgentEntry("acme-pdu", "outlets", Pdu(), deadline_s=5, secrets=("password",))]
"""


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with a fence agent, on the path of the daemons."""
    info = tmp_path / "site/acme_pdu-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site/acme_pdu.py").write_text(textwrap.dedent(PLUGIN))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pdu\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pvc]\nacme-pdu = acme_pdu\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def configure(operator: Operator, node: str, *outlets: str) -> None:
    """One level per outlet, in this order."""
    devices = [
        NumberedDevice(level, FenceDevice("acme-pdu", {"outlet": outlet, "password": SECRET}, level))
        for level, outlet in enumerate(outlets, 1)
    ]
    record = NodeFenceDevices(devices=tuple(devices), last_number=len(devices))
    operator.store.transaction([Create(fence_devices(node), encode(record))])


def lose(cluster: EmbeddedCluster, node: str) -> None:
    cluster.stop(node, signal.SIGKILL)
    with cluster.world() as world:
        world.cut_power(node)


def told(operator: Operator, kind: str) -> str:
    """The reason of the last event of this kind."""
    return next((e.reason for e in reversed(EventLog(operator.store).last(1000).events) if e.kind == kind), "")


@pytest.mark.parametrize("outlets", [("honest",), ("refusing", "honest")], ids=["first", "second level"])
def test_a_device_that_confirms_starts_the_vms_elsewhere_without_a_person(
    cluster: EmbeddedCluster, operator: Operator, outlets: tuple[str, ...]
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1})
    configure(operator, "hv2", *outlets)
    operator.define("web1", target="hv2")
    operator.wait_state("web1")
    lose(cluster, "hv2")
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    operator.wait_state("web1")
    assert told(operator, "node_fenced") == "outlet honest says off"
    assert not any(SECRET in cluster.log_path(node).read_text() for node in cluster.nodes)


def test_a_device_that_refuses_leaves_everything_where_it_is(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1, "fence_retry_s": 0.5})
    configure(operator, "hv2", "refusing")
    operator.define("web1", target="hv2")
    operator.wait_state("web1")
    lose(cluster, "hv2")
    operator.wait(lambda s: "outlet refusing says on" in told(operator, "node_not_fenced"), "the refusal to be told")
    assert operator.vm("web1").node == "hv2"
    assert not told(operator, "node_fenced")


def test_the_devices_of_a_node_that_joins_are_asked_and_a_silent_one_is_told(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    configure(operator, "hv1", "honest")
    configure(operator, "hv2", "honest", "silent")
    for node in ("hv1", "hv2"):
        cluster.stop(node, signal.SIGTERM)
        cluster.start_daemon(node)
    operator.wait(lambda s: told(operator, "fence_device_useless") != "", "the silent device to be told of")
    problem = told(operator, "fence_device_useless")
    assert problem.startswith("hv2 could not be switched off if it were lost: device 2 (acme-pdu): ")
    assert "no answer" in problem
    assert not any(SECRET in cluster.log_path(node).read_text() for node in cluster.nodes)
