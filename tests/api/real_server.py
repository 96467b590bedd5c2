# SPDX-License-Identifier: Apache-2.0
"""real_server: the API as it is in production: gunicorn as a process of its own, on a store, with a token for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from api_cluster import ApiProcess, Cluster, eventually

from pvc_api.authentication import Role
from pvc_lab.free_ports import free_port

START_S = 30.0


class RealServer:
    """`python -m pvc_api.server` with one worker."""

    def __init__(self, folder: Path, cluster: Cluster, plugins: str) -> None:
        self.port = free_port()
        self.log = folder / "server.log"
        file = folder / "server.toml"
        api = f'listen = "127.0.0.1:{self.port}"\nworkers = 1\nthreads = 8'
        file.write_text(f'[cluster]\nstore = "{cluster.url}"\n[api]\n{api}\n{plugins}')
        self._cluster = cluster
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pvc_api.server"],
                env={**os.environ, "PVC_CONFIG": str(file)},
                stderr=log,
                cwd=folder,
            )
        eventually(self._is_up, START_S)

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/v1/health").status_code == 200
        except httpx.TransportError:
            return False

    def token(self, role: Role) -> str:
        """The secret of a new token."""
        maker = ApiProcess(self._cluster.registry.open_store(self._cluster.url), self._cluster.registry)
        maker.connection.open()
        try:
            return maker.token(role)
        finally:
            maker.connection.close()

    @contextmanager
    def client(self, secret: str) -> Iterator[httpx.Client]:
        """A client that has this token, once the server knows it."""
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", headers=headers, timeout=60) as client:
            eventually(lambda: client.get("/vm").status_code == 200)
            yield client

    @property
    def worker(self) -> int:
        """The process that serves."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    @property
    def worker_rss_bytes(self) -> int:
        """What the worker has in memory."""
        pages = int(Path(f"/proc/{self.worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def end(self) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def real_server(folder: Path, cluster: Cluster, plugins: str) -> Iterator[RealServer]:
    """It, for a while. plugins: their sections of the configuration file."""
    server = RealServer(folder, cluster, plugins)
    try:
        yield server
    finally:
        server.end()
