# SPDX-License-Identifier: Apache-2.0
"""What the simulated world adds: guests that behave as their definitions say, outlive daemons, and leave a history."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pvc_core.errors import HypervisorError, InvalidInput
from pvc_core.ports import DomainEventKind, DomainState, MigrationProgress
from pvc_core.testing.hypervisor_harness import EventLog
from pvc_plugins.hypervisors.simulated import Happening, SimulatedHypervisor, SimulatedWorld

DEADLINE_S = 30.0
DOWNTIME_MS = 300
Host = Callable[..., SimulatedHypervisor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "world"


@pytest.fixture
def world(folder: Path) -> Iterator[SimulatedWorld]:
    with SimulatedWorld(folder) as world:
        yield world


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    """Starts hosts of the world; `host("hv1", migrate_s=5)`."""
    started = []

    def start(node: str, **options: float) -> SimulatedHypervisor:
        query = "&".join(f"{name}={value}" for name, value in {"boot_s": 0, "migrate_s": 0, **options}.items())
        hypervisor = SimulatedHypervisor(f"simulated://{folder}?{query}", node)
        hypervisor.start()
        started.append(hypervisor)
        return hypervisor

    yield start
    for hypervisor in started:
        hypervisor.close()


def test_hosts_that_start_at_the_same_moment_all_find_the_new_world(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def open_one(folder: Path, together: threading.Barrier) -> None:
        together.wait(DEADLINE_S)
        try:
            SimulatedWorld(folder).close()
        except HypervisorError as error:
            failed.append(error)

    for number in range(40):
        together = threading.Barrier(6)
        threads = [threading.Thread(target=open_one, args=(tmp_path / str(number), together)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


def definition(uuid: str, behaviour: str = "", name: str = "web1", memory_mib: int = 512, vcpus: int = 2) -> str:
    return (
        f"<domain type='simulated'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory_mib}</memory>"
        f"<vcpu>{vcpus}</vcpu><metadata>"
        f"<sim:guest xmlns:sim='https://pvc.example/simulated/1' {behaviour}/></metadata></domain>"
    )


def ignore(_progress: MigrationProgress) -> None:
    pass


def move(source: SimulatedHypervisor, uuid: str, target: str, downtime_ms: int = DOWNTIME_MS) -> None:
    source.migrate(uuid, target, downtime_ms, DEADLINE_S, ignore)


def kinds(world: SimulatedWorld, uuid: str) -> list[str]:
    return [entry.kind.value for entry in world.history(uuid)]


# ------------------------------------------------------------------------------------------------ behaviour


def test_starts_fail_as_often_as_the_definition_says_on_all_hosts_together(world: SimulatedWorld, host: Host) -> None:
    hv1, hv2, uuid = host("hv1"), host("hv2"), str(uuid4())
    xml = definition(uuid, "start-failures='2'")
    for hypervisor in (hv1, hv2):
        with pytest.raises(HypervisorError, match="simulated start failure"):
            hypervisor.create(xml)
    hv2.create(xml)
    assert world.node_of(uuid) == "hv2"
    assert kinds(world, uuid)[:2] == ["start-failed", "start-failed"]


def test_a_guest_may_start_on_one_node_only(host: Host) -> None:
    xml = definition(str(uuid4()), "starts-only-on='hv2'")
    with pytest.raises(HypervisorError, match="starts only on hv2"):
        host("hv1").create(xml)
    host("hv2").create(xml)


def test_migrations_fail_as_often_as_the_definition_says(world: SimulatedWorld, host: Host) -> None:
    hv1, _, uuid = host("hv1", migrate_s=0.05), host("hv2"), str(uuid4())
    hv1.create(definition(uuid, "migrate-failures='1'"))
    with pytest.raises(HypervisorError, match="simulated migration failure"):
        move(hv1, uuid, "hv2")
    assert world.node_of(uuid) == "hv1"
    move(hv1, uuid, "hv2")
    assert world.node_of(uuid) == "hv2"


def test_a_busy_guest_needs_a_larger_downtime(world: SimulatedWorld, host: Host) -> None:
    hv1, _, uuid = host("hv1"), host("hv2"), str(uuid4())
    hv1.create(definition(uuid, "needs-downtime-ms='500'"))
    with pytest.raises(HypervisorError, match="longer than"):
        hv1.migrate(uuid, "hv2", 499, 0.05, ignore)
    move(hv1, uuid, "hv2", downtime_ms=500)
    assert world.node_of(uuid) == "hv2"


def test_a_guest_may_crash_some_time_after_every_start(folder: Path, host: Host) -> None:
    uuid, hv1 = str(uuid4()), host("hv1")
    now = [0.0]
    with SimulatedWorld(folder, clock=lambda: now[0]) as later:
        hv1.create(definition(uuid, "crashes-after-s='60'"))
        now[0] = later.history(uuid)[-1].at_s + 59
        assert later.node_of(uuid) == "hv1"
        now[0] += 2
        assert later.node_of(uuid) is None
    assert hv1.domains() == ()


@pytest.mark.parametrize("behaviour", ["start-failures='-1'", "boot-s='soon'", "ignores-shutdown='1'", "boots='1'"])
def test_a_behaviour_that_makes_no_sense_is_refused(host: Host, behaviour: str) -> None:
    with pytest.raises(HypervisorError, match="simulated guest"):
        host("hv1").create(definition(str(uuid4()), behaviour))


def test_a_name_is_active_once_per_host(host: Host) -> None:
    hv1 = host("hv1")
    hv1.create(definition(str(uuid4())))
    with pytest.raises(HypervisorError, match="another UUID"):
        hv1.create(definition(str(uuid4())))


# ---------------------------------------------------------------------------------------- console, history


def test_the_console_goes_on_across_a_migration_and_begins_anew_with_a_start(
    folder: Path, world: SimulatedWorld, host: Host
) -> None:
    hv1, hv2, uuid = host("hv1"), host("hv2"), str(uuid4())
    hv1.create(definition(uuid))
    first = world.console(uuid)
    move(hv1, uuid, "hv2")
    with SimulatedWorld(folder, clock=lambda: world.history()[-1].at_s + 10) as later:
        moved = later.console(uuid)
    assert moved.boot_id == first.boot_id
    assert moved.ticks >= first.ticks + 90
    assert hv2.console(uuid).boot_id == first.boot_id
    with pytest.raises(HypervisorError):
        hv1.console(uuid)
    hv2.destroy(uuid)
    hv2.create(definition(uuid))
    assert world.console(uuid).boot_id != first.boot_id


def test_the_history_tells_what_happened_in_order(world: SimulatedWorld, host: Host) -> None:
    hv1, hv2, uuid = host("hv1"), host("hv2"), str(uuid4())
    hv1.create(definition(uuid, "ignores-shutdown='yes'"))
    move(hv1, uuid, "hv2")
    hv2.shutdown(uuid)
    hv2.destroy(uuid)
    told = [(entry.node, entry.kind) for entry in world.history(uuid)]
    assert told == [
        ("hv1", Happening.CREATED),
        ("hv1", Happening.BOOTED),
        ("hv2", Happening.MIGRATION_BEGAN),
        ("hv1", Happening.MIGRATION_BEGAN),
        ("hv1", Happening.LEFT),
        ("hv2", Happening.ARRIVED),
        ("hv2", Happening.SHUTDOWN_ASKED),
        ("hv2", Happening.DESTROYED),
    ]


def test_a_vm_that_is_active_on_two_nodes_is_found_out(world: SimulatedWorld, host: Host) -> None:
    hv1, hv2, uuid = host("hv1"), host("hv2"), str(uuid4())
    hv1.create(definition(uuid))
    move(hv1, uuid, "hv2")
    assert world.ran_on_two_nodes() == []
    hv1.create(definition(uuid))
    hv2.destroy(uuid)
    (found,) = world.ran_on_two_nodes()
    assert (found.uuid, found.name, sorted(found.nodes)) == (uuid, "web1", ["hv1", "hv2"])


# ----------------------------------------------------------------------------------------- hosts and their facts


def test_a_host_has_what_its_options_say_minus_what_runs_there(world: SimulatedWorld, host: Host) -> None:
    hv1 = host("hv1", memory_mib=2048, cores=8)
    hv1.create(definition(str(uuid4())))
    facts = hv1.host()
    assert (facts.memory_total_mib, facts.memory_available_mib, facts.cores) == (2048, 1536, 8)
    assert facts.load_1m == pytest.approx(0.2)
    world.set_load("hv1", 3.5)
    assert hv1.host().load_1m == 3.5
    world.set_load("hv1", None)
    assert host("hv2", load_1m=0.7).host().load_1m == 0.7


def test_a_host_without_power_has_lost_its_guests(world: SimulatedWorld, host: Host) -> None:
    hv1, uuid = host("hv1"), str(uuid4())
    events = EventLog(hv1, DEADLINE_S)
    hv1.create(definition(uuid))
    world.cut_power("hv1")
    with pytest.raises(HypervisorError):
        hv1.domains()
    world.bring_hypervisor_back("hv1")
    events.wait_for_list_anew()
    assert hv1.domains() == ()


@pytest.mark.parametrize(
    "url",
    ["simulated://", "simulated://host/path", "qemu:///system", "simulated:///p?cores=x", "simulated:///p?disks=1"],
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        SimulatedHypervisor(url, "hv1")


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HypervisorError) as caught:
        SimulatedHypervisor(f"simulated://{tmp_path}/file/world", "hv1").start()
    assert caught.value.connection_lost


def test_a_restart_of_the_machine_ends_all_guests(
    folder: Path, world: SimulatedWorld, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hv1, uuid = host("hv1"), str(uuid4())
    hv1.create(definition(uuid))
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another boot\n")
    monkeypatch.setattr("pvc_plugins.hypervisors.simulated.world._KERNEL_BOOT_ID", boot_id)
    with SimulatedWorld(folder) as after_restart:
        assert after_restart.domains() == []
        assert after_restart.history(uuid)


# ------------------------------------------------------------------------------------------ several processes

_DAEMON = """
import sys
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor
url, node, work, argument = sys.argv[1:]
hypervisor = SimulatedHypervisor(url, node)
hypervisor.start()
print("ready", flush=True)
if work == "create":
    hypervisor.create(argument)
