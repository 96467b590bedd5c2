# SPDX-License-Identifier: Apache-2.0
"""Real parts for the lab's own tests: one lab for all that leave it as they found it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pvc_lab import packages
from pvc_lab.guest import Guest, empty_guest
from pvc_lab.guest_image import ticks
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab import Lab
from pvc_lab.waiting import wait_for

Timed = Callable[[str], Any]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") is None:
        return
    reason = _missing_requirement()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"the lab cannot run here: {reason}", pytrace=False)
    pytest.skip(f"the lab cannot run here: {reason}")


def _missing_requirement() -> str | None:
    if os.geteuid() != 0:
        return "only root can make namespaces"
    try:
        absent = packages.missing()
    except packages.PackagesError as error:
        return str(error)
    return f"packages are missing: {' '.join(absent)}" if absent else None


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


class Guests:
    """Starts guests straight through libvirt, as the node daemon does, and removes them all."""

    def __init__(self, libvirt: Any, lab: Lab) -> None:
        self._libvirt = libvirt
        self._lab = lab

    def unique(self, name: str, **options: Any) -> Guest:
        return self._lab.guest(f"{name}-{uuid.uuid4().hex[:6]}", **options)

    def connect(self, node: HypervisorHost) -> Any:
        return self._libvirt.open(node.outside_libvirt_uri)

    def start(self, node: HypervisorHost, guest: Guest) -> None:
        self.connect(node).createXML(guest.xml())

    def start_empty(self, node: HypervisorHost, name: str) -> Guest:
        guest = empty_guest(f"{name}-{uuid.uuid4().hex[:6]}")
        self.start(node, guest)
        return guest

    def start_ticking(self, node: HypervisorHost, guest: Guest) -> None:
        self.start(node, guest)
        self.wait_for_ticks(guest, 1)

    def wait_for_ticks(self, guest: Guest, count: int) -> None:
        assert guest.console is not None
        console = guest.console
        wait_for(lambda: len(ticks(console)) >= count, f"{guest.name} has ticked {count} times")

    def domain(self, node: HypervisorHost, guest: Guest) -> Any:
        return self.connect(node).lookupByName(guest.name)

    def runs_on(self, node: HypervisorHost, guest: Guest) -> bool:
        return guest.name in [domain.name() for domain in self.connect(node).listAllDomains()]

    def migrate(self, guest: Guest, source: HypervisorHost, target: HypervisorHost) -> None:
        flags = self._libvirt.VIR_MIGRATE_PEER2PEER | self._libvirt.VIR_MIGRATE_LIVE
        parameters = {"migrate_uri": f"tcp://{target.address}"}
        self.domain(source, guest).migrateToURI3(target.libvirt_uri, parameters, flags)

    def destroy_all(self) -> None:
        for node in self._lab.nodes.values():
            for domain in self.connect(node).listAllDomains():
                domain.destroy()


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
