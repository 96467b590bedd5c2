# SPDX-License-Identifier: Apache-2.0
"""Plans, capacity and explanations: from the API, and without any cluster from the file of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Cli, FakeApi, a_vm, problem

NOTHING_TO_DO: dict[str, Any] = {
    "steps": [],
    "stay": [],
    "complete": True,
    "proven": True,
    "kind": "flush",
    "subject": "hv1",
    "reason": "flush of hv1: 0 steps",
    "basis": {"vms": {}, "nodes": {}, "rules": "", "settings": ""},
}

CLUSTER = """
settings: {memory_reserve_mib: 0}
nodes:
  hv1: {memory_mib: 4096, cores: 4}
  hv2: {memory_mib: 4096, cores: 4}
  hv3: {memory_mib: 2048, cores: 4}
vms:
  web1: {node: hv1, memory_mib: 1024}
  db1: {node: hv1, memory_mib: 2048, node_limit: [hv1, hv2], priority: 5}
  app1: {node: hv2, memory_mib: 2048}
  pinned: {node: hv1, memory_mib: 512, node_limit: [hv1]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER)
    return str(path)


def plan_of(**fields: Any) -> dict[str, Any]:
    return {**NOTHING_TO_DO, **fields}


# ------------------------------------------------------------------------------------------ with a cluster


def test_a_plan_is_a_table_of_steps_and_of_what_stays_with_the_reason(run: Cli) -> None:
    steps = [
        {"vm": "small", "from": "hv2", "to": "hv3", "action": "migrate", "after": [], "reason": "steps aside"},
        {"vm": "large", "from": "hv1", "to": "hv2", "action": "migrate", "after": [0], "reason": "has room then"},
        {"vm": "db1", "from": "hv1", "to": "hv1", "action": "shutdown", "after": [], "reason": "held"},
    ]
    stay = [{"vm": "web9", "node": "hv1", "reason": "no candidate"}]
    api = FakeApi({"GET /node/hv1/plan": plan_of(steps=steps, stay=stay, complete=False)})
    ran = run("node", "flush", "hv1", "--plan", api=api)
    assert ran.status == 10
    lines = ran.out.splitlines()
    assert lines[0] == "flush of hv1: 0 steps"
    assert lines[2].split() == ["STEP", "VM", "FROM", "TO", "ACTION", "AFTER", "REASON"]
    assert lines[4].split() == ["2", "large", "hv1", "hv2", "migrate", "1", "has", "room", "then"]
    assert lines[5].split()[:6] == ["3", "db1", "hv1", "-", "shutdown", "-"]
    assert lines[8].split() == ["web9", "hv1", "no", "candidate"]
    assert api.bodies() == [], "nothing but a question was sent"


@pytest.mark.parametrize(
    ("words", "asked", "query"),
    [
        (["vm", "migrate", "web1", "--plan"], "/vm/web1/plan", {"action": "migrate"}),
        (
            ["vm", "move", "web1", "--target", "hv2", "--make-room", "--plan"],
            "/vm/web1/plan",
            {"action": "move", "target": "hv2", "make_room": "true"},
        ),
        (["node", "flush", "hv1", "--plan"], "/node/hv1/plan", {}),
    ],
)
def test_a_plan_asks_what_the_command_would_do(run: Cli, words: list[str], asked: str, query: dict[str, str]) -> None:
    api = FakeApi({f"GET {asked}": NOTHING_TO_DO})
    ran = run(*words, "-o", "json", api=api)
    assert (ran.status, ran.document) == (0, NOTHING_TO_DO)
    assert [(one.path, one.query) for one in api.asked] == [(asked, query)]


@pytest.mark.parametrize(
    "words",
    [
        ["node", "flush", "hv1", "--snapshot", "cluster.yaml"],
        ["vm", "migrate", "web1", "--snapshot", "cluster.yaml"],
        ["vm", "move", "web1", "--make-room"],
        ["vm", "explain"],
        ["vm", "explain", "web1", "--new", "512MiB,1"],
        ["vm", "explain", "web1", "-l", "hv1"],
        ["vm", "explain", "--new", "plenty"],
        ["cluster", "capacity", "--fit", "0MiB,1"],
    ],
)
def test_options_that_make_no_sense_together_are_refused_before_anything_is_asked(run: Cli, words: list[str]) -> None:
    api = FakeApi({})
    assert run(*words, api=api).status == 2
    assert not api.asked


