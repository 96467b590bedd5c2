# SPDX-License-Identifier: Apache-2.0
"""The page on lost nodes: its commands for a BMC, typed on a cluster that has one, print what it shows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import ROOT, blocks
from typed_pages import Line, assert_shows, lines_of

from pvc_cli.main import cli
from pvc_core.plugin_loading import installed_plugins
from pvc_core.registry import Registry
from pvc_lab.bmc import Bmc
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for
from pvc_plugins.fencing.plugin import Options

PAGE = ROOT / "docs/recovery.md"
LINES = [line for line in lines_of(PAGE) if line.command.startswith("pvc node fence-")]
PASSWORD = "Swordfish-4711"
SHOWN_ADDRESS = "10.0.0.11"


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[Bmc]:
    with Bmc(tmp_path / "bmc", port=None, user="fencing", password=PASSWORD) as bmc:
        yield bmc


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    cluster = EmbeddedCluster(tmp_path)
    try:
        cluster.start_daemon("hv1")
        yield cluster
    finally:
        cluster.down()


def typed(line: Line, bmc: Bmc, cluster: EmbeddedCluster) -> tuple[int, str]:
    """The page's BMC is somewhere, this one on this machine; a pipe stands for the prompt."""
    there = line.command.replace(SHOWN_ADDRESS, f"{bmc.address} -p ipport={bmc.port}")
    words = there.replace("--secret password", "-p password=@-").split()[1:]
    environment = {"PVC_CONFIG": str(cluster.configuration_path("hv1"))}
    ran = CliRunner().invoke(cli, words, input=f"{PASSWORD}\n", env=environment, prog_name="pvc")
    return ran.exit_code, ran.stdout.replace(bmc.address, SHOWN_ADDRESS)


@pytest.mark.lab
def test_the_commands_for_a_bmc_print_what_the_page_shows(bmc: Bmc, cluster: EmbeddedCluster) -> None:
    alive = Line("pvc node list -o names", ())
    wait_for(lambda: typed(alive, bmc, cluster)[1] == "hv1\n", "hv1 has joined")
    assert [" ".join(line.command.split()[1:4]) for line in LINES] == [
        "node fence-device add",
        "node fence-test hv1",
        "node fence-device list",
    ]
    for line in LINES:
        status, output = typed(line, bmc, cluster)
        assert status == 0, output
        assert_shows(line, output)
        assert PASSWORD not in output


def test_the_table_of_the_plugin_is_accepted() -> None:
    tables = [tomllib.loads(block.text) for block in blocks(PAGE) if block.language == "toml"]
    options = next(table["plugin"]["fence-agents"] for table in tables if "plugin" in table)
    entry = Registry(installed_plugins([]), sections={"fence-agents": options}).fence_agents["fence-agents"]
    assert entry.deadline_s > options["off_deadline_s"] + options["status_deadline_s"]


def test_the_limits_that_the_page_names_are_those_of_the_plugin() -> None:
    options = Options()
    limits = f"{options.off_deadline_s:g} seconds for `off` and {options.status_deadline_s:g} for `status`"
    assert limits in " ".join(PAGE.read_text().split())
