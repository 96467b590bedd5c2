# SPDX-License-Identifier: Apache-2.0
"""A lab comes up whole, stands beside others, and leaves nothing behind, whatever happened to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab_guests import Timed

from pvc_lab.lab import Lab, LabError
from pvc_lab.leftovers import leftovers, remove
from pvc_lab.network import NetworkError
from pvc_lab.plan import PlanError
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper_ensemble import ZooKeeperEnsemble

pytestmark = pytest.mark.lab

BRING_UP = "import sys, pathlib, signal; from pvc_lab.lab import Lab; Lab(pathlib.Path(sys.argv[1]), nodes=2).up()"


def start_elsewhere(root: Path, then: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"{BRING_UP}; {then}", str(root)])


def test_a_lab_of_three_nodes_leaves_nothing_behind(tmp_path: Path, timed: Timed) -> None:
    lab = Lab(tmp_path)
    with timed("lab of three nodes up"):
        lab.up()
    assert list(lab.nodes) == ["hv1", "hv2", "hv3"]
    assert leftovers(lab.plan.prefix)
    with timed("lab of three nodes down"):
        lab.down()
    assert leftovers(lab.plan.prefix) == []
    lab.down()  # once more: nothing to do


def test_store_members_on_machines_of_their_own_survive_the_cut_cable_of_their_leader(
    tmp_path: Path, timed: Timed
) -> None:
    with Lab(tmp_path, nodes=1, store_members=3) as lab:
        store = lab.zookeeper
        assert isinstance(store, ZooKeeperEnsemble)
        leader = store.leader()
        machine = next(host for host in lab.store_machines.values() if host.address == leader.host)
        survivors = [server for server in store.servers if server is not leader]

        machine.cut_cable()
        with timed("another leader after a cut cable"):
            wait_for(lambda: "leader" in [server.mode() for server in survivors], "another member leads")

        machine.heal_cable()
        wait_for(lambda: leader.mode() == "follower", "the old leader follows")
    assert leftovers(lab.plan.prefix) == []


def test_two_labs_do_not_meet(lab: Lab, tmp_path: Path) -> None:
    with Lab(tmp_path, nodes=1) as other:
        assert other.plan.prefix != lab.plan.prefix
        assert other.nodes["hv1"].address != lab.nodes["hv1"].address
        assert other.nodes["hv1"].host_uuid != lab.nodes["hv1"].host_uuid
    assert leftovers(other.plan.prefix) == []
    assert lab.nodes["hv1"].run(["hostname"]).output == "hv1\n"


def test_programs_run_on_nodes_and_beside_the_store_with_their_logs_kept(tmp_path: Path) -> None:
    with Lab(tmp_path, nodes=1) as lab:
        daemon = lab.spawn_on("hv1", ["sh", "-c", "hostname; echo $ROLE"], {"ROLE": "agent"}, name="pvc-node")
        service = lab.spawn_service(["hostname"])
        assert (daemon.wait(10), service.wait(10)) == (0, 0)
    assert lab.log_path("hv1-pvc-node").read_text() == "hv1\nagent\n"
    assert lab.log_path("services-hostname").read_text() == "services\n"


def test_another_program_finds_the_lab_and_takes_it_down(tmp_path: Path) -> None:
    assert start_elsewhere(tmp_path, "pass").wait(60) == 0
    lab = Lab(tmp_path)
    assert lab.is_up
    assert lab.nodes["hv1"].run(["hostname"]).output == "hv1\n"
    lab.nodes["hv2"].power_off()
    lab.nodes["hv2"].power_on()
    with pytest.raises(LabError, match="take it down first"):
        lab.up()
    lab.down()
    assert leftovers(lab.plan.prefix) == []


def test_a_lab_that_was_built_meanwhile_by_another_program_is_the_one_taken_down(tmp_path: Path) -> None:
    early = Lab(tmp_path)
    assert start_elsewhere(tmp_path, "pass").wait(60) == 0
    late = Lab(tmp_path)
    early.down()
    assert not late.is_up
    assert leftovers(late.plan.prefix) == []


def test_what_a_killed_program_left_is_taken_down(tmp_path: Path) -> None:
    killed = start_elsewhere(tmp_path, "signal.raise_signal(signal.SIGKILL)")
    assert killed.wait(60) == -signal.SIGKILL
    lab = Lab(tmp_path)
    assert leftovers(lab.plan.prefix)
    lab.down()
    assert leftovers(lab.plan.prefix) == []


@pytest.mark.parametrize("sign_of_progress", ["lab.json", "hosts/services", "hosts/hv2/libvirtd.log"])
def test_a_lab_whose_program_is_killed_half_way_up_is_taken_down(tmp_path: Path, sign_of_progress: str) -> None:
    killed = start_elsewhere(tmp_path, "pass")
    wait_for((tmp_path / sign_of_progress).exists, f"{sign_of_progress} is there", interval_s=0.001)
    killed.kill()
    killed.wait()
    lab = Lab(tmp_path)
    lab.down()
    assert leftovers(lab.plan.prefix) == []


def test_a_lab_that_cannot_come_up_removes_what_it_had_begun(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nodes=2)
    (tmp_path / "hosts/hv2/etc-libvirt").mkdir(parents=True)
    (tmp_path / "hosts/hv2/etc-libvirt/libvirtd.conf").mkdir()  # where a file must be written
    with pytest.raises(IsADirectoryError):
        lab.up()
    assert not lab.is_up
    assert leftovers(lab.plan.prefix) == []


def test_a_lab_whose_folder_is_lost_is_removed_by_its_prefix(tmp_path: Path) -> None:
    lab = Lab(tmp_path, nodes=1)
    lab.up()
    (tmp_path / "lab.json").unlink()
    lab.down()  # knows of nothing
    assert leftovers(lab.plan.prefix)
    remove(lab.plan.prefix)
    for host in (lab.services, *lab.nodes.values()):
        host.power_off()  # nothing is left to end, but this program's children are reaped
    assert leftovers(lab.plan.prefix) == []


def test_a_root_that_hosts_would_not_see_is_refused() -> None:
    with pytest.raises(LabError, match="/run"):
        Lab(Path("/run/pvc/lab"))


@pytest.mark.parametrize(("nodes", "store_members"), [(0, 1), (201, 1), (3, 2)])
def test_impossible_shapes_are_refused(tmp_path: Path, nodes: int, store_members: int) -> None:
    with pytest.raises(PlanError):
        Lab(tmp_path, nodes, store_members=store_members)


def test_a_lab_that_is_not_up_has_no_addresses(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="before it is up"):
        _ = Lab(tmp_path).nodes["hv1"].libvirt_uri
