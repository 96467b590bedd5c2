# SPDX-License-Identifier: Apache-2.0
"""Lists: filtered, in pages, complete also when a record is broken, and without a request to the store."""

from __future__ import annotations

from dataclasses import replace

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_api.views import ShownVmState, VmList
from pvc_api.vm_views import VmFilter, VmListEncoder, view_in
from pvc_core import layout
from pvc_core.model import VmState
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_volumes import VmVolume


@pytest.fixture
def filled(api: httpx.Client, cluster: Cluster) -> httpx.Client:
    """web1 and web2 on hv1, db1 stopped on hv2."""
    cluster.has(
        [a_node("hv1"), a_node("hv2")],
        [
            a_vm("web2", node="hv1", tags=["web"]),
            a_vm("web1", node="hv1", tags=["web", "prod"]),
            a_vm("db1", node="hv2", state=VmState.STOPPED, tags=["prod"]),
        ],
    )
    eventually(lambda: api.get("/vm").json()["total"] == 3)
    return api


def names(answer: httpx.Response) -> list[str]:
    return [vm["name"] for vm in answer.json()["vms"]]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["db1", "web1", "web2"]),
        ("?node=hv1", ["web1", "web2"]),
        ("?state=stopped", ["db1"]),
        ("?tag=prod", ["db1", "web1"]),
        ("?tag=prod&node=hv1", ["web1"]),
        ("?tag=pro", []),
        ("?node=nix", []),
        ("?state=broken", []),
    ],
)
def test_a_list_shows_what_matches_by_name(filled: httpx.Client, query: str, shown: list[str]) -> None:
    answer = filled.get(f"/vm{query}")
    assert names(answer) == shown
    assert answer.json()["total"] == len(shown)


def test_a_list_comes_in_pages(filled: httpx.Client) -> None:
    first = filled.get("/vm?limit=2")
    assert (names(first), first.json()["total"]) == (["db1", "web1"], 3)
    rest = filled.get("/vm?limit=2&after=web1")
    assert (names(rest), rest.json()["total"]) == (["web2"], 3)


def test_a_record_that_does_not_parse_is_listed_as_broken_and_everything_else_works(
    filled: httpx.Client, cluster: Cluster
) -> None:
    uuid = uuid_of("wreck")
    cluster.put(layout.vm(uuid), b'{"name": "wreck", "state": "dancing"}')
    eventually(lambda: filled.get("/vm").json()["total"] == 4)
    (broken,) = filled.get("/vm?state=broken").json()["vms"]
    assert (broken["uuid"], broken["state"]) == (uuid, "broken")
    assert "dancing" in broken["problem"]
    assert names(filled.get("/vm?limit=2")) == [uuid, "db1"]
    assert names(filled.get("/vm?limit=1&after=db1")) == ["web1"]
    assert filled.get(f"/vm/{uuid}").json()["code"] == "broken_record"
    assert names(filled.get("/vm?node=hv1")) == ["web1", "web2"]
    assert filled.get("/vm/web1").status_code == 200
    assert filled.post("/vm", json={"definition": xml("new")}).status_code == 201
    status = filled.get("/cluster").json()
    assert status["broken"][0]["key"] == layout.vm(uuid)
    assert any(layout.vm(uuid) in problem for problem in status["problems"])


def test_listing_and_showing_cost_no_request(process: ApiProcess, filled: httpx.Client) -> None:
    process.store.reset()
    for path in ("/vm", "/vm?node=hv1", "/vm/web1", f"/vm/{uuid_of('web1')}", "/vm/web1/node", "/vm/web1/state"):
        assert filled.get(path).status_code == 200
    assert filled.get("/node").status_code == 200
    assert filled.get("/node/hv1").status_code == 200
    assert filled.get("/vm/web1/placement").status_code == 200
    assert process.store.calls == ()


def test_an_unknown_name_costs_one_request_and_what_cannot_be_a_name_none(
    process: ApiProcess, api: httpx.Client
) -> None:
    process.store.reset()
    api.get("/vm/nix")
    assert process.store.requests == 1
    api.get("/vm/no..such name")
    assert process.store.requests == 1


def test_a_state_change_costs_at_most_three_requests(process: ApiProcess, filled: httpx.Client) -> None:
    for path, body in (
        ("/vm/web1/state", {"state": "shutdown"}),
        ("/vm/web1/state", {"state": "start"}),
        ("/vm/web2/node", {"action": "migrate"}),
        ("/vm/db1/state", {"state": "disable"}),
        ("/node/hv1/domain-state", {"state": "flush"}),
    ):
        process.store.reset()
        assert filled.post(path, json=body).status_code in (200, 202)
        assert process.store.requests <= 3, process.store.calls


def listed(encoder: VmListEncoder, snapshot: ClusterSnapshot) -> VmList:
    return msgspec.json.decode(encoder.encode(snapshot, VmFilter()), type=VmList)


def test_a_fragment_is_encoded_again_when_its_record_or_its_progress_changes() -> None:
    encoder = VmListEncoder()
    vm = a_vm("web1", node="hv1", state=VmState.MIGRATING, target="hv2")
    begun = a_snapshot([a_node("hv1"), a_node("hv2")], [vm])
    assert listed(encoder, begun).vms == (view_in(begun, begun.vm("web1")),)
    assert listed(encoder, begun).vms[0].progress_pct == 0

    source = begun.nodes["hv1"]
    assert source.report is not None
    report = replace(source.report, value=msgspec.structs.replace(source.report.value, progress={vm.uuid: 40}))
    progressed = replace(begun, nodes={**begun.nodes, "hv1": replace(source, report=report)})
    assert listed(encoder, progressed).vms[0].progress_pct == 40

    changed = a_snapshot([a_node("hv1")], [msgspec.structs.replace(vm, reason="another")])
    assert listed(encoder, changed).vms[0].reason == "another"
    assert listed(encoder, a_snapshot()).vms == ()


def test_the_states_that_are_shown_are_those_of_vms_and_broken() -> None:
    assert set(ShownVmState.__args__) == {*VmState, "broken"}  # type: ignore[attr-defined]


REPAIR = "if nobody does so any more, `pvc vm volume repair` brings it to an end"
RENAMED = VmVolume(device="vda", backend="ceph", pool="vms", name="data", renaming="files")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (
            {"snapshots": SnapshotStanding(names=("monday",), kept_off="monday")},
            f"its snapshot monday is being taken, or gone back to; {REPAIR}",
        ),
        ({"volumes": (RENAMED,)}, f"ceph vms/data is getting the name files; {REPAIR}"),
        ({"snapshots": SnapshotStanding(names=("monday",))}, ""),
    ],
)
def test_what_keeps_a_vm_off_is_shown_wherever_the_vm_is(
    api: httpx.Client, cluster: Cluster, fields: dict[str, object], why: str
) -> None:
    cluster.has([a_node("hv1")], [a_vm("web1", state=VmState.STOPPED, **fields)])
    eventually(lambda: api.get("/vm").json()["total"] == 1)
    listed, shown = api.get("/vm").json()["vms"][0], api.get("/vm/web1").json()
    assert (listed["kept_off"], shown["kept_off"]) == (why, why)
