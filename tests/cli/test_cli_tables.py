# SPDX-License-Identifier: Apache-2.0
"""What lists look like: for a person, in a pipe, and for a script."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from cli_runner import Cli, FakeApi, a_drain, a_node, a_vm

from pvc_cli.tables import Cell, Table

LONG_NAME = "a-vm-whose-name-is-as-long-as-names-may-be-and-must-never-be-cut"
VMS = [
    a_vm("web1", node_limit=["hv1", "hv2"], node_selector="load", node_autostart=True, tags=["front"]),
    a_vm(LONG_NAME, memory_mib=16384, vcpus=16, node_limit=[f"hypervisor{n}" for n in range(9)]),
    a_vm("db1", state="stopped", held=True),
    a_vm("mail1", node="hv2", limit_violated=True, node_limit=["hv1"]),
    a_vm("app1", state="migrating", target="hv3", progress_pct=40, tags=["front", "blue"]),
    a_vm("app2", state="stopped", kept_off="its snapshot monday is being taken"),
    a_vm("0000", state="broken", node="", home="", problem="the record does not parse"),
]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi({"GET /vm": {"vms": VMS, "total": len(VMS)}})


def cells(out: str) -> dict[str, list[str]]:
    """Rows by their first word."""
    return {line.split()[0]: line.split() for line in out.splitlines() if line}


def test_the_list_of_vms(run: Cli, api: FakeApi) -> None:
    rows = cells(run("vm", "list", api=api).out)
    assert rows["NAME"] == ["NAME", "STATE", "NODE", "HOME", "MEMORY", "VCPUS", "LIMIT", "SELECTOR", "AUTO", "NOTE"]
    assert rows["web1"] == ["web1", "running", "hv1", "-", "512", "MiB", "1", "hv1,hv2", "load", "yes", "-"]
    assert rows["db1"][-1] == "held"
    assert rows["mail1"][2:4] == ["hv2", "hv1"]
    assert rows["mail1"][-2:] == ["outside", "limit"]
    assert rows["app1"][-3:] == ["to", "hv3", "40%"]
    assert rows["app2"][-2:] == ["kept", "off"]
    assert rows["0000"][1] == "broken"
    assert rows["0000"][-2:] == ["broken", "record"]


def test_in_a_pipe_nothing_is_cut_or_folded_and_lines_end_where_they_end(run: Cli, api: FakeApi) -> None:
    lines = run("vm", "list", api=api).out.splitlines()
    assert len(lines) == 1 + len(VMS)
    assert any(LONG_NAME in line and ",".join(f"hypervisor{n}" for n in range(9)) in line for line in lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_terminal_with_some_room_folds_long_cells_at_their_words() -> None:
    table = Table(("node", "because"), folding=("because",))
    table.add("hv1", "outside the VM's limit (hv2, hv3)")
    table.add("hv2", Cell("its daemon is lost", "bad"))
    assert table.text(30).splitlines() == [
        "NODE BECAUSE",
        "hv1  outside the VM's limit",
        "     (hv2, hv3)",
        "hv2  its daemon is lost",
    ]
    assert "\x1b[1;31mits daemon is lost" in table.text(30, coloured=True)
    assert table.text(33).splitlines()[1] == "hv1  outside the VM's limit (hv2,"
    assert table.text(39) == table.text()


def test_wide_characters_take_their_room() -> None:
    table = Table(("name", "n"))
    table.add("日本", "1")
    table.add("abcd", "2")
    assert table.text().splitlines() == ["NAME  N", "日本  1", "abcd  2"]


def test_the_same_list_twice_is_the_same_text(run: Cli, api: FakeApi) -> None:
    assert run("vm", "list", api=api).out == run("vm", "list", api=api).out


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], [vm["name"] for vm in VMS]),
        (["*1"], ["web1", "db1", "mail1", "app1"]),
        (["web1"], ["web1"]),
        (["--node", "hv2"], ["mail1"]),
        (["--node", "hv2", "--node", "hv3"], ["mail1"]),
        (["--state", "stopped", "--state", "migrating"], ["db1", "app1", "app2"]),
        (["--tag", "front"], ["web1", "app1"]),
        (["--tag", "front", "--tag", "blue"], ["app1"]),
        (["--limit-violated"], ["mail1"]),
        (["--state", "failed"], []),
    ],
)
def test_filters(run: Cli, api: FakeApi, words: list[str], names: list[str]) -> None:
    assert run("vm", "list", *words, "-o", "names", api=api).out.split() == names
    document = run("vm", "list", *words, "-o", "json", api=api).document
    assert [vm["name"] for vm in document["vms"]] == names
    assert document["total"] == len(names)


def test_an_empty_list_says_what_to_do_and_is_empty_for_a_script(run: Cli, api: FakeApi) -> None:
    nothing = FakeApi({"GET /vm": {"vms": [], "total": 0}})
    assert "pvc vm define" in run("vm", "list", api=nothing).out
    assert run("vm", "list", "-o", "names", api=nothing).out == ""
    assert run("vm", "list", "nobody", api=api).out == "no VM matches\n"


def test_json_and_yaml_are_the_document_of_the_api_unknown_fields_included(run: Cli) -> None:
    vm = a_vm(from_the_future={"x": [1]}, reason="größer")
    api = FakeApi({"GET /vm/web1": vm})
    assert json.loads(run("vm", "info", "web1", "-o", "json", api=api).out) == vm
    assert json.loads(run("-o", "json", "vm", "info", "web1", api=api).out) == vm
    assert yaml.safe_load(run("vm", "info", "web1", "-o", "yaml", api=api).out) == vm
    assert "größer" in run("vm", "info", "web1", "-o", "json", api=api).out


def test_the_form_at_the_command_wins_over_the_one_before_it(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1": a_vm()})
    assert run("-o", "json", "vm", "info", "web1", "-o", "names", api=api).out == "web1\n"


def test_markup_in_a_reason_is_text(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1": a_vm(reason="[red]alarm[/red] :smile: [/]")})
    assert "[red]alarm[/red] :smile: [/]" in run("vm", "info", "web1", api=api).out


def test_a_vm_that_is_kept_off_says_by_what(run: Cli) -> None:
    why = "its snapshot monday is being taken, or gone back to"
    off = a_vm(state="stopped", held=True, kept_off=why)
    shown = [
        " ".join(line.split())
        for line in run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": off})).out.splitlines()
    ]
    assert "note held, kept off" in shown
    assert f"kept off {why}" in shown
    assert "kept off" not in run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": a_vm()})).out


def test_the_list_of_nodes(run: Cli) -> None:
    nodes = [
        a_node("hv1"),
        a_node("hv2", liveness="lost", fenced=True, unknown_domains={"u": "stray"}),
        a_node("hv3", mode="flushed", drain=a_drain(2, stayed=[{"vm": "a", "reason": "b"}])),
        a_node("hv4", report_stale=True, hypervisor_connected=False),
    ]
    rows = cells(run("node", "list", api=FakeApi({"GET /node": {"nodes": nodes}})).out)
    assert rows["hv1"] == ["hv1", "alive", "ready", "2", "1.0/4.0", "GiB", "2/4", "0.50", "-"]
    assert " ".join(rows["hv2"][8:]) == "fenced, 1 unknown domain"
    assert " ".join(rows["hv3"][8:]) == "1 VM stayed"
    assert " ".join(rows["hv4"][8:]) == "report stale, hypervisor away"


def test_what_is_known_of_a_node_includes_its_drain(run: Cli) -> None:
    drain = a_drain(
        3,
        2,
        moving=[{"vm": "web1", "state": "migrating", "target": "hv2", "progress_pct": 5}],
        waiting=[{"vm": "web2", "reason": "for a slot"}],
    )
    out = run("node", "info", "hv1", api=FakeApi({"GET /node/hv1": a_node(mode="flushing", drain=drain)})).out
    assert "1 of 3 VMs done" in out
    assert "migrating hv2" in out
    assert "waits: for a slot" in out


def test_what_is_known_of_a_node_includes_its_watchdog_if_it_is_armed(run: Cli) -> None:
    armed = run("node", "info", "hv1", api=FakeApi({"GET /node/hv1": a_node(watchdog_s=30.0)})).out
    assert "armed: off 30 s after it has lost the store" in armed
    assert "watchdog" not in run("node", "info", "hv1", api=FakeApi({"GET /node/hv1": a_node()})).out


def test_explain_shows_the_ranking_and_who_rejected_what_and_why(run: Cli) -> None:
    decision = {
        "vm": "web1",
        "uuid": "u",
        "node": "hv2",
        "ranking": [{"node": "hv2", "score": 100.0, "raw": 1920.0}, {"node": "hv1", "score": 0.0, "raw": 1664.5}],
        "rejections": [{"node": "hv3", "reason": "outside the VM's limit (hv1, hv2)", "plugin": "limit"}],
        "selector": "mem",
        "degraded": "plugin acme: it raised; mem ranked instead",
        "reason": "selector mem: hv2 of 2 candidates has the most free memory",
    }
    api = FakeApi({"GET /vm/web1/placement": decision})
    assert run("vm", "explain", "web1", api=api).out.splitlines() == [
        "web1: selector mem: hv2 of 2 candidates has the most free memory",
        "degraded: plugin acme: it raised; mem ranked instead",
        "",
        "RANK  NODE  SCORE     MEM",
        "   1  hv2     100    1920",
        "   2  hv1       0  1664.5",
        "",
        "REJECTED  BY     BECAUSE",
        "hv3       limit  outside the VM's limit (hv1, hv2)",
    ]
    assert run("vm", "explain", "web1", "-o", "json", api=api).document == decision


def test_the_status_of_the_cluster_names_what_to_act_on(run: Cli) -> None:
    status = {
        "version": "0.1.0",
        "store": "connected",
        "leader": "",
        "nodes": {"ready": 2, "flushed": 1},
        "liveness": {"alive": 3},
        "vms": {"running": 4, "failed": 1},
        "memory_total_mib": 12288,
        "memory_reserved_mib": 1024,
        "vcpus_reserved": 5,
        "cores": 12,
        "pause": None,
        "broken": [],
        "problems": ["VM web1 has failed: no such bridge"],
    }
    out = run("cluster", "status", api=FakeApi({"GET /cluster": status})).out
    assert "leader   none" in out
    assert "1 flushed, 2 ready" in out
    assert "1 failed, 4 running" in out
    assert "1 GiB reserved of 12 GiB" in out
    assert out.endswith("to act on:\n  VM web1 has failed: no such bridge\n")


def test_settings_are_sent_as_what_they_are_now(run: Cli) -> None:
    present = {"default_selector": "mem", "memory_overcommit": 1.0, "start_failures": 3}
    api = FakeApi(
        {
            "GET /cluster/settings": {"settings": present, "version": 1},
            "POST /cluster/settings": {
                "settings": present,
                "version": 2,
                "changed": True,
                "reason": "settings changed",
            },
        }
    )
    assert "memory_overcommit  1.0" in run("cluster", "settings", api=api).out
    words = ["default_selector=load", "memory_overcommit=2", "start_failures=1.5"]
    assert run("cluster", "settings", *words, api=api).status == 0
    assert api.bodies() == [{"default_selector": "load", "memory_overcommit": 2, "start_failures": 1.5}]
    run("cluster", "settings", "start_failures=many", api=api)
    assert api.bodies()[-1] == {"start_failures": "many"}
    assert run("cluster", "settings", "start_failures", api=api).status == 2


def test_settings_of_plugins_stand_among_the_others_and_are_set_by_plugin_and_name(run: Cli) -> None:
    present = {
        "start_failures": 3,
        "plugins": {"acme.x": {"weight": 1.5, "racks": ["r1", "r2"], "strict": False, "limit": None}},
    }
    answer = {"settings": present, "version": 2, "changed": True, "reason": "settings changed"}
    api = FakeApi({"GET /cluster/settings": {"settings": present, "version": 1}, "POST /cluster/settings": answer})
    lines = [line.split() for line in run("cluster", "settings", api=api).out.splitlines()]
    assert lines[1:] == [
        ["start_failures", "3"],
        ["acme.x.weight", "1.5"],
        ["acme.x.racks", "r1,r2"],
        ["acme.x.strict", "false"],
        ["acme.x.limit"],
    ]
    run("cluster", "settings", "acme.x.weight=2", "acme.x.racks=r3, r4", "acme.x.strict=yes", "acme.y=1", api=api)
    assert api.bodies() == [
        {"plugins": {"acme.x": {"weight": 2, "racks": ["r3", "r4"], "strict": True}, "acme": {"y": "1"}}}
    ]


def test_settings_are_reset_by_name(run: Cli) -> None:
    present = {"start_failures": 3, "plugins": {"acme": {"weight": 1.5}}}
    answer = {"settings": present, "version": 2, "changed": True, "reason": "settings changed"}
    api = FakeApi({"GET /cluster/settings": {"settings": present, "version": 1}, "POST /cluster/settings": answer})
    out = run("cluster", "settings", "--reset", "start_failures", "--reset", "acme.weight", api=api).out
    assert api.bodies() == [{"start_failures": None, "plugins": {"acme": {"weight": None}}}]
    assert out == "settings changed\nstart_failures=3\nacme.weight=1.5\n"
    assert run("cluster", "settings", "start_failures=4", "--reset", "start_failures", api=api).status == 2


def test_the_secret_of_a_new_token_is_alone_on_stdout(run: Cli) -> None:
    made = {
        "name": "ci",
        "role": "operator",
        "created_at": "now",
        "expires_at": "2027-01-01T00:00:00Z",
        "expired": False,
    }
    api = FakeApi({"POST /token": {"token": made, "secret": "pvc_ci_0123"}})
    ran = run("token", "create", "ci", "--role", "operator", "--expires-in", "90d", api=api)
    assert ran.out == "pvc_ci_0123\n"
    assert "until 2027-01-01" in ran.err
    assert api.bodies() == [{"name": "ci", "role": "operator", "expires_in_s": 90 * 86_400}]
    assert run("token", "create", "ci", "--expires-in", "soon", api=api).status == 2


def test_tokens_are_listed_and_revoked(run: Cli) -> None:
    tokens = [
        {"name": "ci", "role": "viewer", "created_at": "c", "expires_at": "", "expired": False},
        {"name": "old", "role": "admin", "created_at": "c", "expires_at": "e", "expired": True},
    ]
    api = FakeApi(
        {
            "GET /token": {"tokens": tokens, "broken": [{"key": "/tokens/x", "problem": "not JSON"}]},
            "DELETE /token/ci": {"name": "ci", "reason": "token ci is removed"},
        }
    )
    ran = run("token", "list", api=api)
    assert cells(ran.out)["ci"] == ["ci", "viewer", "c", "never"]
    assert cells(ran.out)["old"] == ["old", "admin", "c", "e", "(over)"]
    assert "/tokens/x does not parse" in ran.err
    assert run("token", "revoke", "ci", api=api).out == "token ci is revoked\n"


def a_plugin(name: str, **facts: Any) -> dict[str, Any]:
    """A plugin of PVC's own that is active on hv1 and hv2."""
    nodes = [
        {"node": node, "state": "active", "version": "0.1.0", "error": "", "trouble": None} for node in ("hv1", "hv2")
    ]
    defaults: dict[str, Any] = {
        "state": "active",
        "distribution": "pvc",
        "version": "0.1.0",
        "summary": "Selectors.",
        "hooks": ["pvc_selectors"],
        "drivers": [{"kind": "selectors", "name": "mem", "summary": "the most free memory"}],
        "error": "",
        "trouble": None,
        "nodes": nodes,
        "skew": "",
    }
    return {"name": name, **defaults, **facts}


