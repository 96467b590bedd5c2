# SPDX-License-Identifier: Apache-2.0
"""cluster_node: one node of a lab's cluster, a hypervisor and the daemon on it; every fault is one call.

Faults come from several sides at once, as in a machine room: a test pulls the power while the BMC switches it off and
the watchdog bites. So what changes the host's power is done one after the other.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from pvc_lab.bmc import Bmc, Power
from pvc_lab.cluster_configuration import ClusterConfiguration
from pvc_lab.host_bmc import host_bmc
from pvc_lab.host_process import HostProcess
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab import Lab
from pvc_lab.processes import end_process
from pvc_lab.tour_cluster import program

STOP_DEADLINE_S = 20.0
_LOG_NAME = "pvc-node"


class NodeError(RuntimeError):
    """A node is not in the state that the request needs."""


class ClusterNode:
    """A host that runs `pvc-node`. What the lab starts on it starts again with every boot."""

    def __init__(self, lab: Lab, name: str, configuration: ClusterConfiguration) -> None:
        self.name = name
        self._lab = lab
        self._configuration = configuration
        self._daemon: HostProcess | None = None
        self._power = threading.RLock()
        self._is_to_be_on = False
        self.boots = 0
        """How often it was switched on, or started again after a reset."""
        self._bmc: Bmc | None = None

    @property
    def host(self) -> HypervisorHost:
        """The machine."""
        return self._lab.nodes[self.name]

    @property
    def log_path(self) -> Path:
        """Of the daemon."""
        return self._lab.log_path(f"{self.name}-{_LOG_NAME}")

    # ------------------------------------------------------------------------------------------- power, cable

    def boot(self) -> None:
        """Switch the host on, with libvirtd and the daemon; nothing to do if it is on."""
        with self._power:
            self._is_to_be_on = True
            if not self.host.is_on:
                self.host.power_on()
                self._tell_bmc("on")
                self.start_daemon()
                self.boots += 1

    def power_off(self) -> None:
        """Pull the power: everything on the host is gone at once, unannounced; nothing to do if it is off."""
        with self._power:
            self._is_to_be_on = False
            self.host.power_off()
            self._daemon = None
            self._tell_bmc("off")

    def boot_after_reset(self) -> None:
        """Start the host again if its system has ended by itself, as a machine does that its watchdog has reset."""
        with self._power:
            if self._is_to_be_on and not self.host.is_on:
                self.host.power_off()  # what is left of it
                self.boot()

    def start_bmc(self) -> None:
        """Give the host a BMC, which switches it."""
        self._bmc = host_bmc(self._lab, self.name, self._switch)
        self._bmc.start()

    @property
    def bmc(self) -> Bmc:
        """The host's BMC, which breaks on its own: it hangs, dies, disobeys. Raises `NodeError` if it has none."""
        if self._bmc is None:
            raise NodeError(f"{self.name} has no BMC")
        return self._bmc

    def end(self) -> None:
        """End the BMC, and the daemon cleanly, if they are ours and there."""
        if self._bmc is not None:
            self._bmc.stop()
        if self.daemon_runs:
            self.continue_daemon()
            self.stop_daemon()

    def _switch(self, power: Power) -> None:
        if power == "on":
            self.boot()
        else:
            self.power_off()

    def _tell_bmc(self, power: Power) -> None:
        if self._bmc is not None:
            self._bmc.power = power

    def freeze(self) -> None:
        """Stop all that runs on the host (SIGSTOP), guests too, as a machine that hangs; see `RealCluster.freeze`."""
        with self._power:
            self.host.freeze()

    def thaw(self, *, daemon: bool = True) -> None:
        """Let a frozen host go on, as if no time had passed; without its daemon, if that is to hang on."""
        with self._power:
            hanging = () if daemon or self._daemon is None else (self._daemon.pid,)
            self.host.thaw(but=hanging)

    def cut_cable(self) -> None:
        """Let nothing in or out of the host until healed, not even across a boot; all goes on running, alone."""
        self.host.cut_cable()

    def heal_cable(self) -> None:
        """Plug the cable in again."""
        self.host.heal_cable()

    # --------------------------------------------------------------------------------------------- programs

    def start_daemon(self) -> None:
        """Start the node daemon."""
        with self._power:
            if self.daemon_runs:
                raise NodeError(f"the daemon of {self.name} runs already")
            self._is_to_be_on = True
            self._configuration.write_node(self.name)
            environment = self._configuration.environment(self.name)
            self._daemon = self._lab.spawn_on(self.name, [program("pvc-node")], environment, name=_LOG_NAME)

    @property
    def daemon_runs(self) -> bool:
        """Whether its process is there, be it paused."""
        return self._daemon is not None and self._daemon.poll() is None

    def stop_daemon(self) -> None:
        """End the daemon cleanly, by SIGTERM: it says that it leaves."""
        self._end_daemon(signal.SIGTERM)

    def restart_daemon(self) -> None:
        """End the daemon cleanly and start it, so that it reads its configuration again."""
        with self._power:
            self.stop_daemon()
            self.start_daemon()

    def kill_daemon(self) -> None:
        """End the daemon by SIGKILL: it says nothing; guests run on."""
        self._end_daemon(signal.SIGKILL)

    def pause_daemon(self) -> None:
        """Freeze the daemon (SIGSTOP): alive, and deaf and dumb, until `continue_daemon`."""
        self._running_daemon().send_signal(signal.SIGSTOP)

    def continue_daemon(self) -> None:
        """Let a paused daemon go on (SIGCONT), as if no time had passed; nothing happens if it died meanwhile."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGCONT)

    def kill_libvirtd(self) -> None:
        """End libvirtd by SIGKILL; guests run on."""
        self.host.kill_libvirtd()

    def start_libvirtd(self) -> None:
        """Start libvirtd and wait until it knows its guests."""
        self.host.start_libvirtd()

    # ------------------------------------------------------------------------------------------------- repair

    def make_whole(self) -> None:
        """Undo every fault: afterwards the BMC obeys, the cable is in, the host is on, libvirtd and the daemon run."""
        with self._power:
            self._mend_bmc()
            self.heal_cable()
            self.thaw()
            self.boot()
            self.continue_daemon()
            if not self.host.libvirtd_runs:
                self.start_libvirtd()
            if not self.daemon_runs:
                self.start_daemon()

    def _mend_bmc(self) -> None:
        if self._bmc is None:
            return
        self._bmc.ignore_commands(False)
        if self._bmc.process is None:
            self._bmc.start()
        else:
            self._bmc.speak()

    def _running_daemon(self) -> HostProcess:
        if self._daemon is None or self._daemon.poll() is not None:
            raise NodeError(f"the daemon of {self.name} does not run, or was started by another program")
        return self._daemon

    def _end_daemon(self, signal_number: int) -> None:
        end_process(self._running_daemon(), signal_number, deadline_s=STOP_DEADLINE_S)
        self._daemon = None
