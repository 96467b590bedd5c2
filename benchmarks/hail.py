# SPDX-License-Identifier: Apache-2.0
"""hail: where Ganeti's allocator would send the VMs of one node: its request as JSON, its answer, the time it takes.

`hail` (Debian's package `ganeti-htools`) reads one JSON message of the IAllocator protocol, with the whole cluster in
it, and answers with another. Instances have the disk template `rbd`, so that they may go to any node, as our VMs may.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvc_core.model import NodeMode
from pvc_core.snapshot import ClusterSnapshot

PROGRAM = Path("/usr/lib/ganeti/iallocators/hail")
GROUP = "default"
DISK_MIB = 1024
LEAST = {"memory-size": 1, "cpu-count": 1, "disk-size": 1, "disk-count": 0, "nic-count": 0, "spindle-use": 0}
MOST = dict.fromkeys(LEAST, 1_000_000_000)
ANY_SIZE = {
    "minmax": [{"min": LEAST, "max": MOST}],
    "std": {**LEAST, "memory-size": 128, "disk-size": DISK_MIB, "disk-count": 1},
    "disk-templates": ["rbd"],
    "vcpu-ratio": 1_000_000.0,
    "spindle-ratio": 1_000_000.0,
}


@dataclass(frozen=True)
class Evacuated:
    """Where hail would send the VMs, by name, whom it found no place for, and how long it took."""

    places: Mapping[str, str]
    failed: tuple[str, ...]
    seconds: float


def is_installed() -> bool:
    """Whether `hail` can be run here."""
    return PROGRAM.exists()


def evacuate(snapshot: ClusterSnapshot, vms: Sequence[str]) -> Evacuated:
    """Let hail plan where these VMs go. Raises `CalledProcessError` when it fails, `ValueError` when it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(message(snapshot, vms)))
        started = time.perf_counter()
        ran = subprocess.run([str(PROGRAM), str(file)], check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    answer = json.loads(ran.stdout)
    if not answer["success"]:
        raise ValueError(f"hail refused: {answer['info']}")
    moved, failed, _ = answer["result"]
    places = {vm: nodes[0] for vm, _group, nodes in moved}
    return Evacuated(places, tuple(vm for vm, _reason in failed), seconds)


def message(snapshot: ClusterSnapshot, vms: Sequence[str]) -> dict[str, Any]:
    """The request to move these VMs away from their nodes, with the cluster as it is."""
    records = [stored.value for stored in snapshot.vms.values()]
    return {
        "version": 2,
        "cluster_name": "cluster",
        "cluster_tags": [],
        "enabled_hypervisors": ["kvm"],
        "ipolicy": ANY_SIZE,
        "nodegroups": {
            GROUP: {"name": GROUP, "alloc_policy": "preferred", "networks": [], "tags": [], "ipolicy": ANY_SIZE}
        },
        "nodes": {name: _node(snapshot, name) for name, view in sorted(snapshot.nodes.items()) if view.report},
        "instances": {
            vm.name: {
                "memory": vm.memory_mib,
                "vcpus": vm.vcpus,
                "disk_space_total": 0,
                "disks": [{"size": 0, "mode": "rw"}],
                "disk_template": "rbd",
                "nodes": [vm.node],
                "admin_state": "up",
                "admin_state_source": "admin",
                "spindle_use": 0,
                "hypervisor": "kvm",
                "os": "none",
                "tags": [],
                "nics": [],
            }
            for vm in records
        },
        "request": {"type": "node-evacuate", "instances": list(vms), "evac_mode": "primary-only"},
    }


def _node(snapshot: ClusterSnapshot, name: str) -> dict[str, Any]:
    view, reserve_mib = snapshot.nodes[name], snapshot.settings.memory_reserve_mib
    assert view.report is not None
    total_mib, used_mib = view.report.value.memory_total_mib, view.reserved.memory_mib
    return {
        "tags": [],
        "primary_ip": "192.0.2.1",
        "secondary_ip": "192.0.2.1",
        "offline": not view.is_alive,
        "drained": view.mode is not NodeMode.READY,
        "master_candidate": True,
        "group": GROUP,
        "vm_capable": True,
        "ndparams": {"spindle_count": 1, "exclusive_storage": False, "cpu_speed": 1.0},
        "total_memory": total_mib,
        "reserved_memory": reserve_mib,
        "free_memory": total_mib - reserve_mib - used_mib,
        "total_disk": 1_048_576,
        "free_disk": 1_048_576,
        "total_cpus": view.report.value.cores,
        "reserved_cpus": 0,
        "total_spindles": 1,
        "free_spindles": 1,
        "i_pri_memory": used_mib,
        "i_pri_up_memory": used_mib,
    }
