# SPDX-License-Identifier: Apache-2.0
"""What the metadata options send: what was given and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_runner import Cli, FakeApi, a_vm, an_outcome

from pvc_cli.metadata_options import METADATA_FIELDS
from pvc_core.model import VmMetadata

XML = "<domain><name>web1</name></domain>"


@pytest.mark.parametrize(
    ("words", "patch"),
    [
        (["-l", "hv2, hv3"], {"node_limit": ["hv2", "hv3"]}),
        (["--node-limit", "hv2", "--node-limit", " hv3 ,hv2"], {"node_limit": ["hv2", "hv3"]}),
        (["-l", ""], {"node_limit": []}),
        (["-s", "load"], {"node_selector": "load"}),
        (["--node-selector", ""], {"node_selector": ""}),
        (["-a"], {"node_autostart": True}),
        (["-A"], {"node_autostart": False}),
        (["--no-node-autostart"], {"node_autostart": False}),
        (["--migration-method", "shutdown"], {"migration_method": "shutdown"}),
        (["--max-downtime-ms", "100"], {"max_downtime_ms": 100}),
        (["--recovery-policy", "stay"], {"recovery_policy": "stay"}),
        (["--priority", "-5"], {"priority": -5}),
        (["--shutdown-timeout-s", "0"], {"shutdown_timeout_s": 0}),
        (["--shutdown-timeout-s", "default"], {"shutdown_timeout_s": None}),
        (["--on-poweroff", "stop"], {"on_poweroff": "stop"}),
        (["--start-failures", "5"], {"start_failures": 5}),
        (["--start-failures", "default"], {"start_failures": None}),
        (["--relocations", "2"], {"relocations": 2}),
        (["--held-until", "any"], {"held_until": "any"}),
        (["--tag", "a", "--tag", "b c"], {"tags": ["a", "b", "c"]}),
        (["--tag", ""], {"tags": []}),
        (["--profile", "small"], {"profile": "small"}),
    ],
)
def test_meta_and_define_send_the_fields_that_were_given(
    run: Cli, tmp_path: Path, words: list[str], patch: dict[str, Any]
) -> None:
    api = FakeApi({"POST /vm/web1": an_outcome(a_vm()), "POST /vm": an_outcome(a_vm())})
    assert run("vm", "meta", "web1", *words, api=api).status == 0
    (tmp_path / "web1.xml").write_text(XML)
    assert run("vm", "define", str(tmp_path / "web1.xml"), *words, api=api).status == 0
    assert api.bodies() == [patch, {"definition": XML, "metadata": patch, "target": "", "start": False}]


def test_meta_without_options_shows_and_changes_nothing(run: Cli) -> None:
    api = FakeApi({"GET /vm/web1": a_vm(node_limit=["hv1", "hv2"], priority=7, node_autostart=True)})
    shown = dict(line.split(maxsplit=1) for line in run("vm", "meta", "web1", api=api).out.splitlines())
    assert shown["node_limit"] == "hv1,hv2"
    assert shown["priority"] == "7"
    assert shown["node_autostart"] == "yes"
    assert shown["node_selector"] == "the cluster's"
    assert api.bodies() == []
    assert set(run("vm", "meta", "web1", "-o", "json", api=api).document) == set(METADATA_FIELDS)


def test_the_fields_of_the_metadata_are_those_of_the_record() -> None:
    assert VmMetadata.__struct_fields__ == METADATA_FIELDS


def test_define_reads_stdin_and_sends_the_target(run: Cli) -> None:
    api = FakeApi({"POST /vm": an_outcome(a_vm())})
    ran = run("vm", "define", "-", "--target", "hv2", "--start", api=api, stdin=XML)
    assert ran.out == "web1 is running on hv1: as requested\n"
    assert api.bodies() == [{"definition": XML, "metadata": {}, "target": "hv2", "start": True}]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--priority", "x"], "--priority"),
        (["--migration-method", "fly"], "--migration-method"),
        (["--shutdown-timeout-s", "soon"], "--shutdown-timeout-s"),
    ],
)
def test_what_cannot_be_a_value_is_refused_before_anything_is_sent(run: Cli, words: list[str], named: str) -> None:
    api = FakeApi({})
    ran = run("vm", "meta", "web1", *words, api=api)
    assert ran.status == 2
    assert named in ran.err
    assert api.asked == []


def test_what_is_accepted_and_may_not_work_as_meant_is_said_beside_the_answer(run: Cli) -> None:
    warning = "hv2 lacks the selector acme; while it leads, the default selector would rank instead"
    settings = {"settings": {"default_selector": "acme"}, "version": 1, "changed": True, "reason": "settings changed"}
    api = FakeApi(
        {
            "POST /vm/web1": an_outcome(a_vm(), warnings=[warning]),
            "GET /cluster/settings": settings,
            "POST /cluster/settings": {**settings, "warnings": [warning]},
        }
    )
    for words in (["vm", "meta", "web1", "-s", "acme"], ["cluster", "settings", "default_selector=acme"]):
        ran = run(*words, api=api)
        assert (ran.status, ran.err) == (0, f"warning: {warning}\n")
