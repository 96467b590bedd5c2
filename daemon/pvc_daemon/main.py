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
from pvc_core.host_shutdown import Policy
from pvc_core.logging_setup import set_up_logging
from pvc_core.plugin_types import HypervisorSite
from pvc_core.ports import Watchdog
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_daemon.addresses import NodeAddresses
from pvc_daemon.device_watchdog import DeviceWatchdog
from pvc_daemon.going_down import host_goes_down
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
@click.option(
    "--on-shutdown",
    type=click.Choice(["leave", "flush", "shutdown"]),
    help="What SIGTERM does first when the host goes down [default: `[node] on_shutdown`, else leave].",
)
@click.version_option(version("pvc"), prog_name="pvc-node", message="%(prog)s %(version)s")
def main(config: str | None, on_shutdown: Policy | None) -> None:
    """The node daemon: keeps this host's VMs as the cluster's store says they should be.

    SIGTERM stops it cleanly: the node is marked as left, and its guests run on. When systemd shuts the whole host down,
    `flush` drains the node first, and `shutdown` shuts its guests down, the least important first, and holds them until
    the node is back; a second SIGTERM ends the waiting. A restart of the service alone touches no guest.
    """
    try:
        configuration = load_configuration(config)
        set_up_logging(configuration.log.format, configuration.log.level)
        signals = _Signals()
        policy = on_shutdown or configuration.node.on_shutdown
        with hold_instance_lock(configuration.node_name, configuration.cluster.store):
            _run(configuration, policy, signals)
    except PvcError as error:
        click.echo(f"pvc-node: {error.sentence()}", err=True)
        sys.exit(meaning_of(error).exit_code)


def _run(configuration: Configuration, policy: Policy, signals: _Signals) -> None:
    daemon = start_when_possible(lambda: build(configuration), signals.stopping)
    if daemon is None:
        return
    signals.stopping.wait()
    if policy != "leave" and signals.was_term and host_goes_down():
        daemon.go_down(policy, configuration.node.on_shutdown_deadline_s, signals.hurried.is_set)
    else:
        daemon.stop()


class _Signals:
    """What SIGTERM and SIGINT ask for: to stop, and when they come again, to hurry."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.hurried = threading.Event()
        self.was_term = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def _heard(self, number: int, _frame: object) -> None:
        if self.stopping.is_set():
            self.hurried.set()
        self.was_term = number == signal.SIGTERM
        self.stopping.set()


if __name__ == "__main__":
    main()
