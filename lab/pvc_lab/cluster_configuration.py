# SPDX-License-Identifier: Apache-2.0
"""cluster_configuration: the files that make programs on the lab's machines one cluster, and where they are.

Every machine has its own configuration file, and the API a certificate of its own, as after an installation by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from pvc_lab.hypervisor_host import LIBVIRT_PORT
from pvc_lab.lab import Lab

API_PORT = 7370
RESET_COMMAND = (sys.executable, "-m", "pvc_lab.host_reset")
"""Run on a host, it ends the host as a watchdog does."""
SERVICES = "services"
"""What the machine of the API is called among the nodes' names."""


class ClusterConfiguration:
    """`memory_mib`: what each node says it has. `store_options`: options of the store's URL, `session_timeout_s`."""

    def __init__(self, lab: Lab, *, workers: int, memory_mib: int, store_options: Mapping[str, object]) -> None:
        self._lab = lab
        self._workers = workers
        self._memory_mib = memory_mib
        self._store_options = dict(store_options)
        self.watchdogs_s: dict[str, float] = {}
        """The times of nodes' watchdogs, which reset their hosts; from their daemons' next start on."""

    @property
    def folder(self) -> Path:
        return self._lab.root / "configuration"

    @property
    def certificate_path(self) -> Path:
        return self.folder / "api-certificate.pem"

    @property
    def api_url(self) -> str:
        return f"https://{self._lab.services.address}:{API_PORT}"

    @property
    def store_url(self) -> str:
        options = f"?{urlencode(self._store_options)}" if self._store_options else ""
        return f"zookeeper://{self._lab.zookeeper.hosts}/pvc{options}"

    def path(self, host: str) -> Path:
        """Of a node's configuration file, or of the `SERVICES`."""
        return self.folder / f"{host}.toml"

    def environment(self, host: str) -> dict[str, str]:
        """With it a program on that host finds its configuration."""
        return {"PVC_CONFIG": str(self.path(host))}

    def write_node(self, node: str) -> None:
        """The file of a node, as its daemon reads it when it starts."""
        hypervisor = (
            f"qemu:///system?memory_mib={self._memory_mib}&cores=4"
            f"&migration_uri=qemu+tcp://{{address}}:{LIBVIRT_PORT}/system"
        )
        self._write(
            node,
            f'[cluster]\nstore = "{self.store_url}"\n'
            f'[node]\nname = "{node}"\naddress = "{self._lab.nodes[node].address}"\nhypervisor = "{hypervisor}"\n'
            f"{self._watchdog(node)}{self._storage}",
        )

    def _watchdog(self, node: str) -> str:
        command = json.dumps(RESET_COMMAND)
        section = f'[watchdog]\ndriver = "process"\ntimeout_s = {self.watchdogs_s.get(node)}\ncommand = {command}\n'
        return section if node in self.watchdogs_s else ""

    @property
    def _storage(self) -> str:
        return "" if self._lab.ceph is None else self._lab.ceph.configuration

    def write_api(self) -> None:
        """The file of the API."""
        self._write(
            SERVICES,
            f'[cluster]\nstore = "{self.store_url}"\n'
            f'[api]\nlisten = "{self._lab.services.address}:{API_PORT}"\nworkers = {self._workers}\n'
            f'tls_certificate = "{self.certificate_path}"\ntls_key = "{self._key_path}"\n'
            f"{self._storage}",
        )

    def make_certificate(self) -> None:
        """For the API's address, signed by itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        address = self._lab.services.address
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "30", "-subj", "/CN=pvc-lab", "-addext", f"subjectAltName=IP:{address}"),
                *("-keyout", str(self._key_path), "-out", str(self.certificate_path)),
            ],
            check=True,
            capture_output=True,
        )

    @property
    def _key_path(self) -> Path:
        return self.folder / "api-key.pem"

    def _write(self, host: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(host).write_text(text)
