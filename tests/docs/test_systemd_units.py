# SPDX-License-Identifier: Apache-2.0
"""The units of systemd are those that the page shows, systemd accepts them, and what they start exists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
from pages import ROOT, blocks

from pvc_core.configuration import NodeSection

FOLDER = ROOT / "examples/systemd"
UNITS = sorted(FOLDER.glob("*.service"))
INSTALLED = "/opt/pvc/bin"


def parsed(unit: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser


def test_the_page_shows_the_units_as_they_are() -> None:
    shown = [block.text.strip() for block in blocks(ROOT / "docs/operating.md") if block.language == "ini"]
    assert sorted(shown) == sorted(unit.read_text().strip() for unit in UNITS)
    assert len(shown) == 2


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is not installed: the package systemd")
        pytest.skip("systemd-analyze is not installed")
    here = tmp_path / unit.name
    here.write_text(unit.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system:/usr/lib/systemd/system"}
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(here)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_a_unit_starts_exists_and_takes_its_options(unit: Path) -> None:
    program, *options = parsed(unit)["Service"]["ExecStart"].split()
    assert program.startswith(f"{INSTALLED}/")
    own = Path(sys.executable).parent / Path(program).name
    subprocess.run([own, *options, "--help"], check=True, capture_output=True)
    assert parsed(unit)["Install"]["WantedBy"] == "multi-user.target", "it is there again after a boot"
    assert parsed(unit)["Unit"]["StartLimitIntervalSec"] == "0", "systemd does not give up"


def test_the_daemon_is_stopped_before_the_guests_and_has_the_time_it_needs() -> None:
    unit = parsed(FOLDER / "pvc-node.service")
    assert {"network.target", "virt-guest-shutdown.target", "libvirtd.service"} <= set(unit["Unit"]["After"].split())
    assert int(unit["Service"]["TimeoutStopSec"]) > NodeSection().on_shutdown_deadline_s
