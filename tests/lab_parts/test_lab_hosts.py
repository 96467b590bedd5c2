# SPDX-License-Identifier: Apache-2.0
"""A host of the lab is a machine of its own: name, addresses, processes, power and cable."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lab_guests import Guests, Timed

from pvc_lab.guest_image import ticks
from pvc_lab.host import HostError
from pvc_lab.host_process import HostProcessError
from pvc_lab.hypervisor_host import LIBVIRT_PORT, HypervisorHost
from pvc_lab.lab import Lab
from pvc_lab.network import processes_in
from pvc_lab.waiting import DeadlineExceededError, wait_for

pytestmark = pytest.mark.lab


def reaches(address: str, port: int, deadline_s: float = 1.0) -> bool:
    try:
        with socket.create_connection((address, port), timeout=deadline_s):
            return True
    except OSError:
        return False


def test_a_host_has_a_name_and_processes_of_its_own(hv1: HypervisorHost) -> None:
    assert hv1.run(["hostname"]).output == "hv1\n"
    assert hv1.run(["cat", "/proc/1/comm"]).output.startswith("python")
    assert socket.gethostname() != "hv1"


def test_hosts_know_one_another_by_name(lab: Lab, hv1: HypervisorHost) -> None:
    found = hv1.run(["getent", "hosts", "hv2", "services"]).output
    assert lab.nodes["hv2"].address in found
    assert lab.services.address in found


def test_every_hypervisor_has_a_uuid_of_its_own(guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost) -> None:
    capabilities = [guests.connect(node).getCapabilities() for node in (hv1, hv2)]
    assert str(hv1.host_uuid) in capabilities[0]
    assert str(hv2.host_uuid) in capabilities[1]


def test_every_libvirtd_and_the_store_are_reached_from_outside(lab: Lab, libvirt: Any) -> None:
    for node in lab.nodes.values():
        assert libvirt.open(node.libvirt_uri).getHostname() == node.name
        assert libvirt.open(node.outside_libvirt_uri).getHostname() == node.name
    assert lab.zookeeper.hosts == f"{lab.services.address}:2181"
    assert reaches(lab.services.address, 2181)


def test_a_program_reports_its_exit_status_and_its_output(hv1: HypervisorHost, log_path: Path) -> None:
    process = hv1.spawn(["sh", "-c", "echo $COLOUR; exit 7"], log_path, {"COLOUR": "green"})
    assert process.wait(10) == 7
    assert process.poll() == 7
    assert log_path.read_text() == "green\n"
    process.kill()  # it has ended: nothing happens


def test_a_signal_reaches_the_program_itself(hv1: HypervisorHost, log_path: Path) -> None:
    process = hv1.spawn(["sleep", "600"], log_path)
    comm = Path(f"/proc/{process.pid}/comm")
    wait_for(lambda: comm.read_text() == "sleep\n", "the program to take the place of the process that began it")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_several_threads_may_wait_for_one_program(hv1: HypervisorHost, log_path: Path) -> None:
    process = hv1.spawn(["sh", "-c", "sleep 0.2; exit 3"], log_path)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(process.wait, [10.0] * 4)) == [3] * 4


def test_a_program_that_does_not_exist_is_refused_with_the_reason(hv1: HypervisorHost, log_path: Path) -> None:
    with pytest.raises(HostProcessError, match=r"nonesuch.*No such file"):
        hv1.spawn(["nonesuch"], log_path)


def test_a_program_gets_no_descriptor_that_it_should_not_have(hv1: HypervisorHost) -> None:
    assert hv1.run(["sh", "-c", "ls /proc/$$/fd"]).output.split() == ["0", "1", "2"]


def test_orphans_are_reaped(hv1: HypervisorHost) -> None:
    hv1.run(["sh", "-c", "(sleep 0.05 &) ; exit 0"])
    wait_for(lambda: "sleep" not in hv1.run(["ps", "-eo", "comm"]).output, "the orphan is gone")


def test_a_cut_cable_stops_all_traffic_until_it_is_healed(hv1: HypervisorHost, hv2: HypervisorHost) -> None:
    probe = ["python3", "-c", f"import socket; socket.create_connection(('{hv2.address}', {LIBVIRT_PORT}), timeout=1)"]
    assert hv1.run(probe).returncode == 0
    hv2.cut_cable()
    try:
        assert hv1.run(probe).returncode != 0
        assert not reaches(hv2.address, LIBVIRT_PORT)
        assert hv2.is_on
    finally:
        hv2.heal_cable()
    wait_for(lambda: reaches(hv2.address, LIBVIRT_PORT), "the host is reached again")


def test_a_cut_cable_is_still_cut_after_a_power_cycle(hv2: HypervisorHost) -> None:
    hv2.cut_cable()
    try:
        hv2.power_off()
        hv2.power_on()
        assert not reaches(hv2.address, LIBVIRT_PORT)
    finally:
        hv2.heal_cable()
    wait_for(lambda: reaches(hv2.address, LIBVIRT_PORT), "the host is reached again")


def test_a_loss_of_power_ends_guests_and_programs_at_once(
    guests: Guests, hv2: HypervisorHost, log_path: Path, timed: Timed
) -> None:
    guest = guests.unique("web")
    guests.start_ticking(hv2, guest)
    daemon = hv2.spawn(["sleep", "600"], log_path)

    with timed("power off with a guest"):
        hv2.power_off()

    assert daemon.wait(0) == -signal.SIGKILL
    assert not hv2.is_on
    assert not any(guest.name in command for command in commands_on_this_machine())
    with pytest.raises(HostProcessError, match="off"):
        hv2.spawn(["true"], log_path)
    assert guest.console is not None
    count = len(ticks(guest.console))

    with timed("power on"):
        hv2.power_on()

    assert not guests.runs_on(hv2, guest)
    assert len(ticks(guest.console)) == count


def test_a_host_that_stands_still_is_on_and_goes_on_where_it_was(hv2: HypervisorHost, log_path: Path) -> None:
    counting = hv2.spawn(["sh", "-c", "while true; do echo x; sleep 0.01; done"], log_path)
    wait_for(lambda: lines_in(log_path) > 1, "it to count")
    hv2.freeze()
    before = lines_in(log_path)
    assert {state_of(process.pid) for process in processes_in(hv2.namespace)} == {"T"}
    assert all(hv2.is_on for _ in range(300)), "asked more often than its first process has a queue for"
    assert lines_in(log_path) == before
    hv2.thaw(but=[counting.pid])
    assert hv2.run(["true"]).returncode == 0
    assert state_of(counting.pid) == "T"
    hv2.thaw()
    wait_for(lambda: lines_in(log_path) > before, "it to count on")
    counting.kill()


def test_a_host_that_stands_still_loses_its_power_like_any_other(hv2: HypervisorHost) -> None:
    hv2.freeze()
    hv2.power_off()
    assert not hv2.is_on
    with pytest.raises(HostError, match="off"):
        hv2.freeze()
    hv2.power_on()
    assert hv2.run(["true"]).returncode == 0


def lines_in(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def state_of(pid: int) -> str:
    """`T` of a process that is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_peer_sees_silence_and_no_closed_connection_when_power_is_lost(hv2: HypervisorHost) -> None:
    with socket.create_connection((hv2.address, LIBVIRT_PORT), timeout=5) as connection:
        hv2.power_off()
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    hv2.power_on()


def test_bmcs_stay_at_their_hardware_address_when_a_host_loses_its_power(lab: Lab, hv2: HypervisorHost) -> None:
    """Else whoever spoke to a BMC before, such as the leader, would speak to nobody until it has asked anew."""
    argv = ["ip", "-n", lab.network.switch, "-brief", "link", "show", "br0"]

    def address() -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[2]

    assert address() == "02:70:76:63:00:00"  # none of a host's, of which the lowest would be taken
    hv2.power_off()
    try:
        assert address() == "02:70:76:63:00:00"
    finally:
        hv2.power_on()


def test_power_on_of_a_host_that_is_on_is_refused(hv1: HypervisorHost) -> None:
    with pytest.raises(HostError, match="on already"):
        hv1.power_on()


def test_a_deadline_names_what_was_awaited() -> None:
    with pytest.raises(DeadlineExceededError, match="pigs fly"):
        wait_for(lambda: False, "pigs fly", deadline_s=0.05)


def commands_on_this_machine() -> list[str]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found.append(Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return found
