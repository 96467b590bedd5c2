# SPDX-License-Identifier: Apache-2.0
"""Fence devices are configured per node, checked before they are kept, and their secrets are told to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_cluster import StoredCluster, refused_without_a_trace

from pvc_core import hookimpl, layout
from pvc_core.errors import BrokenRecord, InvalidInput, NotFound, PvcError, Refused
from pvc_core.event_log import EventLog
from pvc_core.fence_checks import finding, joined
from pvc_core.fence_devices import shown_parameters
from pvc_core.fence_secrets import MASK
from pvc_core.fencing import FenceAgentEntry, FenceDevice, FenceRequest
from pvc_core.ports import Create
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_snapshot
from pvc_core.testing.fake_fence_device import FakeFenceDevice

SECRET = "Swordfish-4711"


class Pdu:
    """A plugin with one fence agent."""

    def __init__(self) -> None:
        self.device = FakeFenceDevice(name="pdu", password=SECRET)

    @hookimpl
    def pvc_fence_agents(self) -> list[FenceAgentEntry]:
        return [self.device.entry()]


@pytest.fixture
def pdu() -> Pdu:
    return Pdu()


@pytest.fixture
def fenced(tmp_path: Path, pdu: Pdu) -> Iterator[StoredCluster]:
    cluster = StoredCluster(tmp_path, Registry.of(pdu=pdu))
    cluster.add_nodes("hv1", "hv2")
    yield cluster
    cluster.close()


def numbers(cluster: StoredCluster, node: str = "hv1") -> list[int]:
    return [each.number for each in cluster.commands.fence_devices(node)]


def test_a_device_is_added_and_removed_by_its_number_which_no_other_gets(fenced: StoredCluster) -> None:
    for outlet in ("1", "2"):
        assert fenced.commands.add_fence_device("hv1", "pdu", {"outlet": outlet}).changed
    assert (numbers(fenced), numbers(fenced, "hv2")) == ([1, 2], [])
    fenced.commands.remove_fence_device("hv1", 2)
    fenced.commands.add_fence_device("hv1", "pdu", {"outlet": "3"}, level=2)
    assert numbers(fenced) == [1, 3]
    assert fenced.commands.fence_devices("hv1")[1].device == FenceDevice("pdu", {"outlet": "3"}, 2)


@pytest.mark.parametrize(
    ("agent", "parameters", "level", "match"),
    [
        ("pud", {}, 1, "agent.*pdu"),
        ("pdu", {}, 0, "level"),
        ("pdu", {}, 10, "level"),
        ("pdu", {"out let": "1"}, 1, "parameters"),
        ("pdu", {"password": f"{SECRET}\naction=on"}, 1, "parameters.password"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_telling_a_value(
    fenced: StoredCluster, agent: str, parameters: dict[str, str], level: int, match: str
) -> None:
    with refused_without_a_trace(fenced, InvalidInput, match) as caught:
        fenced.commands.add_fence_device("hv1", agent, parameters, level)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("node", "number"), [("hv1", 2), ("hv2", 1), ("hv9", 1)])
def test_a_device_that_is_not_there_cannot_be_removed(fenced: StoredCluster, node: str, number: int) -> None:
    fenced.commands.add_fence_device("hv1", "pdu", {})
    with refused_without_a_trace(fenced, NotFound):
        fenced.commands.remove_fence_device(node, number)


def test_no_event_nor_snapshot_nor_repr_holds_a_secret(fenced: StoredCluster) -> None:
    outcome = fenced.commands.add_fence_device("hv1", "pdu", {"password": SECRET, "outlet": "1"})
    fenced.commands.remove_fence_device("hv1", 1)
    fenced.commands.add_fence_device("hv1", "pdu", {"password": SECRET})
    events = EventLog(fenced.store).last(100).events
    assert [event.kind for event in events] == ["fence_device_added", "fence_device_removed", "fence_device_added"]
    assert SECRET not in f"{outcome}{events}{fenced.snapshot()}{fenced.commands.fence_devices('hv1')}"


def test_secrets_are_masked_and_everything_is_while_the_agent_is_unknown(pdu: Pdu) -> None:
    device = FenceDevice("pdu", {"password": SECRET, "outlet": "1"})
    assert shown_parameters(device, {"pdu": pdu.device.entry()}) == {"password": MASK, "outlet": "1"}
    assert shown_parameters(device, {}) == {"password": MASK, "outlet": MASK}


def test_a_dry_check_asks_every_device_and_switches_nothing(fenced: StoredCluster, pdu: Pdu) -> None:
    fenced.commands.add_fence_device("hv1", "pdu", {"password": SECRET})
    fenced.commands.add_fence_device("hv1", "pdu", {"password": "wrong"}, level=2)
    right, wrong = fenced.commands.check_fence_devices("hv1")
    assert (right.status.power, wrong.status.power) == ("on", "unknown")
    assert "does not accept the password" in wrong.status.detail
    assert pdu.device.asked == [("status", "hv1")] * 2
    with pytest.raises(PvcError):
        fenced.commands.check_fence_devices("hv9")


def test_what_an_agent_finds_wrong_with_a_parameter_is_refused(tmp_path: Path) -> None:
    class Checking(FakeFenceDevice):
        def problems(self, request: FenceRequest) -> dict[str, str]:
            return {} if "outlet" in request.device else {"outlet": "must say which of the eight"}

    pdu = Pdu()
    pdu.device = Checking(name="pdu", password=SECRET)
    cluster = StoredCluster(tmp_path, Registry.of(pdu=pdu))
    try:
        cluster.add_nodes("hv1")
        with refused_without_a_trace(cluster, InvalidInput, "parameters.outlet.*which of the eight"):
            cluster.commands.add_fence_device("hv1", "pdu", {"password": SECRET})
        assert cluster.commands.add_fence_device("hv1", "pdu", {"outlet": "1"}).changed
    finally:
        cluster.close()


@pytest.mark.parametrize("name", ["passwd", "Pass-Word", "snmp-community", "api_key", "auth_token", "pw"])
def test_a_parameter_whose_name_tells_of_a_secret_is_masked_whatever_its_agent_says(pdu: Pdu, name: str) -> None:
    device = FenceDevice("pdu", {name: SECRET})
    assert shown_parameters(device, {"pdu": pdu.device.entry()}) == {name: MASK}


def test_the_very_same_device_is_refused_a_second_time(fenced: StoredCluster) -> None:
    fenced.commands.add_fence_device("hv1", "pdu", {"outlet": "1"})
    with refused_without_a_trace(fenced, Refused, "fence device 1 is this very device"):
        fenced.commands.add_fence_device("hv1", "pdu", {"outlet": "1"})
    assert fenced.commands.add_fence_device("hv2", "pdu", {"outlet": "1"}).number == 1
    assert fenced.commands.add_fence_device("hv1", "pdu", {"outlet": "1"}, level=2).number == 2


def test_all_devices_of_a_node_are_forgotten_at_once_and_their_numbers_never_come_back(fenced: StoredCluster) -> None:
    for node, outlet in (("hv1", "1"), ("hv1", "2"), ("hv2", "3")):
        fenced.commands.add_fence_device(node, "pdu", {"outlet": outlet})
    assert fenced.commands.clear_fence_devices("hv1").reason == "all fence devices of hv1 are removed"
    assert (numbers(fenced), numbers(fenced, "hv2")) == ([], [1])
    assert not fenced.commands.clear_fence_devices("hv1").changed
    fenced.commands.add_fence_device("hv1", "pdu", {"outlet": "1"})
    assert numbers(fenced) == [3]
    with pytest.raises(NotFound):
        fenced.commands.clear_fence_devices("hv9")


@pytest.mark.parametrize("record", [b"no JSON", b'{"devices": 3}', b"[]"])
def test_a_record_that_does_not_parse_is_told_and_can_be_cleared(fenced: StoredCluster, record: bytes) -> None:
    fenced.store.transaction([Create(layout.fence_devices("hv1"), record)])
    for command in (
        lambda: fenced.commands.fence_devices("hv1"),
        lambda: fenced.commands.add_fence_device("hv1", "pdu", {}),
        lambda: fenced.commands.remove_fence_device("hv1", 1),
    ):
        with refused_without_a_trace(fenced, BrokenRecord, "/fencing/hv1"):
            command()
    assert "broken record" in fenced.commands.clear_fence_devices("hv1").reason
    assert fenced.commands.add_fence_device("hv1", "pdu", {}).number == 1


def test_a_device_that_calls_a_living_node_off_would_be_of_no_use(fenced: StoredCluster, pdu: Pdu) -> None:
    fenced.commands.add_fence_device("hv1", "pdu", {"password": SECRET})
    pdu.device.off.add("hv1")
    (checked,) = fenced.commands.check_fence_devices("hv1")
    assert "it switches something else" in checked.problem
    assert finding("hv1", [checked]).startswith(
        "hv1 could not be switched off if it were lost: device 1 (pdu): it says"
    )
    pdu.device.off.clear()
    assert finding("hv1", fenced.commands.check_fence_devices("hv1")) == ""


def test_nodes_are_checked_when_their_daemon_joins_and_not_in_maintenance() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2", alive=False), a_node("hv3", maintenance=True)])
    new = joined(snapshot, {})
    assert list(new) == ["hv1"]
    assert joined(snapshot, new) == {}
    assert joined(snapshot, {"hv1": "its former session"}) == new
