# SPDX-License-Identifier: Apache-2.0
"""`pvc cluster rule`: what is sent, and what a person sees of rules that are kept or broken."""

from __future__ import annotations

from typing import Any

import pytest
from cli_runner import Cli, FakeApi, a_vm

BROKEN = "web1 and web2 are both on hv1, and are to be apart"


def a_rule(name: str = "web-apart", **fields: Any) -> dict[str, Any]:
    """A rule as the API shows it: kept."""
    return {
        "name": name,
        "kind": "apart",
        "members": ["web1", "web2"],
        "hard": True,
        "nodes": {},
        "vms": ["web1", "web2"],
        "missing": [],
        "state": "kept",
        "problems": [],
        **fields,
    }


def an_outcome(reason: str) -> dict[str, Any]:
    return {"rule": a_rule(), "changed": True, "reason": reason}


def test_a_rule_is_added_with_all_its_members(run: Cli) -> None:
    api = FakeApi({"POST /cluster/rule": an_outcome("rule web-apart added")})
    words = ("--kind", "apart", "--member", "web1, web2", "--member", "tag:web", "--hard")
    ran = run("cluster", "rule", "add", "web-apart", *words, api=api)
    assert ran.out == "rule web-apart added\n"
    assert api.bodies() == [
        {"name": "web-apart", "kind": "apart", "members": ["web1", "web2", "tag:web"], "hard": True, "nodes": {}}
    ]


def test_a_rule_may_replace_the_one_of_its_name_and_weigh_nodes(run: Cli) -> None:
    api = FakeApi({"PUT /cluster/rule/near": an_outcome("rule near changed")})
    words = ("--kind", "prefer", "--member", "db1", "--node", "hv2=10", "--node", "hv3=-2.5", "--replace")
    assert run("cluster", "rule", "add", "near", *words, api=api).out == "rule near changed\n"
    assert api.bodies("PUT") == [
        {"kind": "prefer", "members": ["db1"], "hard": False, "nodes": {"hv2": 10, "hv3": -2.5}}
    ]


@pytest.mark.parametrize("weight", ["hv2", "hv2=", "=3", "hv2=much", "hv2=nan"])
def test_a_weight_is_a_node_and_a_number(run: Cli, weight: str) -> None:
    words = ("--kind", "prefer", "--member", "db1", "--node", weight)
    ran = run("cluster", "rule", "add", "near", *words, api=FakeApi({}))
    assert (ran.status, "must be given as NODE=WEIGHT" in ran.err) == (2, True)


def test_rules_are_listed_with_whom_they_are_about_and_how_they_are_broken(run: Cli) -> None:
    rules = [
        a_rule(state="broken", problems=[BROKEN]),
        a_rule("near", kind="prefer", hard=False, members=["tag:db"], vms=[], nodes={"hv2": 10.0}),
        a_rule("old", missing=["gone"]),
    ]
    answer = {"rules": rules, "broken": [{"key": "/rules/x", "problem": "not JSON"}]}
    api = FakeApi({"GET /cluster/rule": answer})
    ran = run("cluster", "rule", "list", api=api)
    lines = {line.split()[0]: " ".join(line.split()) for line in ran.out.splitlines()}
    assert lines["web-apart"] == f"web-apart apart hard web1,web2 web1,web2 broken {BROKEN}"
    assert lines["near"] == "near prefer soft tag:db - kept hv2=10"
    assert lines["old"] == "old apart hard web1,web2 web1,web2 kept no such VM: gone"
    assert "/rules/x does not parse" in ran.err
    assert run("cluster", "rule", "list", "-o", "names", api=api).out == "web-apart\nnear\nold\n"
    assert run("cluster", "rule", "list", "-o", "json", api=api).document == answer


def test_no_rules_say_how_to_add_one(run: Cli) -> None:
    ran = run("cluster", "rule", "list", api=FakeApi({"GET /cluster/rule": {"rules": [], "broken": []}}))
    assert ran.out == "no rules; add one with `pvc cluster rule add`\n"


def test_a_rule_is_shown(run: Cli) -> None:
    api = FakeApi({"GET /cluster/rule/web-apart": a_rule(state="broken", problems=[BROKEN])})
    out = run("cluster", "rule", "show", "web-apart", api=api).out
    assert BROKEN in out
    assert ["hard", "hard"] in [line.split() for line in out.splitlines()]


def test_a_rule_is_removed_when_that_is_confirmed(run: Cli) -> None:
    answer = {"name": "web-apart", "reason": "rule web-apart is removed"}
    api = FakeApi({"DELETE /cluster/rule/web-apart": answer})
    assert "there is no terminal to ask; say --yes" in run("cluster", "rule", "remove", "web-apart", api=api).err
    assert not api.asked
    assert run("cluster", "rule", "remove", "web-apart", "-y", api=api).out == "rule web-apart is removed\n"


def test_a_vm_shows_its_rules_and_which_it_breaks(run: Cli) -> None:
    rules = [
        {"name": "web-apart", "kind": "apart", "hard": True, "problem": BROKEN},
        {"name": "near", "kind": "prefer", "hard": False, "problem": ""},
    ]
    out = run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": a_vm(rules=rules)})).out
    assert "web-apart (apart, hard), near (prefer, soft)" in out
    assert f"web-apart: {BROKEN}" in out
    assert "rules" not in run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": a_vm()})).out


def test_an_explanation_shows_the_points_that_rules_gave(run: Cli) -> None:
    decision = {
        "vm": "web1",
        "uuid": "",
        "node": "hv2",
        "ranking": [
            {"node": "hv2", "score": 0.0, "raw": 1.0, "parts": {}, "preference": 2.5},
            {"node": "hv1", "score": 100.0, "raw": 2.0, "parts": {}, "preference": -100.0},
        ],
        "rejections": [],
        "selector": "mem",
        "degraded": "",
        "reason": "rule web-apart prefers hv2",
    }
    lines = [
        line.split()
        for line in run("vm", "explain", "web1", api=FakeApi({"GET /vm/web1/placement": decision})).out.splitlines()
    ]
    assert ["rank", "node", "rules", "score", "mem"] in [[word.lower() for word in line] for line in lines]
    assert ["1", "hv2", "+2.5", "0", "1"] in lines
    assert ["2", "hv1", "-100", "100", "2"] in lines