def a_trouble(circuit: str, strikes: int) -> dict[str, Any]:
    """What a plugin did wrong."""
    error = {"last_error": "ValueError: boom", "last_error_at": "2026-01-31T12:00:00Z"}
    return {"circuit": circuit, "strikes": strikes, "failures": 7, "hanging": 1, **error}


def test_plugins_also_those_that_were_refused(run: Cli) -> None:
    broken = a_plugin("acme", state="failed", drivers=[], error="ImportError: acme", nodes=[])
    api = FakeApi(
        {
            "GET /plugin": {"plugins": [a_plugin("selectors"), broken], "problems": ["plugin acme: ImportError: acme"]},
            "GET /plugin/mem": a_plugin("selectors"),
        }
    )
    ran = run("plugin", "list", api=api)
    assert cells(ran.out)["selectors"] == ["selectors", "active", "pvc", "0.1.0", "2", "0", "mem"]
    assert "ImportError: acme" in ran.out
    assert ran.err == "refused: plugin acme: ImportError: acme\n"
    assert "the most free memory" in run("plugin", "show", "mem", api=api).out


def test_a_plugin_is_shown_with_what_can_be_configured_and_where(run: Cli) -> None:
    words = {"values": "number, 0 to 10", "default": "1", "meaning": "How much cores count."}
    options = [
        {"name": "acme.weight", "kind": "cluster", "value": 2.5, **words},
        {"name": "plugin.acme.port", "kind": "machine", "value": None, **words},
    ]
    out = run("plugin", "show", "acme", api=FakeApi({"GET /plugin/acme": a_plugin("acme", options=options)})).out
    assert cells(out)["acme.weight"][:4] == ["acme.weight", "settings", "2.5", "1"]
    assert cells(out)["plugin.acme.port"][:4] == ["plugin.acme.port", "pvc.toml", "-", "1"]


