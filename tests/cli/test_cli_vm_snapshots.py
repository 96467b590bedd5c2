# SPDX-License-Identifier: Apache-2.0
"""`pvc vm snapshot`: what is sent, what is asked before, and what a person sees."""

from __future__ import annotations

from typing import Any

from cli_runner import Cli, FakeApi, a_vm

VOLUME = {
    "device": "vda",
    "backend": "ceph",
    "pool": "vms",
    "name": "web1",
    "snapshot": "vm.monday.0011aabb",
    "size_bytes": 2**30,
}
MONDAY = {
    "name": "monday",
    "state": "ready",
    "since": "2026-01-05T12:00:01Z",
    "at": "2026-01-05T12:00:00Z",
    "consistency": "frozen",
    "automatic": False,
    "volumes": [VOLUME],
}
WATCH = "/api/v1/vm/1/snapshot?since=4"


def a_list(*snapshots: dict[str, Any], settled: bool = True, problem: str = "") -> dict[str, Any]:
    return {"vm": "web1", "uuid": "1", "snapshots": [*snapshots], "settled": settled, "problem": problem, "version": 3}


def an_outcome(reason: str, watch: str = "", warnings: tuple[str, ...] = (), **snapshot: object) -> dict[str, Any]:
    shown = {**MONDAY, **snapshot}
    return {"vm": "web1", "uuid": "1", "snapshot": shown, "reason": reason, "warnings": [*warnings], "watch": watch}


def test_the_snapshots_of_a_vm_are_listed(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1/snapshot": a_list(MONDAY, {**MONDAY, "name": "auto", "automatic": True})})
    ran = run("vm", "snapshot", "list", "web1", api=api)
    lines = ran.out.splitlines()
    assert lines[0].split() == ["NAME", "AT", "STATE", "VOLUMES", "CONSISTENCY", "AUTOMATIC"]
    assert lines[1].split() == [
        *("monday", "2026-01-05T12:00:00Z", "ready", "1"),
        *(["the", "guest", "had", "its", "file", "systems", "frozen"]),
        "no",
    ]
    assert run("vm", "snapshot", "list", "web1", "-o", "names", api=api).out == "monday\nauto\n"


def test_that_there_is_none_and_why_is_said(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1/snapshot": a_list(problem="volume data: is in use")})
    ran = run("vm", "snapshot", "list", "web1", api=api)
    assert ran.out == "web1 has no snapshots; take one with `pvc vm snapshot add`\n"
    assert ran.err == "the one that was to be taken last is not there: volume data: is in use\n"


def test_one_is_shown_with_its_volumes(run: Cli) -> None:
    document = {**MONDAY, "definition": "<domain/>", "metadata": {}}
    api = FakeApi({"GET /vm/web1/snapshot/monday": document})
    ran = run("vm", "snapshot", "show", "web1", "monday", api=api)
    lines = ran.out.splitlines()
    about = "monday: ready, of 2026-01-05T12:00:00Z; the guest had its file systems frozen; made by a person"
    assert lines[0] == about
    assert lines[-1].split() == ["vda", "ceph", "vms", "web1", "1", "GiB", "vm.monday.0011aabb"]
    assert run("vm", "snapshot", "show", "web1", "monday", "-o", "json", api=api).document == document


def test_one_is_taken_and_what_is_not_in_it_is_warned_of(run: Cli) -> None:
    warnings = ("disks of web1's definition are no volumes",)
    api = FakeApi({"POST /vm/web1/snapshot": an_outcome("snapshot monday of web1 is taken", warnings=warnings)})
    ran = run("vm", "snapshot", "add", "web1", "monday", api=api)
    assert (ran.out, ran.err) == ("snapshot monday of web1 is taken\n", f"warning: {warnings[0]}\n")
    run("vm", "snapshot", "add", "web1", "--keep", "3", api=api)
    assert api.bodies() == [{"name": "monday", "keep": 0}, {"name": "", "keep": 3}]
    assert run("vm", "snapshot", "add", "web1", "--keep", "0", api=api).status == 2


def test_one_of_a_guest_that_runs_goes_on_or_is_waited_for(run: Cli) -> None:
    begun = an_outcome("snapshot monday of web1 is to be taken on hv1", WATCH, state="creating", consistency="")
    waiting = a_list({**MONDAY, "state": "creating"}, settled=False)
    api = FakeApi({"POST /vm/web1/snapshot": begun, "GET /vm/1/snapshot": [waiting, a_list(MONDAY)]})
    assert "it goes on, see `pvc vm snapshot list web1`" in run("vm", "snapshot", "add", "web1", api=api).err
    ran = run("vm", "snapshot", "add", "web1", "--wait", api=api)
    assert ran.out == "snapshot monday of web1 is taken: the guest had its file systems frozen\n"


def test_one_that_its_node_could_not_take_is_an_error(run: Cli) -> None:
    begun = an_outcome("snapshot monday of web1 is to be taken on hv1", WATCH, state="creating", consistency="")
    api = FakeApi({"POST /vm/web1/snapshot": begun, "GET /vm/1/snapshot": a_list(problem="volume data: is in use")})
    ran = run("vm", "snapshot", "add", "web1", "--wait", api=api)
    assert "snapshot monday of web1: is not taken: volume data: is in use" in ran.err
    assert ran.status != 0


def test_nothing_is_lost_without_being_asked(run: Cli) -> None:
    api = FakeApi(
        {
            "POST /vm/web1/snapshot/monday/rollback": an_outcome("web1 is what it was"),
            "DELETE /vm/web1/snapshot/monday": {**an_outcome("snapshot monday of web1 is removed"), "snapshot": None},
        }
    )
    for word in ("rollback", "remove"):
        ran = run("vm", "snapshot", word, "web1", "monday", api=api)
        assert (ran.status, "say --yes" in ran.err) == (2, True)
    assert (api.bodies(), api.bodies("DELETE")) == ([], [])
    assert run("vm", "snapshot", "rollback", "web1", "monday", "-y", api=api).out == "web1 is what it was\n"
    assert (
        run("vm", "snapshot", "remove", "web1", "monday", "-y", api=api).out == "snapshot monday of web1 is removed\n"
    )


def test_a_vm_is_removed_after_its_snapshots_were_named(run: Cli) -> None:
    vm = a_vm(state="stopped", volumes=[])
    api = FakeApi({"GET /vm/web1": vm, f"GET /vm/{vm['uuid']}/snapshot": a_list(MONDAY)})
    assert run("vm", "remove", "web1", api=api).status == 2
    assert [asked.path for asked in api.asked][-1] == f"/vm/{vm['uuid']}/snapshot"
    assert api.bodies("DELETE") == []
