# SPDX-License-Identifier: Apache-2.0
"""The page on planning is one session: typed as it stands on a cluster of real processes, it prints what it shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pages import ROOT
from typed_pages import Line, assert_shows, lines_of, typed

from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.tour_cluster import program

LINES = lines_of(ROOT / "docs/planning.md")
MEMORY_MIB = {"db1": 1024, "db2": 1024, "web1": 512, "web2": 512, "web3": 512}
"""Of the VMs, as the page says in its beginning."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Line, str]]:
    """Every command with what it printed."""
    home = tmp_path_factory.mktemp("home")
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        for name, memory_mib in MEMORY_MIB.items():
            (home / f"{name}.xml").write_text(cluster.definition(name, memory_mib=memory_mib))
        reader = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PVC_")},
            **cluster.environment,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "PATH": f"{Path(program('pvc')).parent}:{os.environ['PATH']}",
        }
        return list(zip(LINES, typed(LINES, home, reader), strict=True))


def test_every_command_works_and_prints_what_the_page_shows(session: list[tuple[Line, str]]) -> None:
    for line, output in session:
        assert_shows(line, output)


def test_the_page_shows_what_planning_is_made_of() -> None:
    shown = {" ".join(line.command.split()[1:3]) for line in LINES}
    assert {"vm explain", "node flush", "vm migrate", "cluster capacity", "cluster snapshot"} <= shown
    assert {"cluster apply", "cluster plan", "cluster balance", "cluster settings"} <= shown