def test_capacity_names_who_would_not_come_back_and_has_an_exit_status_for_it(run: Cli) -> None:
    lost = {"survivable": False, "stranded": [{"vm": "db1", "reason": "no candidate: hv2: too small"}], "proven": True}
    document = {"nodes": {"hv1": lost, "hv2": {"survivable": True, "stranded": [], "proven": True}}, "fit": 3}
    api = FakeApi({"GET /cluster/capacity": document})
    ran = run("cluster", "capacity", "--fit", "4GiB,2", api=api)
    assert ran.status == 11
    assert api.asked[0].query == {"fit_memory_mib": "4096", "fit_vcpus": "2"}
    assert ran.out.splitlines() == [
        "1 VM would not come back if hv1 were lost",
        "",
        "LOST  SURVIVABLE  STRANDED",
        "hv1   no                 1",
        "hv2   yes                0",
        "",
        "WITHOUT  VM   WOULD NOT COME BACK",
        "hv1      db1  no candidate: hv2: too small",
        "",
        "room for 3 more VMs of 4 GiB and 2 vCPUs",
    ]
    document["nodes"] = {"hv2": {"survivable": True, "stranded": [], "proven": True}}
    fine = run("cluster", "capacity", "--node", "hv2", api=api)
    assert (fine.status, fine.out.splitlines()[0]) == (0, "every VM would come back, whichever node is lost")
    document["nodes"] = {"hv1": {**lost, "proven": False}}
    assert "hv1   no, as far as was searched" in run("cluster", "capacity", api=api).out


def test_nodes_that_are_rejected_for_the_same_reason_stand_together(run: Cli) -> None:
    rejections = [{"node": f"hv{n}", "reason": "outside the VM's limit", "plugin": "limit"} for n in range(2, 9)]
    ranking = [{"node": "hv1", "score": 100.0, "raw": 0.75, "parts": {"mem": 50.0, "load": 100.0}}]
    decision = {"vm": "web1", "node": "hv1", "ranking": ranking, "rejections": rejections, "degraded": ""}
    document = {**decision, "selector": "mem:2,load:1", "reason": "hv1 is the only candidate"}
    out = run("vm", "explain", "web1", api=FakeApi({"GET /vm/web1/placement": document})).out.splitlines()
    assert out[2].split() == ["RANK", "NODE", "SCORE", "MEM:2,LOAD:1", "MEM", "LOAD"]
    assert out[3].split() == ["1", "hv1", "100", "0.75", "50", "100"]
    assert out[6] == "hv2,hv3,hv4,hv5 and 3 more  limit  outside the VM's limit"


def test_a_snapshot_is_json_so_that_it_can_be_kept(run: Cli) -> None:
    document = {"settings": {}, "nodes": {}, "vms": {}, "rules": []}
    api = FakeApi({"GET /cluster/snapshot": document})
    assert json.loads(run("cluster", "snapshot", api=api).out) == document
    assert run("cluster", "snapshot", "-o", "yaml", api=api).out.startswith("settings:")


# --------------------------------------------------------------------------------------- without a cluster


def test_a_flush_of_a_file_is_planned_without_any_cluster(run: Cli, file: str) -> None:
    ran = run("node", "flush", "hv1", "--plan", "--snapshot", file, "-o", "json")
    assert ran.status == 10, ran
    steps = {step["vm"]: (step["action"], step["to"]) for step in ran.document["steps"]}
    assert steps == {"db1": ("migrate", "hv2"), "web1": ("migrate", "hv3"), "pinned": ("shutdown", "hv1")}
    assert list(ran.document)[:4] == ["steps", "stay", "complete", "proven"]


def test_a_file_also_comes_through_a_pipe(run: Cli) -> None:
    ran = run("vm", "explain", "db1", "--snapshot", "-", stdin=CLUSTER)
    assert ran.status == 0, ran
    assert "outside the VM's limit" in ran.out


