# SPDX-License-Identifier: Apache-2.0
"""The page on the lab: its program runs on a real lab, and what it says lies where stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT, blocks

from pvc_lab.__main__ import DEFAULT_ROOT

PAGE = ROOT / "docs/lab.md"


def test_the_page_names_the_folder_of_the_lab() -> None:
    assert f"Everything is in `{DEFAULT_ROOT}`" in PAGE.read_text()


@pytest.mark.lab
@pytest.mark.libvirt
def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    assert "/var/tmp/my-lab" in program
    exec(compile(program.replace("/var/tmp/my-lab", str(tmp_path)), str(PAGE), "exec"), {})
    for folder in ("logs", "configuration", "hosts"):
        assert f"`{folder}/`" in PAGE.read_text()
        assert (tmp_path / folder).is_dir()
