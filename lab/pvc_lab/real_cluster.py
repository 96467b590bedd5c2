# SPDX-License-Identifier: Apache-2.0
"""A whole PVC on the lab's real parts: node daemons on the hypervisors, the API with TLS beside ZooKeeper."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from pvc_lab.api_health import is_serving
from pvc_lab.cluster_configuration import SERVICES, ClusterConfiguration
from pvc_lab.cluster_node import STOP_DEADLINE_S, ClusterNode
from pvc_lab.console_history import overlaps
from pvc_lab.guest import Guest, empty_guest
from pvc_lab.guest_image import ticks
from pvc_lab.host_bmc import BMC_PASSWORD, FENCE_AGENT, fence_parameters
from pvc_lab.host_process import HostProcess
from pvc_lab.lab import Lab
from pvc_lab.processes import end_process, last_lines
from pvc_lab.resets import Resets
from pvc_lab.tour_cluster import NODES, STARTUP_DEADLINE_S, ConsoleMark, make_admin_token, program, pvc
from pvc_lab.two_node_watch import TwoNodeWatch
from pvc_lab.waiting import wait_for

NODE_MEMORY_MIB = 2048
"""What each node says it has; in truth all share this machine."""


class RealCluster:
    """Lab and PVC together, in `root`. Where it is up already (`make lab-up`), `attach` instead of `up`.

    `store_members`: 3 is a ZooKeeper ensemble on machines of its own. `store_options`: of the store's URL. `bmcs`: each
    host has one, and boots again when its system has ended by itself, as after a reset. `ceph`: there is a cluster of
    it, and every machine is configured to use it.
    """

    kind = "real parts: ZooKeeper, libvirt, QEMU guests, the API under gunicorn with TLS"

    def __init__(
        self,
        root: Path,
        nodes: int = len(NODES),
        *,
        workers: int = 2,
        memory_mib: int = NODE_MEMORY_MIB,
        store_members: int = 1,
        store_options: Mapping[str, object] | None = None,
        bmcs: bool = False,
        ceph: bool = False,
    ) -> None:
        self.lab = Lab(root, nodes, store_members=store_members, ceph=ceph)
        self.configuration = ClusterConfiguration(
            self.lab, workers=workers, memory_mib=memory_mib, store_options=store_options or {}
        )
        self.nodes = {name: ClusterNode(self.lab, name, self.configuration) for name in self.lab.nodes}
        self._has_bmcs = bmcs
        self._resets: Resets | None = None
        self._api: HostProcess | None = None
        self._watch: TwoNodeWatch | None = None
        self._token = ""

    # ------------------------------------------------------------------------------------- life

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Start the lab and PVC on it; return when every node has reported and the API answers."""
        self.lab.up()
        try:
            self.configuration.make_certificate()
            for node in self.nodes.values():
                node.start_daemon()
            if self._has_bmcs:
                self._start_bmcs()
            self.start_api()
            self._token = make_admin_token(self.configuration.path(SERVICES))
            self._access_path.write_text(json.dumps(dict(self.environment)))
            wait_for(self._is_ready, "every node to report", deadline_s=STARTUP_DEADLINE_S)
            self._watch = TwoNodeWatch(
                {name: host.outside_libvirt_uri for name, host in self.lab.nodes.items()},
                {name: host.guest_processes for name, host in self.lab.nodes.items()},
            )
            self._watch.start()
        except BaseException:
            self.down()
            raise

    def attach(self) -> None:
        """Use the cluster that another program has brought up in this root."""
        self._token = json.loads(self._access_path.read_text())["PVC_API_TOKEN"]

    def down(self) -> None:
        """Stop PVC and take the lab down with all guests. Can be repeated, also after a crash."""
        if self._resets is not None:
            self._resets.close()
        for node in self.nodes.values():
            node.thaw()
        if self._watch is not None:
            self._watch.close()
        self.stop_api()
        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(ClusterNode.end, self.nodes.values()))
        self.lab.down()
        self._access_path.unlink(missing_ok=True)

    def _start_bmcs(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(ClusterNode.start_bmc, self.nodes.values()))
        self._resets = Resets(self.nodes.values())
        self._resets.start()

    def add_fence_devices(self) -> None:
        """Tell PVC of every node's BMC, as an operator does. Once `up`."""
        secret = self.configuration.folder / "bmc-password"
        secret.touch(mode=0o600)
        secret.write_text(BMC_PASSWORD)

        def add(node: ClusterNode) -> None:
            words = [f"{name}={value}" for name, value in fence_parameters(node.bmc).items()]
            options = [option for word in (*words, f"password=@{secret}") for option in ("-p", word)]
            result = pvc(["node", "fence-device", "add", node.name, FENCE_AGENT, *options], self.environment)
            if result.returncode != 0:
                raise RuntimeError(f"{node.name} got no fence device: {result.stderr.strip()}")

        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(add, self.nodes.values()))

    def freeze(self, node: str) -> None:
        """Let a host stand still with all that runs on it, guests too, until its node is thawed.

        `two_nodes` leaves it out until `watch.look_again`: what runs there after that may be shut out by its storage.
        """
        self.watch.leave_out(node)
        self.nodes[node].freeze()

    def make_whole(self) -> None:
        """Undo every fault of every node; VMs are where they are."""
        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(ClusterNode.make_whole, self.nodes.values()))

    def start_api(self) -> None:
        """Start the API on the machine of the services."""
        self.configuration.write_api()
        environment = self.configuration.environment(SERVICES)
        self._api = self.lab.spawn_service([program("pvc-api")], environment, name="pvc-api")

    def stop_api(self) -> None:
        """End the API by SIGTERM; nothing to do if it does not run."""
        if self._api is not None:
            end_process(self._api, signal.SIGTERM, deadline_s=STOP_DEADLINE_S)
            self._api = None

    def _is_ready(self) -> bool:
        if self._api is None or self._api.poll() is not None:
            raise RuntimeError(f"the API ended: {last_lines(self.lab.log_path('services-pvc-api'))}")
        for node in self.nodes.values():
            if not node.daemon_runs:
                raise RuntimeError(f"the daemon of {node.name} ended: {last_lines(node.log_path)}")
        return is_serving(self.url, self._token, len(self.nodes), str(self.configuration.certificate_path))

    # ------------------------------------------------------------------------------------ where

    @property
    def url(self) -> str:
        """Of the API."""
        return self.configuration.api_url

    @property
    def store_url(self) -> str:
        """Of the cluster's store."""
        return self.configuration.store_url

    @property
    def environment(self) -> Mapping[str, str]:
        """With it the `pvc` command reaches the API as an administrator."""
        return {
            "PVC_API_URL": self.url,
            "PVC_API_TOKEN": self._token,
            "PVC_API_CA": str(self.configuration.certificate_path),
            "PVC_CONFIG": str(self.configuration.path(SERVICES)),
            "XDG_CONFIG_HOME": str(self.lab.root),
        }

    @property
    def _access_path(self) -> Path:
        return self.lab.root / "access.json"

    # ------------------------------------------------------------------------------------- guests

    def guest(self, name: str, *, stubborn: bool = False) -> Guest:
        """A guest that boots and ticks."""
        return self.lab.guest(name, stubborn=stubborn)

    def definition(self, name: str, *, stubborn: bool = False) -> str:
        """See `TourCluster`."""
        return self.guest(name, stubborn=stubborn).xml()

    def empty_definition(self, name: str, memory_mib: int) -> str:
        """Of the cheapest guest there is: it boots nothing. For tests of placement."""
        return empty_guest(name, memory_mib).xml()

    def console(self, name: str) -> ConsoleMark:
        """See `TourCluster`."""
        seen = ticks(self.lab.console_path(name))
        return ConsoleMark(seen[-1].boot_id, seen[-1].count) if seen else ConsoleMark("", 0)

    def active_on(self, name: str) -> tuple[str, ...]:
        """See `TourCluster`."""
        uuid = str(self.guest(name).domain_uuid)
        return tuple(node for node in self.lab.nodes if uuid in self.watch.running_on(node))

    def active_uuids(self, node: str) -> frozenset[str]:
        """UUIDs of all domains on the node, also of one that is just arriving; past PVC."""
        return self.watch.active_on(node)

    def two_nodes(self) -> Sequence[str]:
        """See `TourCluster`. What the hypervisors showed while it happened, and what the consoles show afterwards."""
        consoles = sorted((self.lab.root / "consoles").glob("*.log"))
        return (*self.watch.found, *(f"{path.stem}: {fault}" for path in consoles for fault in overlaps(ticks(path))))

    @property
    def watch(self) -> TwoNodeWatch:
        """Looks at all hypervisors from `up` to `down`."""
        if self._watch is None:
            raise RuntimeError("the cluster is not up, or was brought up by another program")
        return self._watch
