# SPDX-License-Identifier: Apache-2.0
"""Commands on VMs: what they answer at once, what they answer after waiting, and what they refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_core.model import VmState
from pvc_core.testing.builders import a_node, a_vm, uuid_of
from pvc_core.vm_states import VmEvent

UUID = uuid_of("web1")
Given = Callable[..., None]


@pytest.fixture
def given(api: httpx.Client, cluster: Cluster) -> Given:
    """Puts web1 on hv1 into a state."""

    def put(state: VmState, **fields: Any) -> None:
        cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state=state, **fields)])
        eventually(lambda: [vm["state"] for vm in api.get("/vm").json()["vms"]] == [state.value])

    return put


@pytest.mark.parametrize(
    ("before", "body", "after", "forced"),
    [
        (VmState.STOPPED, {"state": "start"}, "starting", False),
        (VmState.RUNNING, {"state": "shutdown"}, "shutting-down", False),
        (VmState.RUNNING, {"state": "shutdown", "force": True}, "shutting-down", True),
        (VmState.RUNNING, {"state": "stop"}, "shutting-down", True),
        (VmState.RUNNING, {"state": "restart"}, "restarting", False),
        (VmState.RUNNING, {"state": "disable"}, "shutting-down", False),
        (VmState.RUNNING, {"state": "disable", "force": True}, "shutting-down", True),
        (VmState.SHUTTING_DOWN, {"state": "start"}, "starting", False),
    ],
)
def test_what_takes_time_is_accepted_with_what_to_watch(
    api: httpx.Client,
    cluster: Cluster,
    given: Given,
    before: VmState,
    body: dict[str, object],
    after: str,
    forced: bool,
) -> None:
    given(before)
    answer = api.post("/vm/web1/state", json=body)
    assert answer.status_code == 202
    outcome = answer.json()
    assert (outcome["vm"]["state"], outcome["changed"]) == (after, True)
    assert outcome["reason"]
    assert answer.headers["ETag"] == f'"{outcome["vm"]["version"]}"'
    watched = api.get(httpx.URL(f"http://api{outcome['watch']}"))
    assert (watched.status_code, watched.json()["settled"]) == (200, False)
    record = cluster.snapshot.vm("web1").value
    assert (record.state, record.forced) == (after, forced)


@pytest.mark.parametrize(
    ("before", "state"),
    [
        (VmState.RUNNING, "start"),
        (VmState.STOPPED, "shutdown"),
        (VmState.STOPPED, "stop"),
        (VmState.DISABLED, "disable"),
    ],
)
def test_what_is_so_already_is_done_and_changed_nothing(
    api: httpx.Client, given: Given, before: VmState, state: str
) -> None:
    given(before)
    answer = api.post("/vm/web1/state", json={"state": state})
    assert (answer.status_code, answer.json()["changed"], answer.json()["watch"]) == (200, False, "")


def test_what_was_asked_for_before_goes_on_and_changed_nothing(api: httpx.Client, given: Given) -> None:
    given(VmState.STOPPED)
    api.post("/vm/web1/state", json={"state": "start"})
    again = api.post("/vm/web1/state", json={"state": "start"})
    assert (again.status_code, again.json()["changed"]) == (202, False)
    assert again.json()["watch"]


def test_a_stopped_vm_that_is_disabled_is_done_at_once(api: httpx.Client, given: Given) -> None:
    given(VmState.STOPPED)
    answer = api.post("/vm/web1/state", json={"state": "disable"})
    assert (answer.status_code, answer.json()["vm"]["state"]) == (200, "disabled")


@pytest.mark.parametrize("state", ["shutdown", "stop", "restart", "disable"])
def test_a_migrating_vm_refuses_and_says_what_to_do(api: httpx.Client, given: Given, state: str) -> None:
    given(VmState.MIGRATING, target="hv2")
    answer = api.post("/vm/web1/state", json={"state": state})
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
    assert "pvc vm start" in answer.json()["detail"]
    assert answer.json()["subject"] == "web1"


def test_starting_a_migrating_vm_cancels_the_migration(api: httpx.Client, given: Given) -> None:
    given(VmState.MIGRATING, target="hv2")
    answer = api.post("/vm/web1/state", json={"state": "start"})
    assert (answer.status_code, answer.json()["vm"]["cancelling"]) == (202, True)


@pytest.mark.parametrize("state", ["start", "restart"])
def test_force_is_refused_where_it_means_nothing(api: httpx.Client, given: Given, state: str) -> None:
    given(VmState.RUNNING)
    answer = api.post("/vm/web1/state", json={"state": state, "force": True})
    assert (answer.status_code, answer.json()["field"]) == (422, "force")


def test_an_answer_is_held_until_it_is_done(api: httpx.Client, cluster: Cluster, given: Given) -> None:
    given(VmState.STOPPED)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.post, "/vm/web1/state?wait=30", json={"state": "start"})
        eventually(lambda: cluster.snapshot.vm("web1").value.state is VmState.STARTING)
        assert not held.done()
        cluster.happens("web1", VmEvent.STARTED)
        answer = held.result(10)
    assert (answer.status_code, answer.json()["vm"]["state"], answer.json()["watch"]) == (200, "running", "")


def test_an_answer_is_held_until_it_has_failed(api: httpx.Client, cluster: Cluster, given: Given) -> None:
    given(VmState.STOPPED)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.post, "/vm/web1/state?wait=30", json={"state": "start"})
        eventually(lambda: cluster.snapshot.vm("web1").value.state is VmState.STARTING)
        cluster.happens("web1", VmEvent.GAVE_UP)
        answer = held.result(10)
    assert (answer.status_code, answer.json()["vm"]["state"]) == (200, "failed")


def test_an_answer_is_held_no_longer_than_asked(api: httpx.Client, given: Given) -> None:
    given(VmState.STOPPED)
    started_s = time.monotonic()
    answer = api.post("/vm/web1/state?wait=0.3", json={"state": "start"})
    assert answer.status_code == 202
    assert answer.headers["Retry-After"]
    assert 0.3 <= time.monotonic() - started_s < 5


def test_a_define_with_start_is_held_until_it_runs(api: httpx.Client, cluster: Cluster) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.post, "/vm?wait=30", json={"definition": xml(), "start": True})
        eventually(lambda: "web1" in cluster.snapshot.uuid_by_name)
        cluster.happens("web1", VmEvent.STARTED)
        answer = held.result(10)
    assert (answer.status_code, answer.json()["vm"]["state"]) == (201, "running")
    again = api.post("/vm", json={"definition": xml("web2"), "start": True})
    assert (again.status_code, again.json()["vm"]["state"]) == (202, "starting")


def test_the_watch_url_of_another_process_is_not_settled_by_what_was_before(
    process: ApiProcess, api: httpx.Client, cluster: Cluster, given: Given
) -> None:
    given(VmState.STOPPED)
    version = api.get("/vm/web1").json()["version"]
    ahead = api.get(f"/vm/web1/state?since={version + 1}&wait=0.1").json()
    assert (ahead["vm"]["state"], ahead["settled"]) == ("stopped", False)
    assert api.get(f"/vm/web1/state?since={version}").json()["settled"] is True


def test_watching_ends_with_the_vm(api: httpx.Client, cluster: Cluster, given: Given) -> None:
    given(VmState.STARTING)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.get, f"/vm/{UUID}/state?wait=30")
        cluster.happens("web1", VmEvent.GAVE_UP)
        assert held.result(10).json()["vm"]["state"] == "failed"
    api.delete("/vm/web1")
    assert api.get(f"/vm/{UUID}/state").status_code == 404


def test_when_too_many_wait_the_next_one_is_answered_at_once(
    process: ApiProcess, api: httpx.Client, cluster: Cluster, given: Given
) -> None:
    given(VmState.STARTING)
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(api.get, "/vm/web1/state?wait=30") for _ in range(4)]
        eventually(lambda: process.waiter.free_slots == 0)
        started_s = time.monotonic()
        assert api.get("/vm/web1/state?wait=30").json()["settled"] is False
        assert time.monotonic() - started_s < 5
        cluster.happens("web1", VmEvent.STARTED)
        assert all(answer.result(10).json()["settled"] for answer in held)


def test_stopping_the_server_answers_those_who_wait(process: ApiProcess, api: httpx.Client, given: Given) -> None:
    given(VmState.STARTING)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(api.get, "/vm/web1/state?wait=60")
        threading.Timer(0.1, process.waiter.stop).start()
        assert held.result(5).json()["settled"] is False


def test_a_vm_migrates_for_a_time_to_where_its_selector_says_and_goes_home(
    api: httpx.Client, cluster: Cluster, given: Given
) -> None:
    given(VmState.RUNNING)
    answer = api.post("/vm/web1/node", json={"action": "migrate"})
    assert answer.status_code == 202
    vm = answer.json()["vm"]
    assert (vm["state"], vm["node"], vm["target"], vm["home"], vm["progress_pct"]) == (
        "migrating",
        "hv1",
        "hv2",
        "hv1",
        0,
    )
    assert answer.json()["decision"]["node"] == "hv2"
    cluster.happens("web1", VmEvent.ARRIVED)
    eventually(lambda: api.get("/vm/web1/node").json()["node"] == "hv2")
    back = api.post("/vm/web1/node", json={"action": "unmigrate"})
    assert (back.status_code, back.json()["vm"]["target"]) == (202, "hv1")


def test_a_stopped_vm_moves_at_once(api: httpx.Client, given: Given) -> None:
    given(VmState.STOPPED)
    answer = api.post("/vm/web1/node", json={"action": "move", "target": "hv2"})
    assert answer.status_code == 200
    assert (answer.json()["vm"]["node"], answer.json()["vm"]["home"]) == ("hv2", "hv2")


def test_a_target_outside_the_limit_is_refused_with_the_reason(api: httpx.Client, given: Given) -> None:
    given(VmState.RUNNING, node_limit=["hv1"])
    for action in ("migrate", "move"):
        answer = api.post("/vm/web1/node", json={"action": action, "target": "hv2"})
        assert (answer.status_code, answer.json()["code"]) == (409, "no_candidate")
        assert "limit" in answer.json()["detail"]


def test_a_placement_is_explained_and_changes_nothing(api: httpx.Client, cluster: Cluster, given: Given) -> None:
    given(VmState.RUNNING, node_limit=["hv1"])
    before = cluster.snapshot.vm("web1")
    decision = api.get("/vm/web1/placement").json()
    assert decision["node"] == "hv1"
    assert [(r["node"], r["plugin"]) for r in decision["rejections"]] == [("hv2", "limit")]
    assert cluster.snapshot.vm("web1").version == before.version


def test_a_command_that_follows_one_of_another_process_is_not_answered_from_an_old_copy(
    process: ApiProcess, api: httpx.Client, cluster: Cluster, given: Given
) -> None:
    given(VmState.RUNNING)
    other = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    other.connection.open()
    for _ in range(20):
        other.services.commands.shutdown("web1")
        assert api.post("/vm/web1/state", json={"state": "start"}).json()["changed"] is True
        cluster.happens("web1", VmEvent.STARTED)
        other.view.refresh([f"/vms/{UUID}"])
    other.connection.close()


def test_what_would_cost_others_their_way_back_is_warned_of_or_refused(api: httpx.Client, cluster: Cluster) -> None:
    """The small nodes cannot stand in for the big one."""
    cluster.has([a_node("hv1", memory_mib=8192), a_node("hv2", memory_mib=2048), a_node("hv3", memory_mib=2048)])
    eventually(lambda: len(api.get("/node").json()["nodes"]) == 3)
    body = {"definition": xml("big", 4096), "start": True}
    api.post("/cluster/settings", json={"admission": "refuse"})
    refused = api.post("/vm", json=body)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["losses"]) == (409, "not_admitted", {"hv1": ["big"]})
    assert problem["detail"].startswith("big is not admitted on hv1: if hv1 were lost, big would not come back; ")
    api.post("/cluster/settings", json={"admission": None})
    warning = "if hv1 were lost, big would not come back; see `pvc cluster capacity --node hv1`"
    assert api.post("/vm", json=body).json()["warnings"] == [warning]