def test_what_if_of_a_vm_that_does_not_exist(run: Cli, file: str) -> None:
    ran = run("vm", "explain", "--new", "2GiB,2", "-l", "hv1,hv2", "-s", "load", "--snapshot", file, "-o", "json")
    assert (ran.status, ran.document["node"], ran.document["selector"]) == (0, "hv2", "load")
    assert run("vm", "explain", "--new", "8GiB,2", "--snapshot", file).status == 6
    unknown = run("vm", "explain", "--new", "2GiB,2", "-s", "best", "--snapshot", file)
    assert (unknown.status, "best" in unknown.err) == (2, True)


def test_a_migration_and_the_capacity_of_a_file(run: Cli, file: str) -> None:
    move = run("vm", "move", "web1", "--plan", "--target", "hv3", "--snapshot", file, "-o", "json")
    assert [(step["vm"], step["to"]) for step in move.document["steps"]] == [("web1", "hv3")]
    capacity = run("cluster", "capacity", "--fit", "1GiB,1", "--snapshot", file, "-o", "json")
    assert capacity.status == 11
    assert [vm["vm"] for vm in capacity.document["nodes"]["hv1"]["stranded"]] == ["pinned"]
    assert capacity.document["fit"] == 4


def test_a_file_that_is_no_snapshot_is_refused_with_its_place(run: Cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("nodes: {hv1: {memory: 4096}}")
    ran = run("cluster", "capacity", "--snapshot", str(path))
    assert ran.status == 2
    assert "nodes.hv1: has no key 'memory'; is memory_mib meant?" in ran.err
    missing = run("cluster", "capacity", "--snapshot", str(tmp_path / "none"))
    assert (missing.status, "cannot be read" in missing.err) == (2, True)
    assert run("node", "flush", "hv9", "--plan", "--snapshot", str(path)).status == 2


def test_a_cluster_is_still_asked_without_a_file(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1": a_vm()})
    assert run("cluster", "capacity", api=api).status == 4


# ------------------------------------------------------------------------------------------ applying a plan


def a_step(vm: str = "web1", state: str = "done", **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"after": [], "attempts": 1, "reason": "room there", "note": "", "progress_pct": None}
    return {"vm": vm, "from": "hv1", "to": "hv2", "state": state, **empty, **fields}


def progress(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    done = sum(step["state"] == "done" for step in steps)
    return {
        "kind": "balance",
        "subject": "",
        "steps": list(steps),
        "left": [],
        "done": done,
        "total": len(steps),
        "cancelled": False,
        "reason": f"{done} of {len(steps)} steps done",
        "started_at": "2026-01-02T03:04:05Z",
        "finished_at": "2026-01-02T03:05:05Z",
        "version": 7,
        **fields,
    }


def an_answer(plan: dict[str, Any] | None, **fields: Any) -> dict[str, Any]:
    return {"plan": plan, "node": None, "changed": True, "reason": "plan accepted", "watch": "", **fields}


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_of(kind="balance", steps=[{**a_step(), "action": "migrate"}])))
    return str(path)


def test_a_plan_is_applied_as_it_stands_in_the_file(run: Cli, plan_file: str) -> None:
    api = FakeApi({"POST /cluster/plan": an_answer(progress(a_step()), watch="/api/v1/cluster/plan?since=7")})
    ran = run("cluster", "apply", plan_file, "-y", api=api)
    assert (ran.status, ran.out) == (0, "plan accepted\n")
    assert "pvc cluster plan" in ran.err
    assert api.bodies() == [{"plan": json.loads(Path(plan_file).read_text()), "force": False}]


def test_nobody_is_there_to_say_yes(run: Cli, plan_file: str) -> None:
    api = FakeApi({})
    assert run("cluster", "apply", plan_file, api=api).status == 2
    assert not api.asked


def test_waiting_for_a_plan_shows_what_became_of_each_step(run: Cli, plan_file: str) -> None:
    under_way = progress(a_step(state="under-way", progress_pct=40), a_step("web2", "waiting"), finished_at="")
    over = progress(a_step(note="it has arrived"), a_step("web2", "failed", note="no room"))
    api = FakeApi(
        {
            "POST /cluster/plan": an_answer(under_way, watch="/api/v1/cluster/plan?since=7"),
            "GET /cluster/plan": [{"plan": under_way, "settled": False}, {"plan": over, "settled": True}],
        }
    )
    ran = run("cluster", "apply", plan_file, "-y", "--wait", api=api)
    assert ran.status == 10
    assert "web1 -> hv2 40%" in ran.err
    lines = ran.out.splitlines()
    assert lines[0].endswith("ended 2026-01-02T03:05:05Z: 1 of 2 steps done")
    assert lines[4].split() == ["2", "web2", "hv1", "hv2", "failed", "-", "no", "room"]


def test_what_has_changed_since_a_plan_was_made_is_said(run: Cli, plan_file: str) -> None:
    outdated = problem(409, "plan_outdated", "the plan does not hold any more: VM web1 is gone", changes=["..."])
    ran = run("cluster", "apply", plan_file, "-y", api=FakeApi({"POST /cluster/plan": outdated}))
    assert (ran.status, ran.err) == (5, "pvc: the plan does not hold any more: VM web1 is gone\n")


def test_the_plan_under_way_is_shown_and_cancelled(run: Cli) -> None:
    under_way = progress(a_step(), a_step("web2", "under-way"), finished_at="")
    api = FakeApi(
        {
            "GET /cluster/plan": {"plan": under_way, "settled": False},
            "DELETE /cluster/plan": an_answer(under_way, reason="the plan is cancelled, 1 of 2 steps done"),
        }
    )
    shown = run("cluster", "plan", api=api)
    assert (shown.status, "goes on: 1 of 2 steps done" in shown.out) == (0, True)
    assert run("cluster", "plan", "--cancel", api=api).out == "the plan is cancelled, 1 of 2 steps done\n"
    never = FakeApi({"GET /cluster/plan": {"plan": None, "settled": True}})
    assert run("cluster", "plan", api=never).out == "no plan was ever applied\n"


@pytest.mark.parametrize("text", ["steps: []", "{}", '{"steps": []}', "[]"])
def test_a_file_that_is_no_plan_is_not_sent(run: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    api = FakeApi({})
    assert run("cluster", "apply", str(path), "-y", api=api).status == 2
    assert not api.asked


# ----------------------------------------------------------------------------------------------- a balance

BALANCE = {"score_before": 0.5, "score_after": 0.05, "repaired": ["db1 on hv3, outside its limit"], "unrepaired": []}


def a_balance(**fields: Any) -> dict[str, Any]:
    return {**plan_of(kind="balance", steps=[{**a_step(), "action": "migrate"}]), **BALANCE, **fields}


def test_a_balance_is_shown_with_what_it_repairs_and_changes_nothing(run: Cli) -> None:
    api = FakeApi({"GET /cluster/balance": a_balance()})
    ran = run("cluster", "balance", api=api)
    assert (ran.status, ran.out.splitlines()[1]) == (0, "repairs db1 on hv3, outside its limit")
    assert api.bodies() == []
    broken = FakeApi({"GET /cluster/balance": a_balance(steps=[], unrepaired=["rule r: no room"])})
    assert run("cluster", "balance", "--apply", "-y", api=broken).status == 10
    assert broken.bodies() == [], "without steps there is nothing to apply"


def test_what_is_applied_is_what_was_recommended(run: Cli) -> None:
    answer = an_answer(progress(a_step()))
    api = FakeApi({"GET /cluster/balance": a_balance(), "POST /cluster/plan": answer})
    assert run("cluster", "balance", "--apply", "--force", api=api).status == 2, "nobody is there to say yes"
    assert run("cluster", "balance", "--apply", "--force", "-y", api=api).out == "plan accepted\n"
    assert api.bodies() == [{"plan": a_balance(), "force": True}]


@pytest.mark.parametrize("words", [["--force"], ["-y"], ["--apply", "--snapshot", "cluster.yaml"]])
def test_options_of_applying_go_with_applying(run: Cli, words: list[str]) -> None:
    assert run("cluster", "balance", *words).status == 2


def test_a_balance_of_a_file(run: Cli, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    vms = "".join(f"  web{n}: {{node: hv1, memory_mib: 512, vcpus: 2}}\n" for n in range(6))
    path.write_text(
        f"nodes:\n  hv1: {{memory_mib: 4096, cores: 4}}\n  hv2: {{memory_mib: 4096, cores: 4}}\nvms:\n{vms}"
    )
    ran = run("cluster", "balance", "--snapshot", str(path), "-o", "json")
    assert (ran.status, len(ran.document["steps"])) == (0, 3)
    assert ran.document["spreads"]
    assert ran.document["score_after"] < ran.document["score_before"]
