# SPDX-License-Identifier: Apache-2.0
"""ceph: what PVC asks of a Ceph cluster by its libraries, and the commands `ceph` and `rbd` doing the same beside it.

A real cluster of three OSDs is started for it, with a pool of 2 000 volumes. Budgets: the list of all of them with
their sizes, and the cluster's status, ten times faster than by command. What a new volume and a snapshot cost is the
cluster's own work for the most part, whoever asks for it: shown, without a budget.

    python -m benchmarks.ceph [--volumes 2000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.listing import median_ms
from pvc_core import StorageSite
from pvc_core.model import Settings
from pvc_core.registry import Registry
from pvc_core.storage import StorageBackend
from pvc_lab import packages
from pvc_lab.ceph_cluster import CephCluster

POOL = "vms"
SIZE_BYTES = 2**20
TIMES_FASTER = {"list of all volumes": 10.0, "status": 10.0}

Pair = tuple[Callable[[], object], Callable[[], object]]


def opened(cluster: CephCluster) -> StorageBackend:
    """The backend as it is installed, on this cluster."""
    registry = Registry.load(sections={"ceph": {"conf": str(cluster.conf_path)}})
    entry = registry.storage_backends["ceph"]
    backend: StorageBackend = entry.open(StorageSite("hv1", registry.options(entry.plugin, Settings())))
    return backend


def compared(cluster: CephCluster, backend: StorageBackend) -> Iterator[tuple[str, Pair]]:
    """What is measured: the name, PVC's way, the command's way."""

    def command(*argv: str) -> None:
        subprocess.run([argv[0], "-c", str(cluster.conf_path), *argv[1:]], check=True, capture_output=True)

    number = count()
    yield (
        "list of all volumes",
        (lambda: backend.volumes(POOL), lambda: command("rbd", "ls", "--long", "--format", "json", POOL)),
    )
    yield "status", (backend.health, lambda: command("ceph", "--format", "json", "status"))
    yield (
        "new volume",
        (
            lambda: backend.create_volume(POOL, f"ours-{next(number)}", SIZE_BYTES),
            lambda: command("rbd", "create", "--size", "1M", f"{POOL}/theirs-{next(number)}"),
        ),
    )
    yield (
        "snapshot",
        (
            lambda: backend.create_snapshot(POOL, "volume-0", f"ours-{next(number)}"),  # type: ignore[attr-defined]
            lambda: command("rbd", "snap", "create", f"{POOL}/volume-0@theirs-{next(number)}"),
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    if problem := packages.why_no_ceph():
        print(f"Ceph is not measured: {problem}")
        return 0
    table = Table("", "PVC: median ms", "command: median ms", "times faster", "budget", title="Ceph, three OSDs")
    missed = False
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as folder, CephCluster(Path(folder, "ceph")) as cluster:
        cluster.create_pool(POOL, placement_groups=32)
        backend = opened(cluster)
        for number in range(options.volumes):
            backend.create_volume(POOL, f"volume-{number}", SIZE_BYTES)
        for name, (ours, theirs) in compared(cluster, backend):
            ours_ms, theirs_ms = median_ms(ours, options.rounds), median_ms(theirs, options.rounds)
            faster, wanted = theirs_ms / ours_ms, TIMES_FASTER.get(name)
            missed |= wanted is not None and faster < wanted
            table.add_row(name, f"{ours_ms:.1f}", f"{theirs_ms:.1f}", f"{faster:.0f}", f"{wanted:g}" if wanted else "-")
    Console().print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
