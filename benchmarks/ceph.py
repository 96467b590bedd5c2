# SPDX-License-Identifier: Apache-2.0
"""ceph: what PVC asks of a Ceph cluster by its libraries, and the commands `ceph` and `rbd` doing the same beside it.

A real cluster of three OSDs is started for it, with a pool of 2 000 volumes. Budgets: the list of all of them with
their sizes, and the cluster's status, ten times faster than by command. What a new volume and a snapshot take is the
cluster's own time for the most part, whoever asks for it, so beside them stands also the library's bare call: at most
twice that.

    python -m benchmarks.ceph [--volumes 2000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
TIMES_FASTER = 10.0
"""Than the command: what is only asked for."""
TIMES_THE_LIBRARY = 2.0
"""What is made, against the bare call of the library."""

Action = Callable[[], object]


@dataclass(frozen=True)
class Compared:
    """One thing done in PVC's way, by command and, where something is made, by nothing but the library."""

    name: str
    ours: Action
    command: Action
    library: Action | None = None


def opened(cluster: CephCluster) -> StorageBackend:
    """The backend as it is installed, on this cluster."""
    registry = Registry.load(sections={"ceph": {"conf": str(cluster.conf_path)}})
    entry = registry.storage_backends["ceph"]
    backend: StorageBackend = entry.open(StorageSite("hv1", registry.options(entry.plugin, Settings())))
    return backend


def compared(cluster: CephCluster, backend: StorageBackend) -> Iterator[Compared]:
    """What is measured."""
    import rbd

    def command(*argv: str) -> None:
        subprocess.run([argv[0], "-c", str(cluster.conf_path), *argv[1:]], check=True, capture_output=True)

    number = count()
    yield Compared(
        "list of all volumes",
        lambda: backend.volumes(POOL),
        lambda: command("rbd", "ls", "--long", "--format", "json", POOL),
    )
    yield Compared("status", backend.health, lambda: command("ceph", "--format", "json", "status"))
    with cluster.admin.rados.open_ioctx(POOL) as ioctx:

        def bare_snapshot() -> None:
            with rbd.Image(ioctx, "volume-2") as image:
                image.create_snap(f"bare-{next(number)}")

        yield Compared(
            "new volume",
            lambda: backend.create_volume(POOL, f"ours-{next(number)}", SIZE_BYTES),
            lambda: command("rbd", "create", "--size", "1M", f"{POOL}/theirs-{next(number)}"),
            lambda: rbd.RBD().create(ioctx, f"bare-{next(number)}", SIZE_BYTES),
        )
        yield Compared(
            "snapshot",
            lambda: backend.create_snapshot(POOL, "volume-0", f"ours-{next(number)}"),  # type: ignore[attr-defined]
            lambda: command("rbd", "snap", "create", f"{POOL}/volume-1@theirs-{next(number)}"),
            bare_snapshot,
        )


def measured(each: Compared, rounds: int) -> tuple[tuple[str, ...], bool]:
    """A row of the table, and whether its budget is kept."""
    ours_ms, command_ms = median_ms(each.ours, rounds), median_ms(each.command, rounds)
    faster = command_ms / ours_ms
    row = (each.name, f"{ours_ms:.1f}", f"{command_ms:.1f}", f"{faster:.0f}")
    if each.library is None:
        return (*row, "-", f"{TIMES_FASTER:g} times faster"), faster >= TIMES_FASTER
    library_ms = median_ms(each.library, rounds)
    return (*row, f"{library_ms:.1f}", f"library x {TIMES_THE_LIBRARY:g}"), ours_ms <= TIMES_THE_LIBRARY * library_ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    if problem := packages.why_no_ceph():
        print(f"Ceph is not measured: {problem}")
        return 0
    columns = ("", "PVC: median ms", "command: median ms", "times faster", "library: median ms", "budget")
    table = Table(*columns, title="Ceph, three OSDs")
    missed = False
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as folder, CephCluster(Path(folder, "ceph")) as cluster:
        cluster.create_pool(POOL, placement_groups=32)
        backend = opened(cluster)
        for number in range(options.volumes):
            backend.create_volume(POOL, f"volume-{number}", SIZE_BYTES)
        for each in compared(cluster, backend):
            row, kept = measured(each, options.rounds)
            missed |= not kept
            table.add_row(*row)
    Console().print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
