# SPDX-License-Identifier: Apache-2.0
"""A whole PVC on the lab's real parts: node daemons on the hypervisors, the API with TLS beside ZooKeeper."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pvc_lab.api_health import is_serving
from pvc_lab.guest import Guest, empty_guest
from pvc_lab.guest_image import ticks
from pvc_lab.host_process import HostProcess
from pvc_lab.hypervisor_host import LIBVIRT_PORT
from pvc_lab.lab import Lab
from pvc_lab.processes import end_process, last_lines
from pvc_lab.tour_cluster import NODES, STARTUP_DEADLINE_S, ConsoleMark, make_admin_token, program
from pvc_lab.two_node_watch import TwoNodeWatch
from pvc_lab.waiting import wait_for

API_PORT = 7370
NODE_MEMORY_MIB = 2048
"""What each node says it has; in truth all share this machine."""
STOP_DEADLINE_S = 20.0


class RealCluster:
    """Lab and PVC together, in `root`. Where it is up already (`make lab-up`), `attach` instead of `up`."""

    kind = "real parts: ZooKeeper, libvirt, QEMU guests, the API under gunicorn with TLS"

    def __init__(
        self, root: Path, nodes: int = len(NODES), *, workers: int = 2, memory_mib: int = NODE_MEMORY_MIB
    ) -> None:
        self.lab = Lab(root, nodes)
        self._workers = workers
        self._memory_mib = memory_mib
        self._processes: dict[str, HostProcess] = {}
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
            self._make_certificate()
            for node in self.lab.nodes:
                self.start_daemon(node)
            self.start_api()
            self._token = make_admin_token(self.configuration_path("services"))
            self._access_path.write_text(json.dumps(dict(self.environment)))
            wait_for(self._is_ready, "every node to report", deadline_s=STARTUP_DEADLINE_S)
            self._watch = TwoNodeWatch({name: host.outside_libvirt_uri for name, host in self.lab.nodes.items()})
            self._watch.start()
        except BaseException:
            self.down()
            raise

    def attach(self) -> None:
        """Use the cluster that another program has brought up in this root."""
        self._token = json.loads(self._access_path.read_text())["PVC_API_TOKEN"]

    def down(self) -> None:
        """Stop PVC and take the lab down with all guests. Can be repeated, also after a crash."""
        if self._watch is not None:
            self._watch.close()
        for name in sorted(self._processes):
            self.stop(name)
        self.lab.down()
        self._access_path.unlink(missing_ok=True)

    def start_daemon(self, node: str) -> None:
        """Start a node's daemon on its host."""
        self._configuration_file(node, self._node_configuration(node))
        environment = {"PVC_CONFIG": str(self.configuration_path(node))}
        self._processes[node] = self.lab.spawn_on(node, [program("pvc-node")], environment, name="pvc-node")

    def start_api(self) -> None:
        """Start the API on the machine of the services."""
        self._configuration_file("services", self._api_configuration())
        environment = {"PVC_CONFIG": str(self.configuration_path("services"))}
        self._processes["api"] = self.lab.spawn_service([program("pvc-api")], environment, name="pvc-api")

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End a node's daemon or the "api": by SIGTERM, or SIGKILL."""
        import signal

        process = self._processes.pop(name)
        end_process(process, signal.SIGKILL if kill else signal.SIGTERM, deadline_s=STOP_DEADLINE_S)

    def process(self, name: str) -> HostProcess:
        """A node's daemon, or the "api"."""
        return self._processes[name]

    def _is_ready(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {last_lines(self.log_path(name))}")
        return is_serving(self.url, self._token, len(self.lab.nodes), str(self._certificate_path))

    # ------------------------------------------------------------------------------------ where

    @property
    def url(self) -> str:
        """Of the API."""
        return f"https://{self.lab.services.address}:{API_PORT}"

    @property
    def store_url(self) -> str:
        """Of the cluster's store."""
        return f"zookeeper://{self.lab.zookeeper.hosts}/pvc"

    @property
    def environment(self) -> Mapping[str, str]:
        """With it the `pvc` command reaches the API as an administrator."""
        return {
            "PVC_API_URL": self.url,
            "PVC_API_TOKEN": self._token,
            "PVC_API_CA": str(self._certificate_path),
            "PVC_CONFIG": str(self.configuration_path("services")),
            "XDG_CONFIG_HOME": str(self.lab.root),
        }

    def configuration_path(self, host: str) -> Path:
        """Of a node, or of "services"."""
        return self.lab.root / "configuration" / f"{host}.toml"

    def log_path(self, name: str) -> Path:
        """Of a node's daemon or of the "api"."""
        return self.lab.log_path("services-pvc-api" if name == "api" else f"{name}-pvc-node")

    @property
    def _certificate_path(self) -> Path:
        return self.lab.root / "configuration" / "api-certificate.pem"

    @property
    def _key_path(self) -> Path:
        return self.lab.root / "configuration" / "api-key.pem"

    @property
    def _access_path(self) -> Path:
        return self.lab.root / "access.json"

    def _make_certificate(self) -> None:
        self._certificate_path.parent.mkdir(parents=True, exist_ok=True)
        address = self.lab.services.address
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "30", "-subj", "/CN=pvc-lab", "-addext", f"subjectAltName=IP:{address}"),
                *("-keyout", str(self._key_path), "-out", str(self._certificate_path)),
            ],
            check=True,
            capture_output=True,
        )

    def _configuration_file(self, host: str, text: str) -> None:
        path = self.configuration_path(host)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _node_configuration(self, node: str) -> str:
        hypervisor = (
            f"qemu:///system?memory_mib={self._memory_mib}&cores=4"
            f"&migration_uri=qemu+tcp://{{address}}:{LIBVIRT_PORT}/system"
        )
        return (
            f'[cluster]\nstore = "{self.store_url}"\n'
            f'[node]\nname = "{node}"\naddress = "{self.lab.nodes[node].address}"\nhypervisor = "{hypervisor}"\n'
        )

    def _api_configuration(self) -> str:
        return (
            f'[cluster]\nstore = "{self.store_url}"\n'
            f'[api]\nlisten = "{self.lab.services.address}:{API_PORT}"\nworkers = {self._workers}\n'
            f'tls_certificate = "{self._certificate_path}"\ntls_key = "{self._key_path}"\n'
        )

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
        """See `TourCluster`."""
        return self.watch.found

    @property
    def watch(self) -> TwoNodeWatch:
        """Looks at all hypervisors from `up` to `down`."""
        if self._watch is None:
            raise RuntimeError("the cluster is not up, or was brought up by another program")
        return self._watch
