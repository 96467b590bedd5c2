# SPDX-License-Identifier: Apache-2.0
"""Every error is one line on stderr and a documented exit status; with -o json a script gets its fields."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from cli_runner import Cli, FakeApi, a_vm, problem

from pvc_api.problems import all_codes
from pvc_cli.exit_codes import EXIT_CODES, exit_code_of_problem
from pvc_cli.problems import (
    CLI_MEANINGS,
    ApiUnreachable,
    EndedOtherwise,
    NoConnection,
    WaitedTooLong,
    as_document,
    exit_code_of,
)
from pvc_core.errors import MEANINGS, DeadlineExceeded, InvalidInput, meaning_of


def test_every_status_that_an_error_has_is_in_the_table() -> None:
    meanings = [*MEANINGS.values(), *CLI_MEANINGS.values()]
    assert {meaning.exit_code for meaning in meanings} <= set(EXIT_CODES)
    assert {exit_code_of_problem(code, status) for code, status in all_codes().items()} <= set(EXIT_CODES)


def test_no_status_in_the_table_is_without_a_use() -> None:
    of_errors = {meaning.exit_code for meaning in (*MEANINGS.values(), *CLI_MEANINGS.values())}
    assert set(EXIT_CODES) - of_errors == {0, 10, 12, 130, 141}


def test_the_help_and_the_page_show_the_table(run: Cli) -> None:
    shown = run("--help").out
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in shown
        assert f"| {code} | {meaning} |" in page
    assert max(len(line) for line in shown.splitlines()) <= 80


@pytest.mark.parametrize("meaning", MEANINGS.values(), ids=lambda meaning: str(meaning.code))
def test_an_error_of_the_api_ends_with_the_status_of_its_code(run: Cli, meaning: object) -> None:
    code, status, exit_code = meaning.code, meaning.http_status, meaning.exit_code  # type: ignore[attr-defined]
    api = FakeApi({"GET /vm/web1": problem(status, code, "it is so")})
    ran = run("vm", "info", "web1", api=api)
    assert ran.status == exit_code
    assert ran.out == ""
    assert ran.err.startswith("pvc: it is so")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "exit_code"), [(400, 2), (404, 4), (409, 5), (412, 5), (500, 1), (503, 7), (302, 1)]
)
def test_an_error_without_a_known_code_ends_with_the_status_of_its_http_status(
    run: Cli, status: int, exit_code: int
) -> None:
    ran = run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": httpx.Response(status, text="<html>proxy</html>")}))
    assert ran.status == exit_code
    assert ran.err == f"pvc: GET /api/v1/vm/web1 was answered with HTTP status {status}\n"


def test_a_refused_input_names_the_field_the_problem_and_what_is_allowed(run: Cli) -> None:
    error = InvalidInput("node_limit", "is not a node of this cluster", "hv9", ("hv1", "hv2"))
    api = FakeApi({"POST /vm/web1": problem(422, "invalid_input", error.sentence(), **error.details())})
    ran = run("vm", "meta", "web1", "-l", "hv9", api=api)
    assert ran.status == 2
    assert ran.err == "pvc: node_limit 'hv9': is not a node of this cluster (allowed: hv1, hv2)\n"


def test_with_json_the_last_line_on_stderr_is_the_problem_with_all_its_fields(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1": problem(404, "not_found", "no VM is called 'web1'", kind="VM", name="web1")})
    ran = run("vm", "info", "web1", "-o", "json", api=api)
    sentence, line = ran.err.splitlines()
    assert sentence == "pvc: no VM is called 'web1'"
    assert json.loads(line) == {
        "code": "not_found",
        "status": 404,
        "detail": "no VM is called 'web1'",
        "kind": "VM",
        "name": "web1",
    }


def test_an_error_found_here_has_the_same_shape_as_one_of_the_api(run: Cli) -> None:
    ran = run("-o", "json", "vm", "list")
    document = json.loads(ran.err.splitlines()[-1])
    assert document["code"] == "no_connection"
    assert ran.status == 7
    wrong = run("-o", "json", "vm", "lsit")
    assert json.loads(wrong.err.splitlines()[-1])["code"] == "usage"


def test_without_a_token_the_error_says_how_to_get_one(run: Cli) -> None:
    ran = run(
        "vm", "list", api=FakeApi({"GET /vm": problem(401, "unauthenticated", "a valid bearer token is required")})
    )
    assert ran.status == 8
    assert "pvc token create" in ran.err
    assert "PVC_API_TOKEN" in ran.err


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("Connection refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError(""),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_api_that_cannot_be_reached_is_a_sentence(run: Cli, failure: Exception) -> None:
    ran = run("vm", "list", api=FakeApi({"GET /vm": failure}))
    assert ran.status == 7
    assert ran.err.startswith("pvc: the API at https://hv1 cannot be reached: ")
    assert ran.err.count("\n") == 1


def test_a_web_page_and_a_torn_answer_are_not_taken_for_the_api(run: Cli) -> None:
    page = httpx.Response(200, text="<html></html>", headers={"content-type": "text/html"})
    torn = httpx.Response(200, text='{"vms": [', headers={"content-type": "application/json"})
    for answer in (page, torn):
        assert run("vm", "list", api=FakeApi({"GET /vm": answer})).status == 7


def test_a_wrong_command_line_is_one_line_that_says_where_help_is(run: Cli) -> None:
    ran = run("vm", "start")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "pvc: Missing argument 'VM'; see `pvc vm start --help`\n"
    ran = run("vm", "define", "f.xml", "--priority", "high")
    assert ran.err == "pvc: Invalid value for '--priority': 'high' is not a valid integer; see `pvc vm define --help`\n"


def test_a_problem_with_line_breaks_stays_one_line(run: Cli) -> None:
    ran = run("vm", "info", "web1", api=FakeApi({"GET /vm/web1": problem(500, "internal", "one\n  two\nthree")}))
    assert ran.err == "pvc: one two three\n"


def test_output_that_is_piped_is_not_coloured(run: Cli) -> None:
    ran = run("vm", "list", api=FakeApi({"GET /vm": {"vms": [a_vm(state="failed")], "total": 1}}))
    assert "\x1b" not in ran.out + ran.err


def test_statuses_and_codes_of_our_own_errors() -> None:
    waited = WaitedTooLong("web1 to run", 5, "pvc vm info web1")
    assert exit_code_of(waited) == meaning_of(DeadlineExceeded("", 0)).exit_code == 9
    assert as_document(waited)["code"] == "deadline_exceeded"
    assert exit_code_of(ApiUnreachable("https://hv1", "gone")) == 7
    assert exit_code_of(NoConnection("/etc/pvc/pvc.toml")) == 7
    ended = EndedOtherwise("web1", "running", "failed on hv1", "no memory")
    assert exit_code_of(ended) == 1
    assert as_document(ended)["detail"] == "web1 should be running but is failed on hv1: no memory"
