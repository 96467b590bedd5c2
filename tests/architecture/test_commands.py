# SPDX-License-Identifier: Apache-2.0
"""The commands of the repository: CI, the Makefile, and the hooks before a commit run the same things."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import yaml
from house import ROOT, run

INSTALLED = "--old-file=.venv/stamps/base"
TARGETS = (
    *("help", "demo", "demo-up", "demo-down", "lab", "lab-up", "lab-down"),
    *("venv", "check", "test", "bench", "docs", "clean"),
)
MAKEFILE = (ROOT / "Makefile").read_text()


def recipe(target: str) -> list[str]:
    """The commands of a target, without make's prefixes."""
    found = re.search(rf"^{re.escape(target)}:[^\n]*\n((?:\t[^\n]*\n)*)", MAKEFILE, re.MULTILINE)
    assert found, f"no target {target}"
    return [line.strip().removeprefix("@") for line in found[1].splitlines()]


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert stat.S_IMODE(script.stat().st_mode) & 0o111
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target_and_help_lists_it(target: str) -> None:
    assert run("make", "--dry-run", target).returncode == 0
    assert f"make {target} " in run("make").stdout


def test_the_hooks_before_a_commit_run_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    checked = [re.sub(r"^\$\(VENV\)/bin/", "", command) for command in recipe("check") if "$(VENV)" in command]
    tools = [re.split(r" (?:--quiet|--no-|>)", command)[0] for command in checked]
    assert [re.sub(r"^\.venv/bin/", "", hook["entry"]) for hook in hooks] == tools


def test_tests_end_with_the_line_of_pytest() -> None:
    assert recipe("test")[-1] == "exec $(PY) -m pytest -n auto --dist loadscope"


def test_nothing_of_the_users_own_cluster_reaches_what_make_starts() -> None:
    """Nor another Python's modules: a variable that is exported in a shell is not seen by a recipe."""
    probe = "include Makefile\nprobe:\n\t@env\n"
    foreign = {"PVC_CONFIG": "/x", "PVC_DISABLED_PLUGINS": "selectors", "PVC_API_URL": "http://x", "PYTHONPATH": "/x"}
    kept = {"PVC_LAB_CACHE": "/y"}
    result = run("make", "--file=-", "probe", stdin=probe, **foreign, **kept)
    assert result.returncode == 0, result.stderr
    seen = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    assert not foreign.keys() & seen.keys()
    assert seen["PVC_LAB_CACHE"] == "/y"


@pytest.fixture
def not_root(tmp_path: Path) -> str:
    """A PATH on which `id` says that somebody else than root is asking."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.mark.parametrize("target", ["lab", "lab-up"])
def test_only_root_runs_the_lab(target: str, not_root: str) -> None:
    result = run("make", INSTALLED, target, PATH=not_root)
    assert result.returncode != 0
    assert "only root can run it" in result.stderr


def test_the_lab_has_ceph_if_it_is_asked_for() -> None:
    assert "pvc_lab up --ceph" in run("make", INSTALLED, "--dry-run", "lab-up", "CEPH=1").stdout
    assert "--ceph" not in run("make", INSTALLED, "--dry-run", "lab-up").stdout


def test_where_real_parts_cannot_be_had_the_other_tests_run_and_it_is_said() -> None:
    result = run("make", INSTALLED, "PY=false", "real-parts")
    assert result.returncode == 0
    assert "tests that need real libvirt, ZooKeeper, Ceph or the lab are skipped" in result.stderr


def test_in_ci_real_parts_that_cannot_be_had_are_a_failure() -> None:
    result = run("make", INSTALLED, "PY=false", "real-parts", CI="true")
    assert result.returncode != 0
    assert "required" in result.stderr


def test_a_machine_without_a_new_enough_python_is_told_so() -> None:
    result = run("make", "--always-make", "PYTHON=", ".venv/stamps/base")
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
