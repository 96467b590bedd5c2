# SPDX-License-Identifier: Apache-2.0
"""Daemons take snapshots of guests that run; whatever happens meanwhile, no guest stays frozen."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import brittle_storage
from installed_module import install_module
from operators import Operator, an_operator, running
from pvc_core.errors import Refused
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.driver_suite import registry_with
from pvc_core.vm_snapshots import VmSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_plugins.hypervisors.simulated.rows import Happening

MIB = 2**20
FROZEN = ["frozen", "thawed"]
SUSPENDED = ["suspended", "resumed"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], None]) -> Path:
    require("qemu-img")
    folder = tmp_path / "brittle"
    (folder / "images").mkdir(parents=True)
    monkeypatch.setenv(brittle_storage.VARIABLE, str(folder))
    return folder


@pytest.fixture
def cluster(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """Daemons with a distribution on their path that has the storage."""
    install_module(tmp_path / "site", "brittle", Path(brittle_storage.__file__).read_text())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with running(EmbeddedCluster(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes), registry_with(brittle=brittle_storage)) as operator:
        operator.commands.change_settings({"fence_grace_s": 60})
        yield operator


def runs(operator: Operator, behaviour: str = "") -> str:
    """web1 with two volumes runs on hv1; its UUID."""
    uuid = operator.define("web1", behaviour, target="hv1", start=False)
    for name in ("data", "logs"):
        operator.commands.create_volume("web1", "brittle", "vms", name, MIB)
    operator.commands.start("web1")
    operator.wait_state("web1")
    return uuid


def ended(snapshot: ClusterSnapshot) -> bool:
    return not snapshot.vm("web1").value.snapshots.taking


def taken(operator: Operator, name: str = "monday", keep: int = 0) -> VmSnapshot:
    """A snapshot that its node has taken."""
    operator.commands.take_snapshot("web1", name, keep=keep)
    operator.wait(ended, "the snapshot to be taken")
    return operator.commands.vm_snapshot("web1", name)


def held(cluster: EmbeddedCluster, uuid: str) -> list[str]:
    """What was done to the guest, in order."""
    wanted = (Happening.FROZEN, Happening.THAWED, Happening.SUSPENDED, Happening.RESUMED)
    with cluster.world() as world:
        return [entry.kind.value for entry in world.history() if entry.uuid == uuid and entry.kind in wanted]


def goes_on(cluster: EmbeddedCluster, uuid: str) -> bool:
    with cluster.world() as world:
        (domain,) = [each for each in world.domains() if each.uuid == uuid]
    return not (domain.is_frozen or domain.is_suspended)


def in_storage(operator: Operator) -> dict[str, list[str]]:
    def names(volume: str) -> list[str]:
        found = operator.commands.storage.ask("brittle", lambda opened: opened.snapshots("vms", volume))  # type: ignore[attr-defined]
        return [each.name.rpartition(".")[0] for each in found]

    return {volume: names(volume) for volume in ("data", "logs")}


NOTHING: dict[str, list[str]] = {"data": [], "logs": []}


@pytest.mark.parametrize(
    ("behaviour", "consistency", "steps"), [("agent='yes'", "frozen", FROZEN), ("", "crash", SUSPENDED)]
)
def test_a_guest_that_runs_holds_still_for_its_snapshot_and_goes_on(
    cluster: EmbeddedCluster, operator: Operator, behaviour: str, consistency: str, steps: list[str]
) -> None:
    uuid = runs(operator, behaviour)
    with cluster.world() as world:
        life = world.console(uuid).boot_id
    found = taken(operator)
    assert (found.state, found.consistency, found.halted) == ("ready", consistency, "")
    assert [each.size_bytes for each in found.volumes] == [MIB, MIB]
    assert held(cluster, uuid) == steps
    assert in_storage(operator) == {"data": ["vm.monday"], "logs": ["vm.monday"]}
    with cluster.world() as world:
        assert world.console(uuid).boot_id == life
    with pytest.raises(Refused, match="is running; only a VM that is off"):
        operator.commands.roll_back("web1", "monday")
    operator.commands.stop("web1")
    operator.wait_state("web1", state="stopped")
    operator.commands.roll_back("web1", "monday")


def test_automatic_ones_make_room_also_of_a_guest_that_runs(cluster: EmbeddedCluster, operator: Operator) -> None:
    runs(operator)
    for number in range(3):
        taken(operator, f"auto{number}", keep=2)
    operator.wait(lambda s: s.vm("web1").value.snapshots.names == ("auto1", "auto2"), "the oldest to go")
    assert in_storage(operator)["logs"] == ["vm.auto1", "vm.auto2"]


def test_a_guest_goes_on_when_the_storage_refuses_and_nothing_is_left(
    cluster: EmbeddedCluster, operator: Operator, folder: Path
) -> None:
    uuid = runs(operator, "agent='yes'")
    (folder / "refuse-logs").touch()
    operator.commands.take_snapshot("web1", "monday")
    operator.wait(ended, "the attempt to end")
    standing = operator.vm("web1").snapshots
    assert (standing.names, standing.problem) == ((), "volume logs: is busy")
    assert (held(cluster, uuid), goes_on(cluster, uuid), in_storage(operator)) == (FROZEN, True, NOTHING)
    (folder / "refuse-logs").unlink()
    assert taken(operator).state == "ready"
    assert operator.vm("web1").snapshots.problem == ""


@pytest.mark.parametrize(("behaviour", "steps"), [("agent='yes'", FROZEN), ("", SUSPENDED)])
def test_a_daemon_that_dies_while_the_guest_holds_still_lets_it_go_on_in_its_next_life(
    cluster: EmbeddedCluster, operator: Operator, folder: Path, behaviour: str, steps: list[str]
) -> None:
    uuid = runs(operator, behaviour)
    (folder / "kill-logs").touch()
    operator.commands.take_snapshot("web1", "monday")
    operator.wait(lambda _: not (folder / "kill-logs").exists(), "the daemon to die")
    operator.wait(lambda s: not s.node("hv1").is_alive, "its death to be noticed")
    assert held(cluster, uuid) == steps[:1]
    (left,) = operator.commands.repair_volumes()
    assert left.problem == "hv1 is to take it, or to end what it has begun"
    cluster.stop("hv1", signal.SIGKILL)
    cluster.start_daemon("hv1")
    operator.wait(ended, "the next life to end it")
    assert (held(cluster, uuid), goes_on(cluster, uuid), in_storage(operator)) == (steps, True, NOTHING)
    standing = operator.vm("web1").snapshots
    assert (standing.names, standing.problem) == ((), "web1: the daemon that took it ended meanwhile")
    assert taken(operator, "tuesday").state == "ready"
    assert operator.commands.unfinished_volumes() == ()


def test_a_snapshot_that_hangs_is_not_waited_for_and_removed_later(
    cluster: EmbeddedCluster, operator: Operator, folder: Path
) -> None:
    uuid = runs(operator, "agent='yes'")
    (folder / "hang-logs").touch()
    operator.commands.take_snapshot("web1", "monday")
    operator.wait(ended, "the attempt to end")
    assert (held(cluster, uuid), goes_on(cluster, uuid)) == (FROZEN, True)
    (left,) = operator.commands.unfinished_volumes()
    assert (left.volume, left.remedy) == ("snapshot monday", "it is removed")
    (folder / "hang-logs").unlink()
    assert operator.commands.repair_volumes() == ()
    assert in_storage(operator) == NOTHING


def test_one_that_is_called_off_is_removed_by_its_node(
    cluster: EmbeddedCluster, operator: Operator, folder: Path
) -> None:
    uuid = runs(operator, "agent='yes'")
    (folder / "hang-data").touch()
    operator.commands.take_snapshot("web1", "monday")
    operator.wait(lambda _: held(cluster, uuid) == ["frozen"], "the guest to be frozen")
    outcome = operator.commands.remove_snapshot("web1", "monday")
    assert outcome.reason == "snapshot monday of web1 is called off; hv1 removes what there is of it"
    (folder / "hang-data").unlink()
    operator.wait(lambda s: s.vm("web1").value.snapshots.names == (), "it to go")
    assert (goes_on(cluster, uuid), in_storage(operator)) == (True, NOTHING)


def test_none_is_taken_of_a_guest_whose_node_is_away(cluster: EmbeddedCluster, operator: Operator) -> None:
    runs(operator)
    cluster.stop("hv1", signal.SIGKILL)
    operator.wait(lambda s: not s.node("hv1").is_alive, "its death to be noticed")
    with pytest.raises(Refused, match="web1: runs on hv1, whose daemon is lost and could not take it"):
        operator.commands.take_snapshot("web1", "monday")
    cluster.start_daemon("hv1")


def test_a_migration_waits_for_the_snapshot(cluster: EmbeddedCluster, operator: Operator, folder: Path) -> None:
    uuid = runs(operator)
    (folder / "hang-data").touch()
    operator.commands.take_snapshot("web1", "monday")
    operator.wait(lambda _: held(cluster, uuid) == ["suspended"], "the guest to hold still")
    operator.commands.migrate("web1", "hv2")
    (folder / "hang-data").unlink()
    operator.wait_state("web1", node="hv2")
    assert (held(cluster, uuid), goes_on(cluster, uuid)) == (SUSPENDED, True)
    assert operator.commands.vm_snapshot("web1", "monday").state == "ready"
    operator.commands.migrate("web1", "hv1")
    with pytest.raises(Refused, match="is migrating"):
        operator.commands.take_snapshot("web1", "tuesday")
    operator.wait_state("web1", node="hv1")
