# SPDX-License-Identifier: Apache-2.0
"""Fence devices over the API: added, shown without secrets, removed, repaired and tested; nothing tells a secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_core import hookimpl, layout
from pvc_core.event_log import EventLog
from pvc_core.fence_devices import read_devices
from pvc_core.fencing import FenceAgentEntry
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.fake_fence_device import FakeFenceDevice

SECRET = "Swordfish-4711"
SECRET_NUMBER = 471_108_154_711
DEVICES = "/node/hv1/fence-device"


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
def process(cluster: Cluster, pdu: Pdu) -> Iterator[ApiProcess]:
    made = ApiProcess(cluster.registry.open_store(cluster.url), registry_with(pdu=pdu))
    made.connection.open()
    yield made
    made.waiter.stop()
    made.connection.close()


def add(api: httpx.Client, **fields: object) -> httpx.Response:
    body = {"agent": "pdu", "parameters": {"outlet": "3", "password": SECRET}, **fields}
    return api.post(DEVICES, json=body)


def test_a_device_is_added_and_shown_without_its_secret(api: httpx.Client, cluster: Cluster) -> None:
    answer = add(api, level=2)
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/api/v1{DEVICES}/1")
    shown = {"number": 1, "agent": "pdu", "level": 2, "parameters": {"outlet": "3", "password": "***"}, "problem": ""}
    assert answer.json()["reason"] == "fence device 1 of hv1 added: pdu, level 2"
    assert answer.json()["devices"] == [shown]
    listed = api.get(DEVICES).json()
    assert (listed["devices"], listed["broken"]) == ([shown], [])
    stored = read_devices(cluster.store, "hv1")
    assert stored is not None
    assert stored.value.devices[0].device.parameters["password"] == SECRET


def test_the_agents_that_a_device_may_name_are_listed_with_their_secrets(api: httpx.Client) -> None:
    agents = {each["name"]: each["secrets"] for each in api.get(DEVICES).json()["agents"]}
    assert agents["pdu"] == ["password"]
    assert {"password", "passwd", "snmp_priv_passwd"} <= set(agents["fence-agents"])


def test_no_answer_event_nor_log_line_holds_a_secret(process: ApiProcess, api: httpx.Client, cluster: Cluster) -> None:
    number = add(api, parameters={"password": SECRET_NUMBER})
    said = [add(api), add(api), add(api, agent="nix"), add(api, level="2"), number]
    said += [api.post("/node/hv1/fence-test", json={}), api.get(DEVICES), api.delete(f"{DEVICES}/1")]
    events = EventLog(cluster.store).last(100).events
    assert [each.status_code for each in said] == [201, 409, 422, 422, 422, 200, 200, 200]
    assert [each.kind for each in events if each.node == "hv1"] == ["fence_device_added", "fence_device_removed"]
    told = f"{[each.text for each in (*said, api.get('/cluster/snapshot'))]}{events}{process.log.entries}"
    assert SECRET not in told
    assert str(SECRET_NUMBER) not in told


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agent": "nix"}, "agent"),
        ({"agent": "pdu", "level": 10}, "level"),
        ({"agent": "pdu", "parameters": {"out let": "3"}}, "parameters"),
        ({"agent": "fence-agents", "parameters": {"agent": "/bin/sh"}}, "parameters.agent"),
        (
            {"agent": "fence-agents", "parameters": {"agent": "fence_x", "ipmitool_path": "/x"}},
            "parameters.ipmitool_path",
        ),
        ({"parameters": {}}, "agent"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(api: httpx.Client, body: dict[str, object], field: str) -> None:
    answer = api.post(DEVICES, json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_input", field)
    assert api.get(DEVICES).json()["devices"] == []


def test_a_device_is_removed_by_its_number_and_all_are_at_once(api: httpx.Client) -> None:
    for outlet in ("1", "2", "3"):
        add(api, parameters={"outlet": outlet})
    left = api.delete(f"{DEVICES}/2").json()
    assert [each["number"] for each in left["devices"]] == [1, 3]
    for number in ("2", "0", "nix", "-1", "9" * 40):
        answer = api.delete(f"{DEVICES}/{number}")
        assert (answer.status_code, answer.json()["known"]) == (404, ["1", "3"]), number
    assert api.delete(DEVICES).json()["reason"] == "all fence devices of hv1 are removed"
    assert api.delete(DEVICES).json()["changed"] is False


def test_a_record_that_does_not_parse_is_shown_and_repaired_by_removing_all(
    api: httpx.Client, cluster: Cluster
) -> None:
    cluster.put(layout.fence_devices("hv1"), b'{"devices": 3}')
    assert api.get(DEVICES).json()["broken"][0]["key"] == "/fencing/hv1"
    assert (add(api).status_code, add(api).json()["code"]) == (409, "broken_record")
    assert api.post("/node/hv1/fence-test", json={}).status_code == 409
    assert "broken record" in api.delete(DEVICES).json()["reason"]
    assert api.get(DEVICES).json()["broken"] == []
    assert add(api).status_code == 201


def test_a_test_asks_for_the_status_only_and_says_what_is_of_no_use(api: httpx.Client, pdu: Pdu) -> None:
    add(api)
    add(api, parameters={"password": "wrong"}, level=2)
    right, wrong = api.post("/node/hv1/fence-test", json={}).json()["devices"]
    assert (right["power"], right["problem"]) == ("on", "")
    assert wrong["power"] == "unknown"
    assert "does not accept the password" in wrong["problem"]
    assert {method for method, _ in pdu.device.asked} == {"status"}


def test_a_device_whose_agent_is_not_here_shows_nothing_of_its_parameters(api: httpx.Client, cluster: Cluster) -> None:
    add(api)
    other = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    other.connection.open()
    try:
        with other.client(other.token("viewer")) as client:
            (shown,) = client.get(DEVICES).json()["devices"]
    finally:
        other.waiter.stop()
        other.connection.close()
    assert shown["parameters"] == {"outlet": "***", "password": "***"}
    assert "pdu is not installed here" in shown["problem"]


@pytest.mark.parametrize("path", ["/node/nix/fence-device", "/node/nix/fence-test"])
def test_a_node_that_is_none_has_no_devices(api: httpx.Client, path: str) -> None:
    body = {} if path.endswith("test") else {"agent": "pdu"}
    assert api.post(path, json=body).status_code == 404


def test_tests_never_take_all_threads_of_a_process(api: httpx.Client, process: ApiProcess, pdu: Pdu) -> None:
    add(api)
    asked, go_on = threading.Semaphore(0), threading.Event()
    status = pdu.device.status

    def slow(request):  # type: ignore[no-untyped-def]
        asked.release()
        assert go_on.wait(30)
        return status(request)

    pdu.device.status = slow  # type: ignore[method-assign]
    token, codes = process.token("operator"), []

    def ask() -> None:
        with process.client(token) as client:
            codes.append(client.post("/node/hv1/fence-test", json={}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert asked.acquire(timeout=30)
    ask()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert codes == [503, 200, 200]
