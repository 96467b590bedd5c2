# SPDX-License-Identifier: Apache-2.0
"""`pvc vm volume`: what is sent, and what a person sees of the volumes of a VM."""

from __future__ import annotations

from typing import Any

import pytest
from cli_runner import Cli, FakeApi, a_vm

DATA = {
    "device": "vdb",
    "backend": "ceph",
    "pool": "vms",
    "name": "data",
    "node": "",
    "state": "attached",
    "problem": "",
}
LOCAL = {
    "device": "vdc",
    "backend": "directory",
    "pool": "local",
    "name": "logs",
    "node": "hv1",
    "state": "leaving",
    "problem": "it is mounted",
}


def a_list(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {"vm": "web1", "uuid": "1", "volumes": [*volumes], "settled": True, "version": 3}


def an_outcome(reason: str, watch: str = "") -> dict[str, Any]:
    return {"vm": "web1", "uuid": "1", "volume": DATA, "changed": True, "reason": reason, "watch": watch}


def test_the_volumes_of_a_vm_are_listed_with_where_they_lie(run: Cli) -> None:
    ran = run("vm", "volume", "list", "web1", api=FakeApi({"GET /vm/web1/volume": a_list(DATA, LOCAL)}))
    assert [line.split() for line in ran.out.splitlines()] == [
        ["DEVICE", "BACKEND", "POOL", "NAME", "NODE", "STATE", "PROBLEM"],
        ["vdb", "ceph", "vms", "data", "-", "attached", "-"],
        ["vdc", "directory", "local", "logs", "hv1", "leaving", "it", "is", "mounted"],
    ]


def test_a_vm_without_volumes_is_told_how_to_get_one(run: Cli) -> None:
    ran = run("vm", "volume", "list", "web1", api=FakeApi({"GET /vm/web1/volume": a_list()}))
    assert ran.out == "web1 has no volumes; add one with `pvc vm volume add`\n"


def test_the_volumes_stand_in_what_is_known_of_the_vm(run: Cli) -> None:
    ran = run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": a_vm(volumes=[DATA, LOCAL])}))
    assert "vdb: ceph vms/data, vdc: directory local/logs on hv1" in ran.out


def test_a_volume_is_added_by_its_pool_and_name(run: Cli) -> None:
    api = FakeApi({"POST /vm/web1/volume": an_outcome("ceph vms/data is vdb of web1")})
    assert run("vm", "volume", "add", "web1", "ceph", "vms/data", api=api).out == "ceph vms/data is vdb of web1\n"
    run("vm", "volume", "add", "web1", "ceph", "a/b/data", "--device", "vdd", api=api)
    assert api.bodies() == [
        {"backend": "ceph", "pool": "vms", "name": "data", "device": "", "size_bytes": None},
        {"backend": "ceph", "pool": "a/b", "name": "data", "device": "vdd", "size_bytes": None},
    ]


@pytest.mark.parametrize("name", ["data", "/data", "vms/"])
def test_a_volume_is_given_with_its_pool(run: Cli, name: str) -> None:
    ran = run("vm", "volume", "add", "web1", "ceph", name, api=FakeApi({}))
    assert (ran.status, "must be given as POOL/NAME" in ran.err) == (2, True)


def test_a_volume_is_taken_away_by_its_device(run: Cli) -> None:
    reason = "ceph vms/data is no volume of web1 any more"
    api = FakeApi({"DELETE /vm/web1/volume/vdb": an_outcome(reason)})
    assert run("vm", "volume", "remove", "web1", "vdb", api=api).out == f"{reason}\n"


WATCH = "/api/v1/vm/1/volume?since=4"


def test_a_volume_gets_another_name_by_its_device(run: Cli) -> None:
    reason = "ceph vms/data is called files now"
    api = FakeApi({"POST /vm/web1/volume/vdb/rename": an_outcome(reason)})
    assert run("vm", "volume", "rename", "web1", "vdb", "files", api=api).out == f"{reason}\n"
    assert api.bodies() == [{"name": "files"}]


def test_a_guest_that_has_to_follow_is_pointed_at_and_waited_for_when_so_wanted(run: Cli) -> None:
    reason = "ceph vms/data is vdb of web1; its guest follows"
    attaching = {**a_list({**DATA, "state": "attaching", "problem": "no quorum"}), "settled": False}
    api = FakeApi({"POST /vm/web1/volume": an_outcome(reason, WATCH), "GET /vm/1/volume": [attaching, a_list(DATA)]})
    ran = run("vm", "volume", "add", "web1", "ceph", "vms/data", api=api)
    assert (ran.out, ran.err) == (f"{reason}\n", "it goes on, see `pvc vm volume list web1`\n")
    ran = run("vm", "volume", "add", "web1", "ceph", "vms/data", "--wait", api=api)
    assert (ran.status, ran.out) == (0, f"{reason}\n")
    assert "vdb is attaching: no quorum" in ran.err


# --------------------------------------------------------------------------------------- making and deleting


def test_a_volume_is_made_with_a_size_that_has_a_unit(run: Cli) -> None:
    api = FakeApi({"POST /vm/web1/volume": an_outcome("ceph vms/data is vdb of web1")})
    run("vm", "volume", "add", "web1", "ceph", "vms/data", "--size", "10GiB", api=api)
    assert api.bodies()[0]["size_bytes"] == 10 * 2**30
    ran = run("vm", "volume", "add", "web1", "ceph", "vms/data", "--size", "10", api=api)
    assert (ran.status, "needs a unit" in ran.err) == (2, True)


def test_a_volume_is_deleted_only_when_that_is_confirmed(run: Cli) -> None:
    reason = "ceph vms/data is no volume of web1 any more; it is deleted"
    api = FakeApi({"GET /vm/web1/volume": a_list(DATA), "DELETE /vm/web1/volume/vdb": an_outcome(reason)})
    ran = run("vm", "volume", "remove", "web1", "vdb", "--delete", api=api)
    assert (ran.status, "say --yes" in ran.err) == (2, True)
    assert api.bodies("DELETE") == []
    ran = run("vm", "volume", "remove", "web1", "vdb", "--delete", "-y", api=api)
    assert ran.out == f"{reason}\n"
    assert api.asked[-1].query == {"delete": "true"}


def test_a_vm_is_removed_with_its_volumes_only_when_that_is_confirmed(run: Cli) -> None:
    vm = a_vm(state="stopped", volumes=[DATA])
    answer = an_outcome("web1 is undefined; deleted: ceph vms/data")
    api = FakeApi(
        {
            "GET /vm/web1": vm,
            f"GET /vm/{vm['uuid']}/snapshot": {"snapshots": []},
            f"DELETE /vm/{vm['uuid']}": {**answer, "warnings": ["ceph vms/logs is left"]},
        }
    )
    assert run("vm", "remove", "web1", api=api).status == 2
    assert api.bodies("DELETE") == []
    ran = run("vm", "remove", "web1", "-y", api=api)
    assert ran.out == "web1 is undefined; deleted: ceph vms/data\n"
    assert "ceph vms/logs is left" in ran.err
    assert api.asked[-1].query == {"volumes": "delete"}


UNFINISHED = {
    "volume": "ceph vms/data",
    "vm": "web1",
    "since": "",
    "problem": "it is to be deleted, and is not yet",
    "remedy": "it is deleted",
}


def test_what_is_left_undone_is_listed_and_done_when_that_is_confirmed(run: Cli) -> None:
    path = "/cluster/volume-repair"
    api = FakeApi({f"GET {path}": {"volumes": [UNFINISHED]}, f"POST {path}": {"volumes": []}})
    ran = run("vm", "volume", "repair", api=api)
    assert "ceph vms/data (web1): it is to be deleted, and is not yet; it is deleted" in ran.err
    assert (ran.status, api.bodies()) == (2, [])
    assert run("vm", "volume", "repair", "-y", api=api).out == "done\n"
    nothing = FakeApi({f"GET {path}": {"volumes": []}})
    assert run("vm", "volume", "repair", api=nothing).out == "nothing is left undone\n"
