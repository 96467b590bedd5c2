# SPDX-License-Identifier: Apache-2.0
"""How VMs are named on the command line, and what TAB offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli, FakeApi, a_vm, an_outcome
from click.shell_completion import ShellComplete

from pvc_cli.connections import Connection, Connections, connections_path, save_connections
from pvc_cli.main import cli

WEB1 = a_vm("web1", uuid="abcd1111-2222-4333-8444-555555555555")
WEB2 = a_vm("web2", uuid="abcd9999-2222-4333-8444-555555555555")
CAFE = a_vm("cafe", uuid="00001111-2222-4333-8444-555555555555")


def an_api() -> FakeApi:
    found = {f"GET /vm/{key}": vm for vm in (WEB1, WEB2, CAFE) for key in (vm["name"], vm["uuid"])}
    return FakeApi({**found, "GET /vm": {"vms": [WEB1, WEB2, CAFE], "total": 3}})


@pytest.mark.parametrize(
    ("reference", "name", "requests"),
    [
        ("web1", "web1", 1),
        (WEB1["uuid"], "web1", 1),
        ("abcd1", "web1", 2),
        ("ABCD9999-2222", "web2", 2),
        ("cafe", "cafe", 2),
    ],
)
def test_a_name_a_uuid_and_the_first_digits_of_one_name_a_vm(
    run: Cli, reference: str, name: str, requests: int
) -> None:
    api = an_api()
    assert run("vm", "info", reference, "-o", "names", api=api).out == f"{name}\n"
    assert len(api.asked) == requests


def test_digits_with_which_several_uuids_begin_are_refused_with_the_vms(run: Cli) -> None:
    ran = run("vm", "info", "abcd", api=an_api())
    assert ran.status == 2
    assert f"{WEB1['uuid']} (web1), {WEB2['uuid']} (web2)" in ran.err


def test_digits_that_fit_nothing_are_a_name_that_does_not_exist(run: Cli) -> None:
    assert run("vm", "info", "dead", api=an_api()).status == 4


@pytest.mark.parametrize(
    ("name", "path"),
    [("a/b", "/vm/a%2Fb"), ("../node", "/vm/..%2Fnode"), ("a b?c#d", "/vm/a%20b%3Fc%23d"), ("ä", "/vm/%C3%A4")],
)
def test_a_name_stays_one_part_of_the_path(run: Cli, name: str, path: str) -> None:
    api = FakeApi({})
    assert run("vm", "info", name, api=api).status == 4
    assert [asked.path for asked in api.asked] == [path]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_name_another_path_is_refused(run: Cli, name: str) -> None:
    api = FakeApi({})
    assert run("vm", "info", name, api=api).status == 2
    assert api.asked == []


def test_a_command_uses_the_uuid_it_found(run: Cli) -> None:
    api = an_api()
    api.answers[f"POST /vm/{WEB1['uuid']}/state"] = an_outcome(WEB1)
    assert run("vm", "stop", "abcd1", api=api).status == 0


# ----------------------------------------------------------------------------------------- completion


def offered(words: list[str], incomplete: str) -> list[str]:
    return [item.value for item in ShellComplete(cli, {}, "pvc", "_PVC_COMPLETE").get_completions(words, incomplete)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell(run: Cli, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.status == 0
    assert f"_PVC_COMPLETE={shell}_complete" in ran.out


def test_another_shell_is_refused_with_those_that_are_known(run: Cli) -> None:
    ran = run("completion", "cmd")
    assert ran.status == 2
    assert "fish" in ran.err


def test_tab_offers_commands_options_and_choices() -> None:
    assert offered([], "no") == ["node"]
    assert offered(["node"], "f") == ["flush", "fence", "fence-device", "fence-test"]
    assert "--node-limit" in offered(["vm", "define"], "--node-l")
    assert offered(["vm", "meta", "web1", "--migration-method"], "s") == ["shutdown"]


def test_tab_offers_connections_and_stays_silent_without_a_cluster(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PVC_CONFIG", str(home / "none.toml"))
    for name in ("XDG_CONFIG_HOME", "PVC_API_URL"):
        monkeypatch.delenv(name, raising=False)
    path = connections_path({"HOME": str(home)})
    save_connections(path, Connections({"prod": Connection("prod", "http://127.0.0.1:1")}))
    assert offered(["connection", "use"], "") == ["local", "prod"]
    assert offered(["vm", "info"], "") == []
    assert offered(["-c", "prod", "node", "flush"], "") == []
    path.write_text("{")
    assert offered(["connection", "use"], "") == []
    assert capfd.readouterr() == ("", "")
