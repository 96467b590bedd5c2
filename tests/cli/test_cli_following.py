# SPDX-License-Identifier: Apache-2.0
"""Commands that take long: they come back at once, or wait, show how it goes, and tell whether it came out right."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cli_runner import Cli, FakeApi, a_drain, a_node, a_vm, an_outcome, problem

WATCH = "/api/v1/vm/u-1/state?since=7"
WATCHED = "GET /vm/u-1/state"
NODE_WATCH = "/api/v1/node/hv1/domain-state?since=2"
NODE_WATCHED = "GET /node/hv1/domain-state"


def seen(settled: bool = False, **fields: object) -> dict[str, Any]:
    return {"vm": a_vm(uuid="u-1", **fields), "settled": settled}


def starting(*watched: Any) -> FakeApi:
    vm = a_vm(uuid="u-1", state="starting", reason="start requested")
    return FakeApi({"POST /vm/web1/state": an_outcome(vm, WATCH, reason="start requested"), WATCHED: list(watched)})


def test_without_wait_a_command_comes_back_and_says_what_to_look_at(run: Cli) -> None:
    api = starting()
    ran = run("vm", "start", "web1", api=api)
    assert ran.status == 0
    assert ran.out == "web1 is starting on hv1: start requested\n"
    assert ran.err == "it goes on, see `pvc vm info web1`\n"
    assert len(api.asked) == 1


def test_with_wait_it_stays_until_the_vm_has_settled(run: Cli) -> None:
    api = starting(seen(state="starting"), seen(state="starting"), seen(settled=True))
    ran = run("vm", "start", "web1", "--wait", api=api)
    assert ran.status == 0
    assert ran.out == "web1 is running on hv1: the guest runs\n"
    assert ran.err == "web1 is starting on hv1\n"


def test_the_command_is_sent_once_and_watched_from_the_version_it_made(run: Cli) -> None:
    api = starting(seen(state="starting"), seen(settled=True))
    run("vm", "start", "web1", "--wait", api=api)
    assert [asked.method for asked in api.asked] == ["POST", "GET", "GET"]
    assert [asked.query.get("since") for asked in api.asked] == [None, "7", "7"]
    assert [asked.query.get("wait") for asked in api.asked] == [None, None, "0.5"]


def test_with_json_the_answer_is_the_end_and_not_the_beginning(run: Cli) -> None:
    ran = run("vm", "start", "web1", "--wait", "-o", "json", api=starting(seen(settled=True)))
    assert ran.document["vm"]["state"] == "running"
    assert ran.document["watch"] == ""


def test_another_end_than_the_wanted_one_is_a_failure_with_its_reason(run: Cli) -> None:
    api = starting(seen(settled=True, state="failed", reason="no such bridge br9"))
    ran = run("vm", "start", "web1", "--wait", api=api)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-1] == "pvc: web1 should be running but is failed on hv1: no such bridge br9"


def test_a_wait_that_runs_out_says_that_it_goes_on(run: Cli) -> None:
    ran = run("vm", "start", "web1", "--timeout", "0.05", api=starting(seen(state="starting")))
    assert ran.status == 9
    assert ran.err.splitlines()[-1] == (
        "pvc: still waiting for web1 to be running after 0.05 s; it goes on, see `pvc vm info web1`"
    )


def test_an_api_that_is_away_for_a_moment_does_not_end_the_wait(run: Cli) -> None:
    away = [httpx.ConnectError("refused"), problem(503, "store_unavailable", "the store is away")]
    ran = run("vm", "start", "web1", "--wait", api=starting(seen(state="starting"), *away, seen(settled=True)))
    assert ran.status == 0
    assert "asking again" in ran.err


def test_an_api_that_stays_away_ends_it_with_its_own_status(run: Cli) -> None:
    ran = run("vm", "start", "web1", "--timeout", "0.05", api=starting(httpx.ConnectError("refused")))
    assert ran.status == 7


def test_a_vm_that_is_forgotten_meanwhile_ends_the_wait(run: Cli) -> None:
    ran = run("vm", "start", "web1", "--wait", api=starting(problem(404, "not_found", "no VM is called 'u-1'")))
    assert ran.status == 4


def test_what_is_so_already_is_not_waited_for(run: Cli) -> None:
    api = FakeApi({"POST /vm/web1/state": an_outcome(a_vm(), changed=False)})
    assert run("vm", "start", "web1", "--wait", api=api).status == 0
    assert len(api.asked) == 1


def test_a_log_gets_a_line_for_news_and_none_for_a_percentage(run: Cli) -> None:
    vm = a_vm(uuid="u-1", state="migrating", target="hv2")
    moving = [seen(state="migrating", target="hv2", progress_pct=pct) for pct in (0, 30, 60)]
    there = seen(settled=True, node="hv2")
    api = FakeApi({"POST /vm/web1/node": an_outcome(vm, WATCH), WATCHED: [*moving, there]})
    ran = run("vm", "migrate", "web1", "--wait", api=api)
    assert ran.status == 0
    assert ran.err == "web1 is migrating from hv1 to hv2 (0 %)\n"


def test_a_migration_that_came_back_is_a_failure(run: Cli) -> None:
    vm = a_vm(uuid="u-1", state="migrating", target="hv2")
    back = seen(settled=True, reason="migration failed: no route to hv2")
    api = FakeApi({"POST /vm/web1/node": an_outcome(vm, WATCH), WATCHED: back})
    ran = run("vm", "migrate", "web1", "--target", "hv2", "--wait", api=api)
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == (
        "pvc: web1 should be running on hv2 but is running on hv1: migration failed: no route to hv2"
    )


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["start", "web1"], "/vm/web1/state", {"state": "start"}),
        (["restart", "web1"], "/vm/web1/state", {"state": "restart"}),
        (["shutdown", "web1"], "/vm/web1/state", {"state": "shutdown"}),
        (["stop", "web1"], "/vm/web1/state", {"state": "stop"}),
        (["disable", "web1", "--force"], "/vm/web1/state", {"state": "disable", "force": True}),
        (["migrate", "web1", "--target", "hv2"], "/vm/web1/node", {"action": "migrate", "target": "hv2"}),
        (["move", "web1"], "/vm/web1/node", {"action": "move", "target": ""}),
        (["unmigrate", "web1"], "/vm/web1/node", {"action": "unmigrate"}),
    ],
)
def test_what_each_command_sends(run: Cli, words: list[str], path: str, body: dict[str, object]) -> None:
    api = FakeApi({f"POST {path}": an_outcome(a_vm())})
    assert run("vm", *words, api=api).status == 0
    assert [(asked.path, asked.body) for asked in api.asked] == [(path, body)]


# --------------------------------------------------------------------------------------------- nodes


def drained(mode: str, settled: bool, drain: dict[str, Any], reason: str = "") -> dict[str, Any]:
    return {"node": a_node(mode=mode, drain=drain, reason=reason), "settled": settled}


def flushing(*watched: Any, vms: tuple[Any, ...] = ()) -> FakeApi:
    node = a_node(mode="flushing", drain=a_drain(3, 3))
    outcome = {"node": node, "changed": True, "reason": "flush requested", "watch": NODE_WATCH}
    return FakeApi(
        {
            "POST /node/hv1/domain-state": outcome,
            NODE_WATCHED: list(watched),
            "GET /vm": {"vms": list(vms), "total": len(vms)},
        }
    )


def moving(vm: str, target: str, pct: int) -> dict[str, Any]:
    return {"vm": vm, "state": "migrating", "target": target, "progress_pct": pct}


def test_a_flush_shows_how_many_of_how_many_what_goes_where_and_what_waits(run: Cli) -> None:
    waiting = [{"vm": "db1", "reason": "for a free slot"}]
    api = flushing(
        drained(
            "flushing",
            False,
            a_drain(3, 3, moving=[moving("web1", "hv2", 10), moving("web2", "hv3", 5)], waiting=waiting),
        ),
        drained(
            "flushing",
            False,
            a_drain(3, 3, moving=[moving("web1", "hv2", 90), moving("web2", "hv3", 80)], waiting=waiting),
        ),
        drained("flushing", False, a_drain(3, 1, moving=[moving("db1", "hv2", 0)])),
        drained("flushed", True, a_drain(3), "no VM is left to move"),
    )
    ran = run("node", "flush", "hv1", "--wait", api=api)
    assert ran.status == 0
    assert ran.err.splitlines() == [
        "hv1 is flushing, 0 of 3 VMs done: web1 -> hv2 10%, web2 -> hv3 5%, db1 waits",
        "hv1 is flushing, 2 of 3 VMs done: db1 -> hv2 0%",
    ]
    assert ran.out == "hv1 is flushed: no VM is left to move (3 of 3 VMs done)\n"


def test_vms_that_stayed_are_reported_with_the_reason_and_a_status_of_their_own(run: Cli) -> None:
    drain = a_drain(3, stayed=[{"vm": "db1", "reason": "migration failed twice: no route"}])
    held = a_vm("big1", state="stopped", held=True, reason="no candidate")
    api = flushing(drained("flushed", True, drain, "no VM is left to move, 1 VM stayed"), vms=(held, a_vm()))
    ran = run("node", "flush", "hv1", "--wait", api=api)
    assert ran.status == 10
    assert ran.out.splitlines() == [
        "hv1 is flushed: no VM is left to move, 1 VM stayed (2 of 3 VMs done)",
        "  db1 stayed: migration failed twice: no route",
        "  big1 is held until hv1 is ready: no candidate",
    ]


def test_a_flush_that_is_broken_off_by_a_ready_says_so(run: Cli) -> None:
    ran = run("node", "flush", "hv1", "--wait", api=flushing(drained("ready", True, a_drain(3), "ready requested")))
    assert ran.status == 1
    assert ran.err.splitlines()[-1] == "pvc: hv1 should be flushed but is ready: ready requested"


def test_a_flush_without_wait_comes_back_at_once(run: Cli) -> None:
    api = flushing()
    ran = run("node", "flush", "hv1", api=api)
    assert ran.status == 0
    assert ran.out == "hv1 is flushing: flush requested\n"
    assert ran.err == "it goes on, see `pvc node info hv1`\n"
    assert len(api.asked) == 1


def test_ready_ends_with_ten_when_vms_could_not_come_back(run: Cli) -> None:
    outcome = {"node": a_node(mode="unflushing"), "changed": True, "reason": "ready requested", "watch": NODE_WATCH}
    drain = a_drain(2, stayed=[{"vm": "web1", "reason": "hv1: 128 MiB are missing"}])
    api = FakeApi({"POST /node/hv1/domain-state": outcome, NODE_WATCHED: drained("ready", True, drain, "VMs are back")})
    ran = run("node", "ready", "hv1", "--wait", "-o", "json", api=api)
    assert ran.status == 10
    assert ran.document["node"]["drain"]["stayed"] == drain["stayed"]
