# SPDX-License-Identifier: Apache-2.0
"""`pvc events`: what has happened, for a person and for a script, and what happens while it is followed."""

from __future__ import annotations

import json
from typing import Any

import httpx
from cli_runner import Cli, FakeApi, problem


def an_event(number: int, **fields: object) -> dict[str, Any]:
    event = {
        "id": f"{number:013d}-000aaaaaaaa",
        "at": "2026-01-31T12:00:00Z",
        "kind": "vm_started",
        "vm": "web1",
        "uuid": "",
        "node": "hv1",
        "target": "",
        "reason": "it runs",
        "plugin": "",
        "by": "agent:hv1",
        "decision": None,
        "left_out": None,
    }
    return {**event, **fields}


def stream_of(*events: dict[str, Any]) -> httpx.Response:
    frames = [f"id: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in events]
    text = ": events follow\nretry: 2000\n\n" + "".join(frames) + ": nothing new\n\n"
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def test_events_are_a_table_newest_last_that_says_what_where_who_and_why(run: Cli) -> None:
    events = [
        an_event(1, kind="vm_migrating", target="hv2", by="api:ci", reason="migrates"),
        an_event(2, kind="plugin_failed", vm="", node="", plugin="acme", by="", reason="it raised"),
        an_event(3, kind="node_flushed", vm="", reason="drained"),
    ]
    ran = run("events", api=FakeApi({"GET /events": {"events": events, "broken": []}}))
    lines = [line.split("  ") for line in ran.out.splitlines()]
    assert [[cell.strip() for cell in line if cell] for line in lines[1:]] == [
        ["2026-01-31T12:00:00Z", "vm_migrating", "web1 (hv1 -> hv2)", "api:ci", "migrates"],
        ["2026-01-31T12:00:00Z", "plugin_failed", "acme", "-", "it raised"],
        ["2026-01-31T12:00:00Z", "node_flushed", "hv1", "agent:hv1", "drained"],
    ]


def test_the_api_filters_and_json_is_its_document(run: Cli) -> None:
    document = {"events": [an_event(1)], "broken": []}
    api = FakeApi({"GET /events": document})
    words = "events --vm web1 --node hv1 --kind vm_started -n 7 -o json"
    assert run(*words.split(), api=api).document == document
    assert api.asked[0].query == {"vm": "web1", "node": "hv1", "kind": "vm_started", "limit": "7"}


def test_a_broken_event_is_named_beside_the_answer(run: Cli) -> None:
    broken = [{"key": "/events/8", "problem": "no JSON"}]
    ran = run("events", api=FakeApi({"GET /events": {"events": [], "broken": broken}}))
    assert "broken: /events/8: no JSON" in ran.err


def test_following_prints_each_event_once_and_goes_on_a_little_before_the_last_one_when_the_stream_ends(
    run: Cli,
) -> None:
    first, second = an_event(100_000), an_event(100_001, kind="vm_stopped")
    gone = problem(401, "unauthenticated", "a valid bearer token is required")
    api = FakeApi({"GET /events": [stream_of(first), httpx.ConnectError("gone"), stream_of(first, second), gone]})
    ran = run("events", "--follow", "-n", "1", "-o", "json", api=api)
    assert [json.loads(line) for line in ran.out.splitlines()] == [first, second]
    assert ran.status == 8
    assert [asked.query.get("since", "") for asked in api.asked] == [
        "",
        "0000000040000",
        "0000000040000",
        "0000000040001",
    ]
    assert "asking again" in ran.err


def test_following_in_other_forms(run: Cli) -> None:
    gone = problem(403, "forbidden", "no")

    def followed(form: str) -> str:
        return run("events", "--follow", "-o", form, api=FakeApi({"GET /events": [stream_of(an_event(1)), gone]})).out

    assert followed("names") == f"{an_event(1)['id']}\n"
    assert followed("yaml").startswith("---\nid: ")
    assert followed("table").split() == [
        "2026-01-31T12:00:00Z",
        "vm_started",
        "web1",
        "(hv1)",
        "agent:hv1",
        "it",
        "runs",
    ]


def test_an_api_that_was_never_there_is_an_error_at_once(run: Cli) -> None:
    ran = run("events", "--follow", api=FakeApi({"GET /events": httpx.ConnectError("refused")}))
    assert ran.status == 7
