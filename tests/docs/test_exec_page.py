# SPDX-License-Identifier: Apache-2.0
"""The page on executables as selectors: its script is run, its configuration is loaded, its schema is the real one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from pages import ROOT, files, plain, table

from pvc_core.configuration import load_configuration
from pvc_core.documented_fields import described_fields
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot
from pvc_selectors.exec_selector import Command, Question, question_of

PAGE = ROOT / "docs/plugins/exec-selector.md"


INSTALLED, TEMPERATURES = "/usr/local/bin/pvc-rank-coolest", "/var/lib/monitoring/inlet"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The page's script, installed beside a file of temperatures."""
    source, script = tmp_path / "source", tmp_path / "pvc-rank-coolest"
    source.write_text(files(PAGE)["pvc-rank-coolest"])
    subprocess.run(["install", "-m", "755", source, script], check=True)
    (tmp_path / "inlet").write_text("hv1 24.5\nhv2 21\nhv4 2.5\n")
    return script


@pytest.fixture
def registry(tmp_path: Path, script: Path) -> Registry:
    """PVC's plugins, with the page's script configured as the page says."""
    configured = files(PAGE)["pvc.toml"].replace(INSTALLED, str(script))
    configured = configured.replace(TEMPERATURES, str(tmp_path / "inlet")).replace("= 0.5", "= 10")
    (tmp_path / "pvc.toml").write_text('[cluster]\nstore = "sqlite:///x"\n' + configured)
    sections = load_configuration(str(tmp_path / "pvc.toml")).plugin
    return Registry.load(sections=sections, disabled_env="")


def test_the_script_answers_the_pages_question_as_the_page_shows(script: Path, tmp_path: Path) -> None:
    question = files(PAGE)["question.json"]
    ran = subprocess.run([script, tmp_path / "inlet"], input=question, capture_output=True, text=True, check=True)
    assert ran.stdout in PAGE.read_text().splitlines()


def test_the_coolest_host_is_chosen(registry: Registry) -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3", memory_mib=8192)])
    decision = Placer(registry).place(a_request(node_selector="coolest"), snapshot)
    assert (decision.node, decision.selector, decision.degraded) == ("hv2", "coolest", "")
    assert [ranked.raw for ranked in decision.ranking] == [-21.0, -24.5, -40.0]


def test_it_stands_in_an_expression_too(registry: Registry) -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3", memory_mib=8192)])
    decision = Placer(registry).place(a_request(node_selector="coolest:1,mem:9"), snapshot)
    assert (decision.node, decision.degraded) == ("hv3", "")
    assert set(decision.ranking[0].parts) == {"coolest", "mem"}


def test_the_question_on_the_page_is_the_one_that_is_put() -> None:
    shown = json.loads(files(PAGE)["question.json"])
    request = a_request("web1", node_selector="coolest", tags=("web",))
    busy = {"memory_available_mib": 3072, "assigned_mib": 1024, "running_mib": 1024, "load_1m": 0.5}
    nodes = [a_capacity("hv1", labels={"rack": "a"}), a_capacity("hv2", assigned_vcpus=2, assigned_vms=1, **busy)]
    put = msgspec.to_builtins(question_of("coolest", request, nodes), builtin_types=())
    put["vm"]["uuid"] = shown["vm"]["uuid"]
    assert shown == json.loads(msgspec.json.encode(put))
    assert list(shown) == list(Question.__struct_fields__)


def test_the_options_on_the_page_are_those_of_an_executable() -> None:
    described = [
        (field.name, field.values, field.default or "(required)", field.meaning) for field in described_fields(Command)
    ]
    assert [tuple(plain(cell) for cell in row) for row in table(PAGE, "options")] == described
