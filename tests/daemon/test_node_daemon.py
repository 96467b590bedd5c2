# SPDX-License-Identifier: Apache-2.0
"""What an operator may rely on when daemons are stopped, killed and started, and when guests and commands misbehave."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter

import pytest

from operators import XML, Operator
from pvc_core import layout
from pvc_core.errors import NoCandidate, Refused
from pvc_core.event_log import EventLog
from pvc_core.ports import Entry, Set
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.tour_cluster import program
from pvc_lab.waiting import wait_for
from pvc_plugins.hypervisors.simulated import Happening, SimulatedHypervisor, SimulatedWorld


def active_on(cluster: EmbeddedCluster, uuid: str) -> list[str]:
    with cluster.world() as world:
        return [domain.node for domain in world.domains() if domain.uuid == uuid and domain.phase != "incoming"]


def happened(world: SimulatedWorld, uuid: str, kind: Happening) -> bool:
    return any(entry.kind is kind for entry in world.history(uuid))


def boot_id(cluster: EmbeddedCluster, uuid: str) -> str:
    with cluster.world() as world:
        return world.console(uuid).boot_id


def test_a_clean_stop_leaves_guests_running_and_a_restart_finds_them(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    uuid = operator.define("web1", target="hv1")
    operator.wait_state("web1")
    boot = boot_id(cluster, uuid)

    cluster.stop("hv1")
    operator.wait(lambda s: s.node("hv1").liveness == "left", "hv1 left")
    assert active_on(cluster, uuid) == ["hv1"]
    with pytest.raises(NoCandidate, match=r"left|daemon"):
        operator.define("web2", target="hv1")
    with pytest.raises(Refused, match="left"):
        operator.commands.flush("hv1")

    cluster.start_daemon("hv1")
    operator.wait(lambda s: s.node("hv1").is_alive, "hv1 back")
    operator.commands.restart("web1")
    operator.wait(lambda s: s.vm("web1").value.state == "running" and s.vm("web1").value.transition >= 4, "restarted")
    assert boot_id(cluster, uuid) != boot


def test_a_daemon_killed_mid_migration_leaves_one_guest_and_a_true_record(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    uuid = operator.define("web1", "migrate-s='1.0'", target="hv1")
    operator.wait_state("web1")
    boot = boot_id(cluster, uuid)
    operator.commands.migrate("web1", "hv2")

    with cluster.world() as world:
        wait_for(lambda: happened(world, uuid, Happening.MIGRATION_BEGAN), "the migration to begin")
    cluster.stop("hv1", signal.SIGKILL)
    cluster.start_daemon("hv1")

    operator.wait_state("web1", node="hv2")
    assert active_on(cluster, uuid) == ["hv2"]
    assert boot_id(cluster, uuid) == boot
    operator.wait(
        lambda s: uuid in s.nodes["hv2"].reserved.vms and uuid not in s.nodes["hv1"].reserved.vms,
        "the ledgers to agree",
    )


def test_a_daemon_killed_mid_start_starts_the_guest_once(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("web1", "boot-s='0.7'", target="hv1")
    with cluster.world() as world:
        wait_for(lambda: happened(world, uuid, Happening.CREATED), "the start to begin")
    cluster.stop("hv1", signal.SIGKILL)
    cluster.start_daemon("hv1")
    operator.wait_state("web1")
    assert active_on(cluster, uuid) == ["hv1"]


def test_a_stop_that_arrives_during_a_slow_start_is_not_lost(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("web1", "boot-s='1.0'", target="hv1")
    operator.commands.stop("web1")
    operator.wait_state("web1", state="stopped")
    assert active_on(cluster, uuid) == []


def test_a_guest_that_powers_off_is_started_again_and_gives_up_after_three_times(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"start_backoff_s": 0.05})
    uuid = operator.define("web1", target="hv1")
    for _ in range(3):
        operator.wait_state("web1")
        before = operator.vm("web1").transition
        with cluster.world() as world:
            world.power_off_guest(uuid)
        operator.wait(lambda s, before=before: s.vm("web1").value.transition > before, "the end to be noticed")
    operator.wait_state("web1", state="failed")
    assert "giving up" in operator.vm("web1").reason
    operator.commands.start("web1")
    operator.wait_state("web1")


def test_starts_that_fail_are_tried_again_and_the_reason_is_the_hypervisors(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"start_backoff_s": 0.05})
    operator.define("lucky", "start-failures='2'", target="hv1")
    operator.define("unlucky", "start-failures='9'", target="hv1")
    operator.wait_state("lucky")
    operator.wait_state("unlucky", state="failed")
    assert "3 failures" in operator.vm("unlucky").reason


def test_a_broken_record_is_shown_and_the_others_work(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("broken", target="hv1")
    operator.define("sound", target="hv1")
    operator.wait_state("broken", "sound")
    entry = operator.store.get(layout.vm(uuid))
    assert isinstance(entry, Entry)
    operator.store.transaction([Set(entry.key, b'{"name": 7', entry.version)])

    operator.wait(lambda s: layout.vm(uuid) in s.broken, "the record to be shown as broken")
    operator.commands.stop("sound")
    operator.wait_state("sound", state="stopped")
    assert active_on(cluster, uuid) == ["hv1"], "the guest of a broken record is left alone"


def test_a_hypervisor_that_goes_away_and_returns_is_used_again(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"report_interval_s": 0.5})
    operator.define("web1", target="hv1")
    operator.wait_state("web1")
    with cluster.world() as world:
        world.take_hypervisor_away("hv1")
        operator.wait(
            lambda s: (report := s.node("hv1").report) is not None and not report.value.hypervisor_connected, "away"
        )
        operator.commands.stop("web1")
        world.bring_hypervisor_back("hv1")
    operator.wait_state("web1", state="stopped")


def test_flushing_twelve_equal_guests_spreads_them_evenly_and_ready_brings_them_home(
    operator: Operator,
) -> None:
    names = [f"web{number}" for number in range(12)]
    for name in names:
        operator.define(name, target="hv1")
    operator.wait_state(*names)
    operator.commands.flush("hv1")
    operator.wait_mode("hv1", "flushed")
    assert Counter(operator.vm(name).node for name in names) == {"hv2": 6, "hv3": 6}
    operator.commands.ready("hv1")
    operator.wait_mode("hv1", "ready")
    assert Counter(operator.vm(name).node for name in names) == {"hv1": 12}


def test_a_leader_killed_during_a_flush_is_followed_by_another_that_finishes_it(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    names = [f"web{number}" for number in range(6)]
    for name in names:
        operator.define(name, "migrate-s='0.5'", target="hv1")
    operator.wait_state(*names)
    leader = leading_node(operator)
    source = next(node for node in cluster.nodes if node != leader)
    if source != "hv1":
        for name in names:
            operator.commands.move(name, source)
        operator.wait_state(*names, node=source)
    operator.commands.flush(source)
    operator.wait(lambda s: any(vm.value.state == "migrating" for vm in s.vms.values()), "the flush to begin")
    cluster.stop(leader, signal.SIGKILL)
    cluster.start_daemon(leader)
    operator.wait_mode(source, "flushed")
    assert all(operator.vm(name).node != source for name in names)


def leading_node(operator: Operator) -> str:
    from pvc_core.election import holder_of

    holder = wait_for(lambda: holder_of(operator.store.get(layout.LEADER_HOLDER)), "a leader")
    return holder.candidate


def test_ready_during_a_flush_cancels_it_and_nothing_hangs(operator: Operator) -> None:
    for number in range(4):
        operator.define(f"web{number}", "migrate-s='5'", target="hv1")
    operator.define("pinned", "ignores-shutdown='yes'", target="hv1", node_limit=("hv1",))
    names = [f"web{number}" for number in range(4)]
    operator.wait_state(*names, "pinned")
    operator.commands.flush("hv1")
    operator.wait(lambda s: any(vm.value.state == "migrating" for vm in s.vms.values()), "migrations")
    operator.wait_state("pinned", state="shutting-down")
    assert operator.commands.flush("hv1").changed is False, "a second flush changes nothing"

    operator.commands.ready("hv1")
    operator.wait_mode("hv1", "ready")
    operator.wait_state(*names, "pinned", node="hv1")


def test_two_daemons_of_one_name_on_one_host_are_refused(cluster: EmbeddedCluster, operator: Operator) -> None:
    second = subprocess.run(
        [program("pvc-node"), "--config", str(cluster.configuration_path("hv1"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 5
    assert "another pvc-node runs under this name" in second.stderr


def test_domains_that_no_record_knows_are_reported_and_left_alone(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("web1", target="hv1")
    operator.wait_state("web1")
    unknown = XML.format(name="not-ours", behaviour="", memory_mib=64).replace(
        "<name>", "<uuid>7b1c8d1e-0000-4000-8000-000000000001</uuid><name>"
    )
    hv2 = SimulatedHypervisor(f"simulated://{cluster.root}/hosts", "hv2")
    hv2.start()
    hv2.create(unknown)
    operator.commands.change_settings({"report_interval_s": 0.5})
    operator.wait(
        lambda s: (r := s.node("hv2").report) is not None and "not-ours" in r.value.unknown_domains.values(), "reported"
    )
    assert active_on(cluster, "7b1c8d1e-0000-4000-8000-000000000001") == ["hv2"]
    assert active_on(cluster, uuid) == ["hv1"]
    hv2.close()


def test_the_events_tell_the_story_of_a_flush_with_its_authors_and_reasons(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.define("web1", target="hv1")
    operator.wait_state("web1")
    operator.commands.flush("hv1")
    operator.wait_mode("hv1", "flushed")
    events = EventLog(operator.store).last(1000).events
    assert [event.node for event in events if event.kind == "node_joined"] != []
    story = [event for event in events if event.vm == "web1" or (event.node == "hv1" and "flush" in event.kind)]
    assert [event.kind for event in story] == [
        "vm_defined",
        "vm_started",
        "node_flushing",
        "vm_migrating",
        "vm_migrated",
        "node_flushed",
    ]
    assert [event.by.partition(":")[0] for event in story] == ["", "agent", "", "leader", "agent", "leader"]
    migrating, migrated = story[3:5]
    assert migrating.decision is not None
    assert migrating.decision.node == migrating.target == migrated.target == operator.vm("web1").node
    assert migrating.reason.startswith("flush of hv1; selector mem")
    assert any(event.kind == "leader_elected" for event in events)
