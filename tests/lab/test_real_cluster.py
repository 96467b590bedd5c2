# SPDX-License-Identifier: Apache-2.0
"""The main job on real parts: ZooKeeper, libvirt, QEMU guests with consoles, the API with several workers."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lab_support import counted_on, ticking
from operators import Operator
from pvc_core.ports import SessionState
from pvc_lab.real_cluster import RealCluster
from pvc_lab.tour import Tour
from pvc_lab.tour_cluster import pvc
from pvc_lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.libvirt, pytest.mark.zookeeper, pytest.mark.timeout(400)]


def api(cluster: RealCluster) -> httpx.Client:
    environment = cluster.environment
    return httpx.Client(
        base_url=f"{cluster.url}/api/v1",
        headers={"Authorization": f"Bearer {environment['PVC_API_TOKEN']}"},
        verify=_tls(environment["PVC_API_CA"]),
        timeout=60,
        trust_env=False,
    )


def _tls(certificate: str) -> object:
    import ssl

    return ssl.create_default_context(cafile=certificate)


def test_the_tour_comes_out_as_it_claims(cluster: RealCluster, capsys: pytest.CaptureFixture[str]) -> None:
    Tour(cluster).run()
    out = capsys.readouterr().out
    assert "no guest ever ran on two nodes" in out
    assert out.count("did not restart") == 9


def test_twenty_concurrent_defines_from_several_workers_never_overfill_a_node(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"memory_reserve_mib": 48})
    capacity = 2048 - 48  # 500 MiB each: four on every node, twelve in all

    def define(number: int) -> int:
        with api(cluster) as client:
            body = {"definition": cluster.empty_definition(f"web{number}", 500)}
            return client.post("/vm", json=body).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(define, range(20)))
    assert statuses == {201: 12, 409: 8}
    operator.wait(lambda s: len(s.vms) == 12, "the VMs to be seen")
    operator.wait(
        lambda s: (
            all(node.reserved.memory_mib <= capacity for node in s.nodes.values())
            and sum(len(node.reserved.vms) for node in s.nodes.values()) == 12
        ),
        "no node to be overfilled, and every VM in one ledger",
    )


def test_flushing_twelve_equal_guests_spreads_them_six_and_six(cluster: RealCluster, operator: Operator) -> None:
    names = [f"web{number}" for number in range(12)]
    for name in names:
        operator.define_xml(cluster.empty_definition(name, 16), target="hv1")
    operator.wait_state(*names)
    operator.commands.flush("hv1")
    operator.wait_mode("hv1", "flushed")
    assert Counter(operator.vm(name).node for name in names) == {"hv2": 6, "hv3": 6}


def test_guests_run_on_while_the_whole_store_is_away_and_commands_work_again_afterwards(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.define_xml(cluster.definition("web1"), target="hv1")
    operator.wait_state("web1")
    mark = ticking(cluster, "web1")

    cluster.lab.zookeeper.kill()
    with api(cluster) as client:
        try:
            wait_for(
                lambda: all(client.get("/vm").status_code == 503 for _ in range(10)),
                "every worker of the API to say that the store is away",
            )
            assert client.get("/vm").json()["code"] == "store_unavailable"
            assert client.get("/health").status_code == 503
            assert counted_on(cluster, "web1", mark)
        finally:
            cluster.lab.zookeeper.restart()
        wait_for(lambda: client.get("/vm").status_code == 200, "the API to come back by itself")
    wait_for(lambda: operator.store.session_state is SessionState.CONNECTED, "the operator's own session")
    operator.wait(lambda s: all(node.is_alive for node in s.nodes.values()), "the daemons to be back")
    assert counted_on(cluster, "web1", mark)
    operator.commands.stop("web1")
    operator.wait_state("web1", state="stopped")


def test_a_libvirtd_that_is_killed_and_started_again_changes_nothing_for_its_guests(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.define_xml(cluster.definition("web1"), target="hv2")
    operator.wait_state("web1")
    mark = ticking(cluster, "web1")

    cluster.lab.nodes["hv2"].kill_libvirtd()
    try:
        operator.wait(
            lambda s: (report := s.node("hv2").report) is not None and not report.value.hypervisor_connected,
            "hv2 to report its hypervisor away",
        )
        assert counted_on(cluster, "web1", mark)
    finally:
        cluster.lab.nodes["hv2"].start_libvirtd()
    operator.wait(
        lambda s: (report := s.node("hv2").report) is not None and report.value.hypervisor_connected, "hv2 to be back"
    )
    operator.commands.migrate("web1", "hv3")
    operator.wait_state("web1", node="hv3")
    assert counted_on(cluster, "web1", mark)


def test_a_daemon_killed_mid_migration_and_restarted_leaves_one_guest_where_the_record_says(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.define_xml(cluster.definition("web1"), target="hv1")
    operator.wait_state("web1")
    mark = ticking(cluster, "web1")

    operator.commands.migrate("web1", "hv2")
    operator.wait_state("web1", state="migrating")
    uuid = operator.vm("web1").uuid
    wait_for(lambda: uuid in cluster.active_uuids("hv2"), "the migration to reach hv2")
    cluster.nodes["hv1"].kill_daemon()
    cluster.nodes["hv1"].start_daemon()

    operator.wait_state("web1")
    record = operator.vm("web1")
    assert cluster.active_on("web1") == (record.node,)
    assert counted_on(cluster, "web1", mark)
    operator.wait(
        lambda s: [n.name for n in s.nodes.values() if uuid in n.reserved.vms] == [record.node], "one reservation"
    )


def test_a_daemon_killed_mid_start_and_restarted_starts_the_guest_once(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.define_xml(cluster.definition("web1"), target="hv1")
    uuid = operator.vm("web1").uuid
    wait_for(lambda: uuid in cluster.active_uuids("hv1"), "the start to begin")
    cluster.nodes["hv1"].kill_daemon()
    cluster.nodes["hv1"].start_daemon()
    operator.wait_state("web1")
    assert cluster.active_on("web1") == ("hv1",)
    mark = ticking(cluster, "web1")
    assert counted_on(cluster, "web1", mark)


def test_a_guest_that_obeys_acpi_powers_off_and_a_stubborn_one_is_terminated_in_time(
    cluster: RealCluster, operator: Operator
) -> None:
    operator.define_xml(cluster.definition("polite"), target="hv1")
    operator.define_xml(cluster.definition("stubborn", stubborn=True), target="hv1", shutdown_timeout_s=2)
    operator.wait_state("polite", "stubborn")
    ticking(cluster, "polite")
    ticking(cluster, "stubborn")
    operator.commands.shutdown("polite")
    operator.commands.shutdown("stubborn")
    operator.wait_state("polite", "stubborn", state="stopped")
    assert cluster.active_on("polite") == cluster.active_on("stubborn") == ()


def test_the_command_shows_the_cluster_in_every_format(cluster: RealCluster, operator: Operator) -> None:
    operator.define_xml(cluster.empty_definition("web1", 16), target="hv1")
    operator.wait_state("web1")
    for output in ("table", "json", "yaml"):
        shown = pvc(["vm", "list", "-o", output], cluster.environment)
        assert shown.returncode == 0, shown.stderr
        assert "web1" in shown.stdout
    assert {node["name"] for node in listed(cluster, "node")} == {"hv1", "hv2", "hv3"}


def listed(cluster: RealCluster, what: str) -> list[dict[str, object]]:
    answer = json.loads(pvc([what, "list", "-o", "json"], cluster.environment).stdout)
    return answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))
