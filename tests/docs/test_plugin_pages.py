# SPDX-License-Identifier: Apache-2.0
"""The pages for authors show what `pvc plugin new` writes and code that runs, and promise what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, files, plain, table

from pvc_cli.plugin_drafts import KINDS, draft
from pvc_core import testing
from pvc_core.plugin_loading import ENTRY_TYPES
from pvc_core.registry import Registry

PLUGINS = ROOT / "docs/plugins"
TESTING = PLUGINS / "testing.md"


@pytest.mark.parametrize(
    ("page", "kind", "name"), [("filter.md", "filter", "needs"), ("recovery-policy.md", "recovery-policy", "keep")]
)
def test_a_page_shows_the_files_that_are_written(page: str, kind: str, name: str) -> None:
    shown = files(PLUGINS / page)
    assert len(shown) == 2
    assert shown == {path: draft(kind, name).files[path] for path in shown}


@pytest.mark.parametrize("file", files(TESTING))
def test_the_code_about_testing_runs(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(files(TESTING)[file])
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


def test_the_page_about_testing_names_every_suite() -> None:
    text = TESTING.read_text()
    suites = [path.stem for path in Path(testing.__path__[0]).glob("*_suite.py")]
    assert [suite for suite in suites if f"`{suite}." not in text and suite != "driver_suite"] == []


def test_the_index_names_every_kind_that_can_be_begun() -> None:
    text = (PLUGINS / "README.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in text and f"--kind {kind}" not in text] == []


def test_every_kind_of_driver_is_promised_or_provisional() -> None:
    rows = {plain(row[0]): row[1] for row in table(PLUGINS / "stability.md", "provisional")}
    assert set(rows) == set(ENTRY_TYPES)


def test_a_kind_without_a_driver_of_ours_is_provisional() -> None:
    registry = Registry.load()
    rows = {plain(row[0]): row[1] for row in table(PLUGINS / "stability.md", "provisional")}
    without = {kind for kind in ENTRY_TYPES if not getattr(registry, kind)}
    assert {kind for kind, provisional in rows.items() if provisional == "yes"} >= without