else:
    hypervisor.migrate(argument, "hv2", 300, 60, lambda progress: None)
print("done", flush=True)
"""


def daemon(folder: Path, options: str, work: str, argument: str) -> subprocess.Popen[str]:
    """Another process that works on hv1; it is at work, or about to be, when this returns."""
    argv = [sys.executable, "-c", _DAEMON, f"simulated://{folder}?{options}", "hv1", work, argument]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def a_little_later(folder: Path) -> SimulatedWorld:
    """Looking at the world from there makes everything happen that is due until then."""
    return SimulatedWorld(folder, clock=lambda: time.monotonic() + 101)


def await_in(world: SimulatedWorld, uuid: str, kind: Happening) -> None:
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if any(entry.kind is kind for entry in world.history(uuid)):
            return
        pause.wait(0.01)
    pytest.fail(f"{kind} did not happen: {world.history(uuid)}")


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_guest_boots_on_when_its_daemon_is_killed_meanwhile(folder: Path, world: SimulatedWorld, host: Host) -> None:
    hv1, uuid = host("hv1"), str(uuid4())
    process = daemon(folder, "boot_s=100", "create", definition(uuid))
    await_in(world, uuid, Happening.CREATED)
    kill(process)
    assert [domain.state for domain in hv1.domains()] == [DomainState.PAUSED]
    with pytest.raises(HypervisorError, match="active already"):
        hv1.create(definition(uuid))
    with a_little_later(folder) as later:
        assert later.node_of(uuid) == "hv1"
    assert [domain.state for domain in hv1.domains()] == [DomainState.RUNNING]


def test_a_migration_arrives_when_its_daemon_is_killed_meanwhile(
    folder: Path, world: SimulatedWorld, host: Host
) -> None:
    hv1, hv2, uuid = host("hv1"), host("hv2"), str(uuid4())
    hv1.create(definition(uuid))
    boot_id = world.console(uuid).boot_id
    process = daemon(folder, "migrate_s=100", "migrate", uuid)
    await_in(world, uuid, Happening.MIGRATION_BEGAN)
    kill(process)
    assert [domain.job_active for domain in hv1.domains()] == [True]
    assert hv1.peer_domain_state("hv2", uuid) is DomainState.PAUSED
    with a_little_later(folder) as later:
        assert later.node_of(uuid) == "hv2"
    assert hv1.domains() == ()
    assert hv2.console(uuid).boot_id == boot_id
    assert world.ran_on_two_nodes() == []


def test_events_of_another_process_are_heard(folder: Path, host: Host) -> None:
    uuid, hv1 = str(uuid4()), host("hv1")
    events = EventLog(hv1, DEADLINE_S)
    process = daemon(folder, "boot_s=0", "create", definition(uuid))
    events.wait_for(uuid, DomainEventKind.STARTED)
    kill(process)


def test_many_hosts_work_side_by_side_without_losing_anything(world: SimulatedWorld, host: Host) -> None:
    hosts = [host(f"hv{number}", migrate_s=0.05) for number in range(1, 5)]

    def work(number: int, hypervisor: SimulatedHypervisor) -> None:
        for round_number in range(5):
            uuid = str(uuid4())
            hypervisor.create(definition(uuid, name=f"vm-{number}-{round_number}"))
            move(hypervisor, uuid, f"hv{number % 4 + 1}")

    threads = [threading.Thread(target=work, args=(number, each)) for number, each in enumerate(hosts, start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each.domains()) for each in hosts] == [5, 5, 5, 5]
    assert world.ran_on_two_nodes() == []
