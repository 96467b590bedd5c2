# SPDX-License-Identifier: Apache-2.0
"""Planned pauses as a person types and reads them."""

from __future__ import annotations

import httpx
import pytest
from cli_runner import Cli, FakeApi, a_node

from pvc_cli.durations import about

PAUSE = {
    "reason": "new switch",
    "began_at": "2026-01-31T12:00:00Z",
    "ends_at": "2026-01-31T14:00:00Z",
    "left_s": 5000.0,
}
SENTENCE = (
    "the cluster is in maintenance until 2026-01-31T14:00:00Z (new switch): no node is fenced and no VM recovered"
)
OUTCOME = {"pause": PAUSE, "sentence": SENTENCE, "version": 1, "changed": True, "reason": SENTENCE}


def test_it_is_begun_with_a_deadline_and_a_reason(run: Cli) -> None:
    api = FakeApi({"POST /cluster/maintenance": OUTCOME})
    ran = run("cluster", "maintenance", "on", "--for", "2h", "--reason", "new switch", api=api)
    assert (ran.status, ran.out) == (0, f"{SENTENCE}\n")
    assert api.bodies() == [{"on": True, "for_s": 7200, "reason": "new switch"}]


def test_without_a_deadline_the_api_chooses_one(run: Cli) -> None:
    api = FakeApi({"POST /cluster/maintenance": OUTCOME, "POST /node/hv1/maintenance": {"reason": "it is"}})
    run("cluster", "maintenance", "on", api=api)
    run("node", "maintenance", "hv1", "on", api=api)
    run("node", "maintenance", "hv1", "off", api=api)
    assert api.bodies() == [{"on": True, "reason": ""}, {"on": True, "reason": ""}, {"on": False, "reason": ""}]


def test_it_is_shown_without_an_argument(run: Cli) -> None:
    api = FakeApi({"GET /cluster/maintenance": {"pause": PAUSE, "sentence": SENTENCE, "version": 1}})
    assert run("cluster", "maintenance", api=api).out == f"{SENTENCE}; about 84 min left\n"
    assert run("cluster", "maintenance", "status", "-o", "names", api=api).out == "on\n"


@pytest.mark.parametrize("fields", [{}, {"maintenance": True, "pause": {**PAUSE, "ends_at": "", "reason": ""}}])
def test_that_of_a_node_is_shown_without_an_argument(run: Cli, fields: dict[str, object]) -> None:
    api = FakeApi({"GET /node/hv1": a_node(**fields)})
    shown = "hv1 is in maintenance until it is ended" if fields else "hv1 is not in maintenance"
    assert run("node", "maintenance", "hv1", api=api).out == f"{shown}\n"


@pytest.mark.parametrize("words", [["off", "--for", "2h"], ["status", "--reason", "x"], ["on", "--for", "0s"]])
def test_terms_that_make_no_sense_are_refused_before_anything_is_sent(run: Cli, words: list[str]) -> None:
    api = FakeApi({})
    ran = run("cluster", "maintenance", *words, api=api)
    assert (ran.status, api.asked) == (2, [])


def test_the_list_of_nodes_says_it_first(run: Cli) -> None:
    api = FakeApi({"GET /node": {"nodes": [a_node(maintenance=True, pause=PAUSE)], "pause": PAUSE}})
    lines = run("node", "list", api=api).out.splitlines()
    assert lines[0] == "the cluster is in maintenance until 2026-01-31T14:00:00Z (new switch): no node is fenced"
    assert lines[-1].endswith("maintenance")


def test_every_change_warns_of_it_once(run: Cli) -> None:
    answer = httpx.Response(200, json=OUTCOME, headers={"PVC-Notice": "the cluster is in maintenance"})
    ran = run("cluster", "maintenance", "off", api=FakeApi({"POST /cluster/maintenance": answer}))
    assert ran.err == "warning: the cluster is in maintenance\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (90, "90 s"), (91, "2 min"), (5400, "90 min"), (5401, "2 h"), (172_801, "3 days")],
)
def test_a_time_is_written_in_one_unit_and_rounded_up(seconds: float, text: str) -> None:
    assert about(seconds) == text
