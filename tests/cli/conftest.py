# SPDX-License-Identifier: Apache-2.0
"""`run` is the command for one test, `home` its empty home directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def run(home: Path) -> Cli:
    return Cli(home)
