# SPDX-License-Identifier: Apache-2.0
"""listing: the list of 1 000 and 10 000 VMs on one real ZooKeeper: from a warm API, and by a command from cold.

Budgets: 1 000 VMs in 20 ms from a warm API (gunicorn, one worker, loopback HTTP) and in 1 s from cold (a whole
`pvc vm list -o json`: interpreter, session, reading everything). The reference in the same run is the plain way to
read the same records: one request after the other.

    python benchmarks/listing.py [--sizes 1000 10000] [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from pvc_core import layout
from pvc_core.codec import encode
from pvc_core.model import Ledger, Reservation
from pvc_core.ports import ClusterStore, Create
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_vm
from pvc_lab.free_ports import free_port
from pvc_lab.processes import end_process, spawn
from pvc_lab.tour_cluster import make_admin_token, program
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper import ZooKeeperServer

BUDGETS_MS = {(1000, "warm API"): 20.0, (1000, "cold process"): 1000.0}
NODES = 32
BATCH = 100


def fill(store: ClusterStore, size: int) -> None:
    """That many running VMs, spread over the nodes, with definitions, names and ledgers."""
    store.ensure(layout.DIRECTORIES)
    names = [f"hv{number:02}" for number in range(NODES)]
    vms = [a_vm(f"vm{number:05}", node=names[number % NODES], memory_mib=1024) for number in range(size)]
    ops: list[Create] = []
    for name in names:
        view = a_node(name, memory_mib=1_048_576, cores=64)
        assert view.report is not None
        held = {vm.uuid: Reservation(memory_mib=vm.memory_mib, vcpus=vm.vcpus) for vm in vms if vm.node == name}
        ops.append(Create(layout.node(name), encode(view.record.value)))
        ops.append(Create(layout.report(name), encode(view.report.value)))
        ops.append(Create(layout.ledger(name), encode(Ledger(vms=held))))
    for vm in vms:
        ops.append(Create(layout.vm(vm.uuid), encode(vm)))
        ops.append(Create(layout.vm_name(vm.name), vm.uuid.encode()))
    for start in range(0, len(ops), BATCH):
        store.transaction(ops[start : start + BATCH])


def median_ms(action: Callable[[], object], rounds: int) -> float:
    """The median time of an action."""
    taken: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


@contextmanager
def an_api(folder: Path, store_url: str) -> Iterator[tuple[str, str, Path]]:
    """A serving API with one worker: its URL, a token, and the configuration file."""
    port = free_port()
    configuration = folder / "pvc.toml"
    configuration.write_text(
        f'[cluster]\nstore = "{store_url}"\n[api]\nlisten = "127.0.0.1:{port}"\nworkers = 1\n[log]\nlevel = "error"\n'
    )
    environment = {**os.environ, "PVC_CONFIG": str(configuration)}
    process = spawn([program("pvc-api")], folder / "api.log", environment)
    try:
        token = make_admin_token(configuration)
        url = f"http://127.0.0.1:{port}/api/v1"
        headers = {"Authorization": f"Bearer {token}"}
        wait_for(lambda: answers(f"{url}/vm", headers), "the API", deadline_s=120)
        yield url, token, configuration
    finally:
        end_process(process, 15)


def answers(url: str, headers: dict[str, str]) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=60, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def measure(size: int, rounds: int) -> dict[str, float]:
    """Milliseconds by kind of list, for a cluster of this size."""
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as name, ZooKeeperServer(Path(name, "zk")) as zookeeper:
        folder = Path(name)
        store_url = f"zookeeper://{zookeeper.hosts}/pvc"
        store = Registry.load().open_store(store_url)
        store.start()
        fill(store, size)
        keys = [layout.vm(uuid) for uuid in store.children(layout.VMS)]
        results = {"reference: one get after the other": median_ms(lambda: [store.get(key) for key in keys], 3)}
        results["pipelined read of all records"] = median_ms(lambda: store.get_many(keys), 3)
        store.close()
        with an_api(folder, store_url) as (url, token, configuration):
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(headers=headers, timeout=120, trust_env=False) as client:
                assert len(client.get(f"{url}/vm").json()["vms"]) == size
                results["warm API"] = median_ms(lambda: client.get(f"{url}/vm"), rounds)
            results["cold process"] = median_ms(lambda: list_from_cold(configuration, folder), 5)
    return results


def list_from_cold(configuration: Path, folder: Path) -> None:
    environment = {**os.environ, "PVC_CONFIG": str(configuration), "XDG_CONFIG_HOME": str(folder), "PVC_API_URL": ""}
    command = [program("pvc"), "vm", "list", "-o", "json"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    table = Table("VMs", "list", "median ms", "budget ms", title="Listing, on one ZooKeeper")
    missed = False
    for size in options.sizes:
        for kind, taken_ms in measure(size, options.rounds).items():
            budget_ms = BUDGETS_MS.get((size, kind))
            missed |= budget_ms is not None and taken_ms > budget_ms
            table.add_row(str(size), kind, f"{taken_ms:.1f}", f"{budget_ms:g}" if budget_ms else "-")
    Console().print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
