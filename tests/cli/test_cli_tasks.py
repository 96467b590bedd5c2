# SPDX-License-Identifier: Apache-2.0
"""`pvc task`: lists, shows, waits for and calls off what nodes were given to do."""

from __future__ import annotations

from typing import Any

import pytest
from cli_runner import Cli, FakeApi

from pvc_cli.exit_codes import FAILED


def a_task(state: str = "running", **fields: object) -> dict[str, Any]:
    view = {
        "id": "1700000000000-0123abcd",
        "node": "hv1",
        "kind": "acme-wipe",
        "title": "wipe sdb",
        "parameters": {"device": "sdb"},
        "state": state,
        "settled": state in ("done", "failed", "cancelled"),
        "done": 3,
        "total": 10,
        "sentence": "wiping sector 3",
        "result": {},
        "reason": "hv1 has begun",
        "cancelling": False,
        "given_at": "2026-01-02T03:04:05Z",
        "began_at": "2026-01-02T03:04:06Z",
        "ended_at": "",
        "watch": "/api/v1/task/1700000000000-0123abcd",
    }
    return {**view, **fields}


ID = a_task()["id"]
FAILURE = a_task("failed", reason="sdb: it is in use", sentence="")


def listed(*tasks: dict[str, Any]) -> FakeApi:
    return FakeApi({"GET /task": {"tasks": list(tasks), "broken": []}})


def test_the_list_says_how_far_each_is_or_why_it_ended(run: Cli) -> None:
    api = listed(a_task(), FAILURE, a_task("waiting", done=0, total=0, sentence="", reason="waits for hv1"))
    head, runs, failed, waits = run("task", "list", api=api).out.splitlines()
    assert head.split() == ["ID", "NODE", "STATE", "DONE", "TITLE", "NOTE"]
    assert runs.split()[1:] == ["hv1", "running", "30%", "wipe", "sdb", "wiping", "sector", "3"]
    assert failed.split()[2:4] == ["failed", "30%"]
    assert failed.endswith("sdb: it is in use")
    assert waits.split()[2:4] == ["waiting", "-"]
    assert run("task", "list", api=listed()).out == "no tasks\n"


def test_scripts_get_all_or_the_open_ones_and_may_ask_for_one_node(run: Cli) -> None:
    api = listed(a_task(), FAILURE)
    assert run("task", "list", "--open", "-o", "json", api=api).document["tasks"] == [a_task()]
    assert run("task", "list", "--node", "hv1", "-o", "names", api=api).out.split() == [ID, ID]
    assert api.asked[-1].query == {"node": "hv1"}


def test_one_is_shown_with_its_parameters_and_its_result(run: Cli) -> None:
    api = FakeApi({f"GET /task/{ID}": a_task("done", result={"wiped": "sdb"})})
    out = run("task", "info", ID, api=api).out
    assert "device=sdb" in out
    assert "wiped=sdb" in out


def test_waiting_shows_the_progress_and_ends_with_the_result(run: Cli) -> None:
    api = FakeApi({f"GET /task/{ID}": [a_task(), a_task(), a_task("done", result={"wiped": "sdb"})]})
    ran = run("task", "wait", ID, "-o", "json", api=api)
    assert ran.document["result"] == {"wiped": "sdb"}
    assert ran.err == "wipe sdb on hv1: 30%, wiping sector 3\n"
    assert [asked.query for asked in api.asked] == [{}, {}, {}]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_waiting_for_one_that_fails_or_is_called_off_fails_with_the_reason(run: Cli, state: str) -> None:
    ended = a_task(state, reason="sdb: it is in use")
    ran = run("task", "wait", ID, api=FakeApi({f"GET /task/{ID}": ended}))
    assert ran.status == FAILED
    assert f"wipe sdb on hv1 should be done but is {state}: sdb: it is in use" in ran.err


def test_one_is_called_off(run: Cli) -> None:
    outcome = {"task": a_task("cancelled"), "reason": "called off before it began"}
    ran = run("task", "cancel", ID, api=FakeApi({f"DELETE /task/{ID}": outcome}))
    assert (ran.status, ran.out) == (0, "called off before it began\n")
