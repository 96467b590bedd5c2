# SPDX-License-Identifier: Apache-2.0
"""Which cluster `pvc` speaks to, and that a token stays where it belongs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cli_runner import Cli

from pvc_cli.connections import (
    Connection,
    Connections,
    checked_url,
    choose_connection,
    connections_path,
    load_connections,
    save_connections,
)
from pvc_core.errors import InvalidInput, NotFound


def added(home: Path) -> Connections:
    return load_connections(connections_path({"HOME": str(home)}))


def test_the_first_connection_is_used_at_once_and_its_file_is_private(run: Cli, home: Path) -> None:
    ran = run("connection", "add", "prod", "hv1.example.org:7370", PVC_API_TOKEN="pvc_a_b")
    assert (ran.status, ran.err) == (0, "")
    path = connections_path({"HOME": str(home)})
    assert path == home / ".config/pvc/connections.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert added(home).get("prod") == Connection("prod", "https://hv1.example.org:7370", "pvc_a_b")
    assert added(home).current == "prod"


def test_the_token_comes_from_a_file_or_stdin_without_its_newline(run: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("pvc_from_file\n")
    run("connection", "add", "a", "https://a", "--token-file", str(tmp_path / "token"))
    run("connection", "add", "b", "https://b", "--token-file", "-", stdin="pvc_from_stdin\n")
    assert added(home).get("a").token == "pvc_from_file"
    assert added(home).get("b").token == "pvc_from_stdin"


def test_a_list_shows_whether_there_is_a_token_and_never_the_token(run: Cli) -> None:
    run("connection", "add", "prod", "https://hv1:7370", PVC_API_TOKEN="pvc_secret")
    for form in ("table", "json", "yaml", "names"):
        ran = run("connection", "list", "-o", form)
        assert "prod" in ran.out
        assert "pvc_secret" not in ran.out
    assert json.loads(run("connection", "list", "-o", "json").out)["connections"][0]["has_token"] is True


def test_use_and_remove(run: Cli, home: Path) -> None:
    run("connection", "add", "a", "https://a")
    run("connection", "add", "b", "https://b")
    assert run("connection", "use", "b").status == 0
    assert added(home).current == "b"
    assert run("connection", "remove", "b").status == 0
    assert (added(home).current, list(added(home).by_name)) == ("", ["a"])
    ran = run("connection", "use", "b")
    assert ran.status == 4
    assert ran.err == "pvc: no connection is called 'b' (known: a)\n"


def test_a_name_is_taken_once_and_local_is_never_a_name(run: Cli) -> None:
    run("connection", "add", "a", "https://a")
    assert run("connection", "add", "a", "https://other").status == 5
    assert run("connection", "add", "local", "https://other").status == 2


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("hv1:7370", "https://hv1:7370"),
        ("https://hv1:7370/", "https://hv1:7370"),
        ("https://hv1:7370/api/v1/", "https://hv1:7370"),
        ("https://proxy/pvc", "https://proxy/pvc"),
        ("http://127.0.0.1:7370", "http://127.0.0.1:7370"),
        ("http://localhost:7370", "http://localhost:7370"),
        ("http://[::1]:7370", "http://[::1]:7370"),
    ],
)
def test_urls_that_are_accepted(given: str, url: str) -> None:
    assert checked_url(given, insecure=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hv1:7370",
        "http://127.0.0.1.evil.org",
        "ftp://hv1",
        "https://",
        "https://hv1:port",
        "https://u:p@hv1",
        "https://hv1/?token=x",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        checked_url(url, insecure=False)


def test_plain_http_to_another_machine_has_to_be_asked_for(run: Cli, home: Path) -> None:
    ran = run("connection", "add", "lab", "http://hv1:7370")
    assert ran.status == 2
    assert "in the clear" in ran.err
    assert run("connection", "add", "lab", "http://hv1:7370", "--insecure").status == 0
    assert added(home).get("lab").insecure


def test_a_ca_file_that_cannot_be_read_is_refused_and_a_readable_one_is_kept_absolute(run: Cli, tmp_path: Path) -> None:
    ran = run("connection", "add", "a", "https://a", "--ca", str(tmp_path / "missing.pem"))
    assert ran.status == 2
    assert ran.err.startswith("pvc: ca ")


def test_a_ca_file_without_certificates_is_a_sentence_and_not_a_traceback(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    run("connection", "add", "a", "https://a", "--ca", str(tmp_path / "ca.pem"))
    ran = run("vm", "list")
    assert ran.status == 2
    assert "not a usable file of certificates" in ran.err


def test_the_order_in_which_a_connection_is_chosen(home: Path) -> None:
    environment = {"HOME": str(home), "PVC_API_TOKEN": "from-environment"}
    assert choose_connection("", {"HOME": str(home)}) is None
    save_connections(
        connections_path(environment),
        Connections({"a": Connection("a", "https://a", "t-a"), "b": Connection("b", "https://b", "t-b")}, "a"),
    )
    assert choose_connection("", {"HOME": str(home)}) == Connection("a", "https://a", "t-a")
    assert choose_connection("", environment) == Connection("a", "https://a", "from-environment")
    assert choose_connection("b", environment) == Connection("b", "https://b", "t-b")
    assert choose_connection("local", environment) is None
    by_url = choose_connection("", {**environment, "PVC_API_URL": "https://c"})
    assert by_url == Connection("environment", "https://c", "from-environment")
    with pytest.raises(NotFound):
        choose_connection("c", environment)


def test_xdg_config_home_is_honoured(tmp_path: Path) -> None:
    assert connections_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "pvc/connections.yaml"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not YAML"),
        ("[]", "must hold a mapping"),
        ("connections: []", "must hold a mapping"),
        ("connections: {a: {token: x}}", "has no url"),
        ("connections: {a: {url: https://a, tokn: x}}", "is not a field"),
        ("connections: {a: {url: https://a, token: 7}}", "must be text"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_its_problem(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_connections(path)
    assert problem in caught.value.sentence()
    assert str(path) in caught.value.sentence()


def test_without_any_way_to_a_cluster_the_error_says_what_to_do(run: Cli) -> None:
    ran = run("vm", "list")
    assert ran.status == 7
    assert "pvc connection add" in ran.err
    assert "PVC_API_URL" in ran.err
    assert ran.err.count("\n") == 1
