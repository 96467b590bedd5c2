# SPDX-License-Identifier: Apache-2.0
"""server: `pvc-api` (or `python -m pvc_api.server`): the API under gunicorn, with threaded workers.

Listens on loopback unless told otherwise; anything else needs TLS, because tokens travel in every request. Stops
within two seconds of SIGTERM, also when clients wait for something.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from types import FrameType
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.workers.gthread import ThreadWorker

from pvc_api.wsgi import Serving, serve
from pvc_core.configuration import ApiSection, Configuration, load_configuration
from pvc_core.errors import InvalidInput, PvcError, meaning_of
from pvc_core.logging_setup import set_up_logging

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 2
IDLE_CONNECTION_LINGER_S = 0.2
KEEP_ALIVE_S = 15


class Worker(ThreadWorker):  # type: ignore[misc]
    """A threaded worker that does not wait for those who wait."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: held answers go out now, so that the worker can end."""
        self.app.stop_waiting()
        super().handle_exit(sig, frame)

    def finish_request(self, *arguments: Any) -> None:
        """A request is answered: its connection, too, is not kept for long once the worker is to end."""
        super().finish_request(*arguments)
        if not self.alive:
            self._cap_keepalive(time.monotonic())

    def _cap_keepalive(self, deadline: float) -> None:
        """Idle connections are closed soon once the worker is to end; gunicorn would keep them for two seconds."""
        soon_s = time.monotonic() + IDLE_CONNECTION_LINGER_S
        for connection in self.keepalived_conns:
            connection.timeout = min(connection.timeout, soon_s)


class ApiServer(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by PVC's own file. Everything else is built in the workers."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._serving: Serving | None = None
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn: hand over our settings."""
        for name, value in gunicorn_settings(self._configuration.api).items():
            self.cfg.set(name, value)
        self.cfg.set("worker_exit", lambda _arbiter, _worker: self.close())
        if "control_socket_disable" in self.cfg.settings:  # since gunicorn 25
            self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        """Called by gunicorn in each worker, after the fork."""
        try:
            self._serving = serve(self._configuration)
        except PvcError as error:
            raise AppImportError(error.sentence()) from error
        log.info("worker_started", pid=os.getpid(), listen=self._configuration.api.listen)
        return self._serving.app

    def stop_waiting(self) -> None:
        """Answer all held requests of this worker."""
        if self._serving is not None:
            self._serving.stop_waiting()

    def close(self) -> None:
        """The worker ends."""
        if self._serving is not None:
            self._serving.close()
            log.info("worker_stopped", pid=os.getpid())


def gunicorn_settings(api: ApiSection) -> Mapping[str, object]:
    """The [api] section in gunicorn's words. Raises `InvalidInput` for an address that would be served in clear."""
    check_address(api)
    return {
        "bind": [api.listen],
        "workers": api.workers,
        "threads": api.threads,
        "worker_class": Worker,
        "preload_app": False,
        "graceful_timeout": STOP_WITHIN_S,
        "keepalive": KEEP_ALIVE_S,
        "certfile": api.tls_certificate or None,
        "keyfile": api.tls_key or None,
        "loglevel": "warning",
    }


def check_address(api: ApiSection) -> None:
    """Refuse to carry tokens over a network in clear, and what is no address. Raises `InvalidInput`."""
    if bool(api.tls_certificate) != bool(api.tls_key):
        missing = "tls_key" if api.tls_certificate else "tls_certificate"
        raise InvalidInput(f"api.{missing}", "is required: certificate and key go together")
    for field, file in (("tls_certificate", api.tls_certificate), ("tls_key", api.tls_key)):
        if file and not os.access(file, os.R_OK):
            raise InvalidInput(f"api.{field}", "is not a file that can be read", file)
    if is_loopback(api.listen) or api.tls_certificate or api.insecure:
        return
    raise InvalidInput(
        "api.listen",
        "is not a loopback address, so tokens would cross the network in clear",
        api.listen,
        ("a loopback address", "tls_certificate and tls_key", "insecure = true, if something in front does TLS"),
    )


def is_loopback(listen: str) -> bool:
    """Whether an address can be reached from this machine only. Raises `InvalidInput` for one that is none."""
    if listen.startswith("unix:"):
        return True
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise InvalidInput(
            "api.listen", "is not an address", listen, ("host:port", "[IPv6 address]:port", "unix:/path")
        )
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="pvc-api", description="The PVC API.")
    parser.add_argument("--config", metavar="FILE", help="configuration [default: $PVC_CONFIG or /etc/pvc/pvc.toml]")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('pvc')}")
    arguments = parser.parse_args()
    try:
        configuration = load_configuration(arguments.config)
        check_address(configuration.api)
    except PvcError as error:
        sys.stderr.write(f"pvc-api: {error.sentence()}\n")
        sys.exit(meaning_of(error).exit_code)
    set_up_logging(configuration.log.format, configuration.log.level)
    ApiServer(configuration).run()


if __name__ == "__main__":
    main()
