# SPDX-License-Identifier: Apache-2.0
"""Planned pauses through the API: begun, shown wherever one looks, spoken of with every change, and ended."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_cluster import Cluster, eventually

from pvc_api.cluster_views import status_of
from pvc_core.event_log import EventLog
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, stored


def begin(api: httpx.Client, **body: Any) -> Any:
    answer = api.post("/cluster/maintenance", json={"on": True, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_maintenance_is_begun_shown_and_ended(api: httpx.Client, cluster: Cluster) -> None:
    assert api.get("/cluster/maintenance").json() == {
        "pause": None,
        "sentence": "the cluster is not in maintenance",
        "version": -1,
    }
    begun = begin(api, for_s=3600, reason="new switch")
    assert (begun["changed"], begun["pause"]["left_s"], begun["pause"]["reason"]) == (True, 3600, "new switch")
    shown = api.get("/cluster/maintenance").json()
    assert shown["sentence"] == begun["reason"] == begun["sentence"]
    assert "(new switch): no node is fenced and no VM recovered" in shown["sentence"]
    status = api.get("/cluster").json()
    assert (status["pause"], status["problems"][1].partition(";")[0]) == (shown["pause"], shown["sentence"])
    assert api.get("/node").json()["pause"] == shown["pause"]
    assert api.get("/cluster/snapshot").json()["maintenance"] == {"reason": "new switch", "left_s": 3600}
    for changed in (True, False):
        ended = api.post("/cluster/maintenance", json={"on": False}).json()
        assert (ended["changed"], ended["pause"]) == (changed, None)
    kinds = [event.kind for event in EventLog(cluster.store).last(100).events]
    assert [kind for kind in kinds if "maintenance" in kind] == ["maintenance_began", "maintenance_ended"]


def test_it_lasts_four_hours_unless_it_is_said_and_seven_days_at_most(api: httpx.Client) -> None:
    assert begin(api)["pause"]["left_s"] == 4 * 3600
    answer = api.post("/cluster/maintenance", json={"on": True, "for_s": 604_801})
    assert (answer.status_code, answer.json()["field"]) == (422, "for_s")
    assert api.get("/cluster/maintenance").json()["pause"]["left_s"] == 4 * 3600


def test_every_answer_to_a_change_speaks_of_it_and_no_other(api: httpx.Client) -> None:
    before = api.post("/node/hv1/domain-state", json={"state": "flush"})
    begun = begin(api, reason="☃ in a header would be an error")
    during = api.post("/node/hv1/domain-state", json={"state": "ready"})
    said = f"the cluster is in maintenance until {begun['pause']['ends_at']}: no node is fenced and no VM recovered"
    assert "PVC-Notice" not in before.headers
    assert during.headers["PVC-Notice"] == said
    assert "PVC-Notice" not in api.get("/node").headers


def test_a_node_in_maintenance_takes_no_vms_and_is_not_taken_back(api: httpx.Client, cluster: Cluster) -> None:
    answer = api.post("/node/hv1/maintenance", json={"on": True, "reason": "new fan"})
    assert answer.status_code == 200
    assert answer.json()["node"]["maintenance"] is True
    assert api.get("/node/hv1").json()["pause"]["reason"] == "new fan"
    explained = api.get("/cluster/placement?memory_mib=64").json()
    assert {r["node"]: r["reason"] for r in explained["rejections"]}["hv1"] == "is in maintenance"
    api.post("/node/hv1/domain-state", json={"state": "flush"})
    refused = api.post("/node/hv1/domain-state", json={"state": "ready"})
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    assert "`pvc node maintenance hv1 off`" in refused.json()["detail"]
    ended = api.post("/node/hv1/maintenance", json={"on": False})
    assert (ended.json()["changed"], ended.json()["node"]["maintenance"]) == (True, False)
    assert api.post("/node/hv1/domain-state", json={"state": "ready"}).status_code == 202
    assert cluster.snapshot.node("hv1").record.value.pause is None


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/cluster/maintenance", "`pvc cluster maintenance off`"),
        ("/node/hv3/maintenance", "`pvc node maintenance hv3 off`"),
    ],
)
def test_nobody_has_a_node_fenced_or_confirms_it_during_a_maintenance(
    api: httpx.Client, cluster: Cluster, path: str, hint: str
) -> None:
    cluster.has([a_node("hv3", alive=False)], [a_vm("web9", node="hv3")])
    eventually(lambda: api.get("/node/hv3").status_code == 200)
    api.post(path, json={"on": True})
    for confirmed in (False, True):
        answer = api.post("/node/hv3/fence", json={"confirmed": confirmed})
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")
        assert hint in answer.json()["detail"]


def test_the_status_names_the_maintenance_of_the_cluster_and_of_its_nodes() -> None:
    pause = Pause(reason="new fan", ends_at="2026-01-31T13:00:00Z", left_s=60.0)
    snapshot = a_snapshot([a_node("hv1", maintenance=True, pause=pause)])
    paused = type(snapshot)(
        nodes=snapshot.nodes, maintenance=stored("/maintenance", MaintenanceRecord(pause=Pause(left_s=60.0)))
    )
    assert status_of(paused, "connected", "hv1").problems[:2] == (
        "the cluster is in maintenance until it is ended: no node is fenced and no VM recovered; "
        "`pvc cluster maintenance off` ends that",
        "node hv1 is in maintenance until 2026-01-31T13:00:00Z (new fan): it is not fenced and takes no VMs",
    )
