# SPDX-License-Identifier: Apache-2.0
"""A host without fence device freezes and goes on later, on real daemons: storage shuts it out meanwhile.

The daemons have storage in memory whose list of nodes that are shut out lies in a folder, for all of them.
"""

from __future__ import annotations

import contextlib
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator
from pvc_core import StorageBackendEntry, hookimpl
from pvc_core.event_log import EventLog
from pvc_core.model import FenceStep
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import StorageSite
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_plugins.stores.embedded import SqliteStore

PLUGIN = """
    from pathlib import Path
    from pvc_core import FenceVerdict, hookimpl
    from pvc_core.errors import Refused
    from pvc_core.storage import StorageSite
    from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage

    FOLDER = Path({folder!r})

    class Client(MemoryBackend):
        def fence_clients(self, request):
            if (FOLDER / "no-quorum").exists():
                raise Refused("storage", "its monitors have no quorum")
            (FOLDER / request.node).touch()
            return FenceVerdict(True, f"no client of {{request.node}} can write")

        def admit_clients(self, request):
            if (FOLDER / "no-quorum").exists():
                raise Refused("storage", "its monitors have no quorum")
            (FOLDER / request.node).unlink(missing_ok=True)

        def is_shut_out(self):
            return (FOLDER / self.node).exists() if self.node else False

    storage = MemoryStorage({{"vms": 2**30}}, client=Client, name="shared")
    storage.open(StorageSite("")).create_volume("vms", "web1", 1024)

    @hookimpl
    def pvc_storage_backends():
        return [storage.entry()]
"""


class Storage:
    """The same volumes in this process."""

    def __init__(self) -> None:
        self.storage = MemoryStorage({"vms": 2**30}, name="shared")
        self.storage.open(StorageSite("")).create_volume("vms", "web1", 1024)

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.storage.entry()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file for each node that is shut out; `no-quorum` in it makes storage refuse."""
    (tmp_path / "shut-out").mkdir()
    return tmp_path / "shut-out"


@pytest.fixture
def cluster(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """Daemons with the storage. A guest that is shut out may run on beside the one that has taken its place."""
    info = tmp_path / "site/memory_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site/memory_plugin.py").write_text(textwrap.dedent(PLUGIN.format(folder=str(folder))))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pvc]\nmemory = memory_plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    cluster = EmbeddedCluster(tmp_path)
    try:
        for node in cluster.nodes:
            cluster.start_daemon(node)
        yield cluster
    finally:
        with contextlib.suppress(KeyError):  # a test has ended it
            cluster.send("hv2", signal.SIGCONT)
        cluster.down()


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes), registry_with(shared=Storage())) as operator:
        operator.commands.change_settings(
            {"fence_grace_s": 0.1, "autoready_delay_s": 0.5, "fence_retry_s": 0.5, "report_interval_s": 0.5}
        )
        yield operator


def is_at(snapshot: ClusterSnapshot, node: str, step: FenceStep) -> bool:
    fence = snapshot.node(node).record.value.fence
    return fence is not None and fence.step is step


def told(operator: Operator) -> list[str]:
    """What happened to nodes, and the recovery."""
    kinds = [event.kind for event in EventLog(operator.store).last(1000).events]
    return [kind for kind in kinds if kind == "vm_recovering" or (kind.startswith("node_") and kind != "node_joined")]


def defined(operator: Operator, node: str, *, with_volume: bool = True) -> str:
    uuid = operator.define("web1", target=node, start=False)
    if with_volume:
        operator.commands.add_volume("web1", "shared", "vms", "web1")
    operator.commands.start("web1")
    operator.wait_state("web1")
    operator.wait(
        lambda s: all("shared" in node.report.value.storage for node in s.nodes.values() if node.report),
        "all to have looked at their storage",
    )
    return uuid


def freeze(cluster: EmbeddedCluster, operator: Operator, node: str) -> None:
    """The host stands still until its session has ended."""
    cluster.send(node, signal.SIGSTOP)
    assert isinstance(operator.store, SqliteStore)
    operator.store.expire_session(operator.view.snapshot().node(node).record.value.session)


def test_a_frozen_host_without_a_device_is_shut_out_and_takes_vms_again_when_it_has_ended_its_guest(
    cluster: EmbeddedCluster, operator: Operator, folder: Path
) -> None:
    uuid = defined(operator, "hv2")
    freeze(cluster, operator, "hv2")
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.RECOVERED), "storage to be the proof and the VM to be recovered")
    operator.wait_state("web1")
    assert operator.vm("web1").node != "hv2"
    fence = operator.view.snapshot().node("hv2").record.value.fence
    assert fence is not None
    assert fence.evidence.startswith("storage has shut it out: its VMs have all their disks in shared")
    assert told(operator) == [
        "node_lost",
        "node_shutting_out",
        "node_shut_out",
        "node_fenced",
        "vm_recovering",
        "node_recovered",
    ]
    assert (folder / "hv2").exists()

    (folder / "no-quorum").touch()
    cluster.send("hv2", signal.SIGCONT)
    operator.wait(lambda s: "no quorum" in s.node("hv2").record.value.reason, "the admission to be refused")
    report = operator.view.snapshot().node("hv2").report
    assert report is not None
    with cluster.world() as world:
        assert [domain.node for domain in world.domains() if domain.uuid == uuid] == [operator.vm("web1").node]
    operator.wait(lambda s: not usable_on_hv2(s), "hv2 to find that it is shut out")
    assert operator.view.snapshot().node("hv2").mode == "flushed"

    (folder / "no-quorum").unlink()
    operator.wait_mode("hv2", "ready")
    assert not (folder / "hv2").exists()
    assert "node_not_admitted" in told(operator)
    assert told(operator)[-3:] == ["node_admitted", "node_unflushing", "node_ready"]
    operator.wait(usable_on_hv2, "hv2 to find that it is let in")


def usable_on_hv2(snapshot: ClusterSnapshot) -> bool:
    report = snapshot.node("hv2").report
    return report is not None and report.value.storage["shared"].usable


def test_a_host_that_a_person_confirmed_off_is_shut_out_before_its_vms_start_elsewhere_or_storage_is_given_up(
    cluster: EmbeddedCluster, operator: Operator, folder: Path
) -> None:
    defined(operator, "hv2")
    operator.define("diskless", target="hv2")
    operator.wait_state("diskless")
    (folder / "no-quorum").touch()
    cluster.stop("hv2", signal.SIGKILL)
    with cluster.world() as world:
        world.cut_power("hv2")
    operator.wait(lambda s: "node_not_fenced" in told(operator), "the refusal to be told")
    problems = [event.reason for event in EventLog(operator.store).last(1000).events if event.kind == "node_not_fenced"]
    assert "storage that shuts it out is no proof: diskless has no volume" in problems[-1]
    operator.commands.confirm_fenced("hv2")
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.RECOVERED), "the recovery to go on without storage")
    operator.wait_state("web1", "diskless")
    kinds = told(operator)
    assert kinds.count("node_not_shut_out") == 3
    before = kinds[: kinds.index("node_not_shut_out") + 2]
    assert before.count("vm_recovering") <= 1, "what has no volume does not wait, what has one does"
    assert kinds.index("node_fenced") < kinds.index("node_not_shut_out")
    assert kinds[-2:] == ["vm_recovering", "node_recovered"]
