# SPDX-License-Identifier: Apache-2.0
"""How a host's storage backends are: asked all the time, and whatever one does, nobody who wants to know waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from installed_module import install_module
from operators import DEADLINE_S, Operator, an_operator, running
from pvc_core.errors import NotFound, PluginError
from pvc_core.model import Settings
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.storage import StorageBackend, StorageBackendEntry, StorageHealth, StorageSite
from pvc_core.storage_reports import BackendReport
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage
from pvc_daemon.host_storage import LOOK_DEADLINE_S, HostStorage
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for

INTERVAL_S = 0.2


class Moody(MemoryBackend):
    """Says of itself what a test tells it to."""

    def __init__(self, says: Callable[[], StorageHealth]) -> None:
        super().__init__(MemoryStorage({"vms": 1}), StorageSite("hv1"))
        self._says = says

    def health(self) -> StorageHealth:
        return self._says()


class Host:
    """hv1 with these backends; changes are counted."""

    def __init__(self, **openers: Callable[[StorageSite], StorageBackend]) -> None:
        self.clock = ManualClock()
        self.changes = 0
        self.storage = HostStorage(
            "hv1",
            {name: StorageBackendEntry(name, name, opener, "acme") for name, opener in openers.items()},
            options=lambda plugin: NO_OPTIONS,
            settings=lambda: Settings(report_interval_s=INTERVAL_S),
            clock=self.clock,
            threads=SYSTEM_THREADS,
            on_change=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def wait(self, holds: Callable[[dict[str, BackendReport]], bool]) -> dict[str, BackendReport]:
        wait_for(lambda: holds(self.storage.reports()), "the reports to say so", deadline_s=DEADLINE_S)
        return self.storage.reports()


def away(site: StorageSite) -> StorageBackend:
    return Moody(lambda: StorageHealth(False, "away"))


def raising(site: StorageSite) -> StorageBackend:
    raise RuntimeError("no such device")


def test_each_backend_says_how_it_is_and_what_it_can_do() -> None:
    host = Host(memory=MemoryStorage({"vms": 1}).open, sick=away)
    host.storage.start()
    reports = host.wait(lambda reports: len(reports) == 2)
    host.storage.close()
    assert reports["memory"].usable
    assert reports["memory"].shared
    assert "snapshots" in reports["memory"].capabilities
    assert (reports["sick"].usable, reports["sick"].detail) == (False, "away")


def test_one_that_cannot_be_opened_raises_or_answers_nonsense_is_not_usable_and_says_why() -> None:
    def bad() -> StorageHealth:
        raise SystemExit("bye")

    host = Host(raising=raising, exits=lambda site: Moody(bad), talks=lambda site: Moody(lambda: "fine"))  # type: ignore[arg-type, return-value]
    host.storage.start()
    reports = host.wait(lambda reports: len(reports) == 3)
    host.storage.close()
    assert reports["raising"] == BackendReport(usable=False, detail="RuntimeError: no such device")
    assert reports["exits"].detail == "SystemExit: bye"
    assert "returned a str" in reports["talks"].detail
    with pytest.raises(PluginError, match="no such device"):
        host.storage.backend("raising")


def test_one_that_hangs_delays_no_answer_and_is_not_usable_until_it_comes_back() -> None:
    released = threading.Event()
    asked = threading.Event()

    def slow() -> StorageHealth:
        asked.set()
        released.wait(DEADLINE_S)
        return StorageHealth(True)

    def opened(site: StorageSite) -> StorageBackend:
        return Moody(slow)

    host = Host(slow=opened, memory=MemoryStorage({"vms": 1}).open)
    host.storage.start()
    assert asked.wait(DEADLINE_S)
    assert host.wait(lambda reports: "memory" in reports).keys() == {"memory"}
    host.clock.advance(LOOK_DEADLINE_S)
    report = host.storage.reports()["slow"]
    assert (report.usable, report.detail) == (False, "has not answered for 10 s")
    released.set()
    host.wait(lambda reports: reports["slow"].usable)
    host.storage.close()


def test_a_change_between_usable_and_not_is_told_at_once_and_only_that() -> None:
    said: list[StorageHealth] = [StorageHealth(True, "one")]

    def opened(site: StorageSite) -> StorageBackend:
        return Moody(lambda: said[-1])

    host = Host(moody=opened)
    host.storage.start()
    host.wait(bool)
    said.append(StorageHealth(True, "two"))
    host.wait(lambda reports: reports["moody"].detail == "two")
    assert host.changes == 1
    said.append(StorageHealth(False, "three"))
    wait_for(lambda: host.changes == 2, "the change to be told", deadline_s=DEADLINE_S)
    host.storage.close()


def test_a_backend_is_opened_once_for_its_host_and_an_unknown_one_names_those_there_are() -> None:
    opened: list[str] = []

    def opening(site: StorageSite) -> StorageBackend:
        opened.append(site.node)
        return MemoryStorage({"vms": 1}).open(site)

    host = Host(memory=opening)
    assert host.storage.backend("memory") is host.storage.backend("memory")
    assert opened == ["hv1"]
    with pytest.raises(NotFound) as refused:
        host.storage.backend("ceph")
    assert list(refused.value.known) == ["memory"]


# ------------------------------------------------------------------------------------------- on daemons

PLUGIN = """
    import threading

    from pvc_core import StorageBackendEntry, StorageHealth, hookimpl

    class Hanging:
        capabilities = frozenset()

        def health(self):
            threading.Event().wait()

    class Sick:
        capabilities = frozenset()

        def health(self):
            return StorageHealth(False, "the cluster is away")

    @hookimpl
    def pvc_storage_backends():
        return [
            StorageBackendEntry("hanging", "never answers", lambda site: Hanging()),
            StorageBackendEntry("sick", "is away", lambda site: Sick()),
        ]
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """Daemons with that plugin."""
    install_module(tmp_path / "site", "acme-storage", PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with running(EmbeddedCluster(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield operator


def test_nodes_report_their_storage_and_go_on_reporting_while_a_backend_hangs(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"report_interval_s": INTERVAL_S})

    def storage_of(node: str) -> dict[str, BackendReport]:
        report = operator.view.snapshot().node(node).report
        return report.value.storage if report else {}

    operator.wait(lambda _: all("sick" in storage_of(node) for node in cluster.nodes), "the sick backend")
    assert storage_of("hv1")["sick"] == BackendReport(usable=False, detail="the cluster is away")
    operator.wait(lambda _: "hanging" in storage_of("hv1"), "the hanging backend to be overdue")
    assert storage_of("hv1")["hanging"].detail.startswith("has not answered for ")
    for node in cluster.nodes:
        cluster.stop(node)
