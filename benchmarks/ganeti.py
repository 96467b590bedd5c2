# SPDX-License-Identifier: Apache-2.0
"""ganeti: what another cluster manager's balancer makes of a cluster of ours: its input file, its score, its moves.

Ganeti's tools for placement (`hbal`, `hail`: Debian's package `ganeti-htools`) need no Ganeti cluster: they read one
from a text file. Instances are written with the disk template `rbd`, so that they may go to any node, as our VMs
may; disks, limits and rules are not written.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pvc_core.model import NodeMode
from pvc_core.snapshot import ClusterSnapshot

GROUP = "default"
ANY_SIZE = "128,1,1024,1,1,1|1,1,0,0,0,0;1000000000,1000000,1000000000,1000,1000,1000|rbd|1000000.0|1000000.0"
"""A policy that allows instances of every size on nodes of every degree of overcommitment."""

_LOADED = re.compile(r"Initial score: ([0-9.]+)")
_MOVE = re.compile(r"^ *\d+\. (\S+) +(\S+) +=> (\S+) +([0-9.]+) a=", re.MULTILINE)


@dataclass(frozen=True)
class Balanced:
    """What hbal did. moves: (VM, from, to), one after the other."""

    score_before: float
    score_after: float
    moves: tuple[tuple[str, str, str], ...]
    seconds: float

    @property
    def places(self) -> Mapping[str, str]:
        """The node of each VM that was moved, by its name."""
        return {vm: target for vm, _, target in self.moves}


def is_installed() -> bool:
    """Whether `hbal` can be run here."""
    return shutil.which("hbal") is not None


def text_of(snapshot: ClusterSnapshot) -> str:
    """The cluster in the format of htools(1): sections for groups, nodes, instances, tags and policies.

    The memory reserve of a node is written as what the node itself uses, so that both sides count the same free
    memory. A VM that is off is written as running, because it keeps its memory with us. A node out of service is
    written as offline. An overcommitment of memory has no counterpart.
    """
    sections = (
        [f"{GROUP}|{GROUP}|preferred||"],
        _nodes(snapshot),
        _instances(snapshot),
        [],
        [f"|{ANY_SIZE}", f"{GROUP}|{ANY_SIZE}"],
    )
    return "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def _nodes(snapshot: ClusterSnapshot) -> list[str]:
    reserve_mib, lines = snapshot.settings.memory_reserve_mib, []
    for name, view in sorted(snapshot.nodes.items()):
        if view.report is None:
            continue
        report = view.report.value
        free_mib = report.memory_total_mib - reserve_mib - view.reserved.memory_mib
        role = "Y" if view.mode is not NodeMode.READY or not view.is_alive else "N" if lines else "M"
        memory = f"{report.memory_total_mib}|{reserve_mib}|{free_mib}"
        lines.append(f"{name}|{memory}|1048576|1048576|{report.cores}|{role}|{GROUP}|1||N|0|0|1.0")
    return lines


def _instances(snapshot: ClusterSnapshot) -> list[str]:
    vms = sorted((stored.value for stored in snapshot.vms.values()), key=lambda vm: vm.name)
    return [f"{vm.name}|{vm.memory_mib}|0|{vm.vcpus}|running|Y|{vm.node}||rbd||0|-" for vm in vms]


def cluster_score(snapshot: ClusterSnapshot, places: Mapping[str, str] | None = None) -> float:
    """Ganeti's cluster score for shared storage: how unevenly memory and vCPUs are spread over the nodes in service.

    The population standard deviation of the fraction of memory that is free plus that of vCPUs per core, each with
    weight 1. places: where VMs are by now, by name; the others are where the snapshot says.
    """
    places = places or {}
    free = {name: view.report.value.memory_total_mib for name, view in snapshot.nodes.items() if view.report}
    total, vcpus = dict(free), dict.fromkeys(free, 0)
    for stored in snapshot.vms.values():
        vm = stored.value
        node = places.get(vm.name, vm.node)
        free[node] -= vm.memory_mib
        vcpus[node] += vm.vcpus
    fractions, ratios = [], []
    for name, view in snapshot.nodes.items():
        if view.report and view.is_alive and view.mode is NodeMode.READY:
            fractions.append((free[name] - snapshot.settings.memory_reserve_mib) / total[name])
            ratios.append(vcpus[name] / view.report.value.cores)
    return statistics.pstdev(fractions) + statistics.pstdev(ratios) if fractions else 0.0


def hbal(snapshot: ClusterSnapshot, *options: str) -> Balanced:
    """Let hbal balance the cluster. Raises `CalledProcessError` when it fails, `ValueError` for an unknown answer.

    options: beyond its defaults, among which are: no limit to the number of moves; below a score of 0.1 a move has
    to lower it by 0.01, above by anything.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster"
        file.write_text(text_of(snapshot))
        started = time.perf_counter()
        answer = subprocess.run(["hbal", "-t", str(file), *options], check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    before = _LOADED.search(answer.stdout)
    if before is None:
        raise ValueError(f"hbal printed no score: {answer.stdout.strip() or answer.stderr.strip()}")
    found = _MOVE.findall(answer.stdout)
    moves = tuple((vm, source, target) for vm, source, target, _ in found)
    return Balanced(float(before[1]), float(found[-1][3]) if found else float(before[1]), moves, seconds)
