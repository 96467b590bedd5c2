# SPDX-License-Identifier: Apache-2.0
"""Real parts for the lab's own tests: one lab for all that leave it as they found it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab_guests import Guests, Timed

from pvc_lab import packages
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab import Lab


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") is None:
        return
    reason = packages.why_no_lab()
    if not reason:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"the lab cannot run here: {reason}", pytrace=False)
    pytest.skip(f"the lab cannot run here: {reason}")


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Timed:
    """Measures a block and prints it: what it costs is information here, never a verdict."""

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n    {what}: {seconds:.2f} s", end="")

    return measure


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), nodes=2) as lab:
        yield lab


@pytest.fixture(scope="session")
def libvirt() -> Any:
    """The binding, without its habit of printing each error that it also raises."""
    module = pytest.importorskip("libvirt")
    module.registerErrorHandler(lambda _context, _error: None, None)
    return module


@pytest.fixture
def guests(libvirt: Any, lab: Lab) -> Iterator[Guests]:
    guests = Guests(libvirt, lab)
    yield guests
    guests.destroy_all()


@pytest.fixture
def hv1(lab: Lab) -> HypervisorHost:
    return lab.nodes["hv1"]


@pytest.fixture
def hv2(lab: Lab) -> HypervisorHost:
    return lab.nodes["hv2"]


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "program.log"
