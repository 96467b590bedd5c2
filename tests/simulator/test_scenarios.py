# SPDX-License-Identifier: Apache-2.0
"""Every folder of tests/scenarios comes out as it says, and tells in prose what must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvc_simulator.deeds import DEEDS
from pvc_simulator.scenario import read_scenario

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/simulator.md"
SEEDS = (0, 1, 2)
FOLDERS = sorted(path.parent for path in (ROOT / "tests/scenarios").glob("*/cluster.yaml"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_scenario_comes_out_as_it_says(folder: Path, seed: int) -> None:
    outcome, unmet = read_scenario(folder).play(seed)
    assert [broken.what for broken in outcome.broken] == []
    assert unmet == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_scenario_says_what_must_hold_and_expects_something(folder: Path) -> None:
    prose = (folder / "README.md").read_text()
    assert prose.startswith("# ")
    assert len(prose.split()) >= 20, "a sentence or two on what must hold, and why"
    expected = read_scenario(folder).expected
    final = expected.final
    assert expected.events or expected.never or expected.within or expected.times or final.vms or final.nodes


def test_the_scenario_of_the_page_is_the_one_that_is_played() -> None:
    page = PAGE.read_text()
    folder = ROOT / "tests/scenarios/one-node-loses-its-power"
    for name in ("cluster.yaml", "script.yaml", "expected.yaml"):
        assert f"```yaml\n{(folder / name).read_text()}```" in page, name


def test_the_page_names_everything_that_can_be_done() -> None:
    shown = [line.split("` |")[0].strip("| `") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [line.replace("\\|", "|") for line in shown] == [deed.usage for deed in DEEDS]


def test_there_are_scenarios() -> None:
    assert FOLDERS