def test_a_plugin_that_is_left_out_is_shown_with_its_last_error_and_where(run: Cli) -> None:
    nodes = [
        {"node": "hv1", "state": "active", "version": "2", "error": "", "trouble": a_trouble("open", 4)},
        {"node": "hv2", "state": "failed", "version": "", "error": "ImportError: gone", "trouble": None},
        {"node": "hv3", "state": "active", "version": "1", "error": "", "trouble": None},
        {"node": "hv4", "state": "active", "version": "1", "error": "", "trouble": None},
    ]
    skew = "hv1 has 2; hv2 has none; hv3, hv4 have 1"
    acme = a_plugin("acme", trouble=a_trouble("open", 3), nodes=nodes, skew=skew)
    api = FakeApi({"GET /plugin": {"plugins": [acme], "problems": []}, "GET /plugin/acme": acme})
    listed = run("plugin", "list", api=api)
    assert "left out" in listed.out
    assert cells(listed.out)["acme"][-3:] == ["3", "4", "mem"]
    assert listed.err.splitlines() == [
        "warning: hv1 leaves out acme: ValueError: boom",
        "warning: acme is not loaded on hv2: ImportError: gone",
        f"warning: acme is not the same everywhere: {skew}",
    ]
    everywhere = run("plugin", "list", "--cluster", api=api).out.splitlines()
    assert [line.split() for line in everywhere[1:]] == [
        ["acme", "2", "left", "out", "4", "hv1"],
        ["acme", "-", "failed", "0", "hv2"],
        ["acme", "1", "active", "0", "hv3,", "hv4"],
    ]
    shown = run("plugin", "show", "acme", api=api).out
    assert "ValueError: boom (2026-01-31T12:00:00Z)" in shown
    assert "7 here, 3 strikes in a row, 1 call hanging" in shown
