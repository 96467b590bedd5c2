# SPDX-License-Identifier: Apache-2.0
"""`pvc simulate`: a scenario and random faults, what is printed, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pvc_cli.main import cli
from pvc_cli.session import Session

CLUSTER = """
nodes: {hv1: {memory_mib: 8192, cores: 4}, hv2: {memory_mib: 8192, cores: 4}}
vms: {web1: {node: hv1, memory_mib: 512}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "script.yaml").write_text("- {at: 5, do: power hv1 off}\n- {at: 60, do: migrate web9}\n")
    return tmp_path


def ran(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(words), obj=Session(environment={}))
    return result.exit_code, result.stdout, result.stderr


def test_a_scenario_that_comes_out_as_expected_says_so(folder: Path) -> None:
    (folder / "expected.yaml").write_text("final: {vms: {web1: {node: hv2, state: running}}}\n")
    status, out, _ = ran("simulate", "run", str(folder))
    assert status == 0
    assert out.startswith(f"{folder.name}: as expected, ")


def test_what_was_to_come_otherwise_is_said_with_an_exit_status_of_its_own(folder: Path) -> None:
    (folder / "expected.yaml").write_text("final: {vms: {web1: {node: hv1}}}\nnever: [node_fenced]\n")
    status, out, _ = ran("simulate", "run", str(folder))
    assert status == 12
    assert "VM web1: node is hv2 in the end, and was to be hv1" in out
    assert "node_fenced was never to happen, and did at " in out


def test_json_has_everything_that_happened(folder: Path) -> None:
    status, out, _ = ran("simulate", "run", str(folder), "--json")
    document = json.loads(out)
    assert status == 0
    assert document["final"]["vms"]["web1"] == {"node": "hv2", "state": "running", "home": "hv1", "held": False}
    assert document["final"]["nodes"]["hv1"] == {"mode": "flushed", "liveness": "lost"}
    (recovery,) = document["recoveries"]
    assert (recovery["vm"], recovery["from"], recovery["to"], recovery["lost_at"]) == ("web1", "hv1", "hv2", 5.0)
    assert 5.0 < recovery["fenced_at"] < recovery["running_at"]
    assert document["refused"] == ["migrate web9: no VM is called 'web9'"]
    assert document["violations"] == document["unmet"] == []
    kinds = [event["kind"] for event in document["events"]]
    assert kinds.index("node_lost") < kinds.index("node_fenced") < kinds.index("vm_started")
    assert {"virtual_seconds", "wall_seconds", "migrations"} <= set(document)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "script.yaml",
            "- {at: 1, do: pwoer hv1 off}",
            "script.yaml: line 1 'pwoer hv1 off': cannot be done; is power meant?",
        ),
        ("script.yaml", "- {at: 1, do: power hv7 off}", "allowed: power NODE on|off"),
        ("script.yaml", "- {at: -1, do: end}", "script.yaml: line 1: at '-1.0': must not be negative"),
        ("script.yaml", "- {do: end}", "needs `at`, a time in seconds, or `when`"),
        ("script.yaml", "{", "is not YAML"),
        ("script.yaml", "- {at: 1, do: 'meta web1 {'}", "is not YAML"),
        ("expected.yaml", "events: [{kind: node_exploded}]", "is no kind of event"),
        ("expected.yaml", "events: [{knd: node_lost}]", "'knd' is no field of an event"),
        ("expected.yaml", "finally: {}", "unknown field"),
        ("cluster.yaml", "nodes: {hv1: {}}", "cluster.yaml: nodes.hv1"),
    ],
)
def test_a_mistake_in_a_file_is_named_before_anything_runs(folder: Path, file: str, text: str, said: str) -> None:
    (folder / file).write_text(text)
    status, _, err = ran("simulate", "run", str(folder))
    assert status == 2
    assert said in err


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert ran("simulate", "run", str(tmp_path / "none"))[0] == 2
    status, _, err = ran("simulate", "run", str(tmp_path))
    assert status == 2
    assert "has no cluster.yaml" in err


def test_chaos_says_what_it_played_and_how_it_ended() -> None:
    status, out, _ = ran("simulate", "chaos", "--seed", "3", "--seeds", "2", "--hours", "0.1", "-o", "json")
    document = json.loads(out)
    assert status == 0
    assert [played["seed"] for played in document["seeds"]] == [3, 4]
    assert document["failed"] == []
    assert all(played["virtual_seconds"] > 360 and played["faults"] for played in document["seeds"])


def test_a_number_that_makes_no_sense_is_a_mistake_of_the_command_line() -> None:
    status, _, err = ran("simulate", "chaos", "--nodes", "1")
    assert status == 2
    assert "--nodes" in err
