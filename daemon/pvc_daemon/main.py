# SPDX-License-Identifier: Apache-2.0
"""main: `pvc-node`, the composition root of the node daemon: reads the configuration and names the drivers."""

from __future__ import annotations

import signal
import sys
import threading
from importlib.metadata import version

import click
import structlog

from pvc_core.configuration import Configuration, load_configuration
from pvc_core.errors import InvalidInput, PvcError, meaning_of
from pvc_core.logging_setup import set_up_logging
from pvc_core.plugin_types import HypervisorSite
from pvc_core.ports import Watchdog
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_daemon.addresses import NodeAddresses
from pvc_daemon.device_watchdog import DeviceWatchdog
from pvc_daemon.node_daemon import NodeDaemon
from pvc_daemon.process_watchdog import ProcessWatchdog
from pvc_daemon.single_instance import hold_instance_lock
from pvc_daemon.starting import start_when_possible

log = structlog.get_logger(__name__)


def build(configuration: Configuration) -> NodeDaemon:
    """The daemon with the drivers that the configuration names. Raises `PvcError` for what it cannot resolve."""
    registry = Registry.load(configuration.plugins.blocked, configuration.plugin)
    for problem in registry.problems:
        log.error("plugin_problem", problem=str(problem))
    store = registry.open_store(configuration.cluster.store)
    site = HypervisorSite(configuration.node.hypervisor, configuration.node_name, NodeAddresses(store).address_of)
    hypervisor = registry.open_hypervisor(site)
    watchdog = open_watchdog(configuration)
    return NodeDaemon(configuration, store, hypervisor, registry, SystemClock(), version("pvc"), watchdog=watchdog)


def open_watchdog(configuration: Configuration) -> Watchdog | None:
    """The watchdog that the configuration names, not armed yet; None without one. Raises `InvalidInput`."""
    section = configuration.watchdog
    match section.driver:
        case "device":
            return DeviceWatchdog(section.device)
        case "process":
            if not section.command:
                raise InvalidInput("watchdog.command", "the driver process needs a command that ends the host")
            return ProcessWatchdog(f"{configuration.cluster.store}\n{configuration.node_name}", section.command)
        case "":
            return None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="Configuration file [default: $PVC_CONFIG or /etc/pvc/pvc.toml].")
@click.version_option(version("pvc"), prog_name="pvc-node")
def main(config: str | None) -> None:
    """The node daemon: keeps this host's VMs as the cluster's store says they should be.

    SIGTERM stops it cleanly: the node is marked as left, and its guests run on.
    """
    try:
        configuration = load_configuration(config)
        set_up_logging(configuration.log.format, configuration.log.level)
        stopping = _stop_on_signals()
        with hold_instance_lock(configuration.node_name, configuration.cluster.store):
            _run(configuration, stopping)
    except PvcError as error:
        click.echo(f"pvc-node: {error.sentence()}", err=True)
        sys.exit(meaning_of(error).exit_code)


def _run(configuration: Configuration, stopping: threading.Event) -> None:
    daemon = start_when_possible(lambda: build(configuration), stopping)
    if daemon is not None:
        stopping.wait()
        daemon.stop()


def _stop_on_signals() -> threading.Event:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


if __name__ == "__main__":
    main()
