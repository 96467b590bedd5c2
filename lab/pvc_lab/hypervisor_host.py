# SPDX-License-Identifier: Apache-2.0
"""A hypervisor of the lab: a host that runs its own libvirtd, with real QEMU guests.

libvirtd can be killed and started without touching the guests, as on a real hypervisor: it is one
program of the host and the guests are others. Guests migrate peer to peer, over TCP without
authentication; nobody outside this machine can reach it, but every user of this machine can.
"""

from __future__ import annotations

import signal
import socket
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from pvc_lab.guest_processes import guests_in
from pvc_lab.host import Host, HostError
from pvc_lab.host_process import HostProcess
from pvc_lab.network import Network
from pvc_lab.processes import end_process, last_lines
from pvc_lab.waiting import wait_for

LIBVIRT_PORT = 16509

_CONFIGURATION_FOLDER = "/etc/libvirt"
_CACHE_FOLDER = "/var/cache/libvirt"
_DISK_FOLDERS = (_CONFIGURATION_FOLDER, _CACHE_FOLDER, "/var/lib/libvirt", "/var/log/libvirt")
_LIBVIRTD_CONFIGURATION = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{host_uuid}"
log_outputs = "3:stderr"
max_clients = 500
max_client_requests = 50
max_workers = 40
"""
# No cgroups, security labels or namespaces of QEMU's own: the lab's host has none to give.
_QEMU_CONFIGURATION = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
migration_address = "{address}"
migration_host = "{address}"
"""


class HypervisorHost(Host):
    """A host with libvirtd. Its UUID, given by its name and lab, is the same after every start."""

    def __init__(
        self,
        name: str,
        number: int,
        network: Network,
        runtime_dir: Path,
        folder: Path,
        *,
        capabilities_dir: Path,
        shared_files: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(
            name,
            number,
            network,
            runtime_dir,
            folder,
            disk_folders=_DISK_FOLDERS,
            shared_files=shared_files,
        )
        self.host_uuid = uuid.uuid5(uuid.NAMESPACE_OID, f"{network.prefix}/{name}")
        self._capabilities_dir = capabilities_dir
        self._libvirtd: HostProcess | None = None

    @property
    def libvirt_uri(self) -> str:
        """The address that other hosts and the outside use; lost when the cable is cut."""
        return f"qemu+tcp://{self.address}:{LIBVIRT_PORT}/system"

    @property
    def outside_libvirt_uri(self) -> str:
        """An address for the outside that does not need the cable: for watching what happens."""
        return f"qemu+unix:///system?socket={self.run_dir}/libvirt/libvirt-sock"

    def guest_processes(self) -> frozenset[str]:
        """UUIDs of the guests that have a process here, whatever libvirtd says."""
        return guests_in(self.namespace)

    @property
    def libvirtd_log_path(self) -> Path:
        return self.folder / "libvirtd.log"

    def power_on(self, *, deadline_s: float = 60.0) -> None:
        """Start the host and return when its libvirtd answers."""
        super().power_on(deadline_s=deadline_s)
        self.start_libvirtd(deadline_s=deadline_s)

    def power_off(self) -> None:
        super().power_off()
        self._libvirtd = None

    @property
    def libvirtd_runs(self) -> bool:
        """Whether the libvirtd that this program has started is there."""
        return self._libvirtd is not None and self._libvirtd.poll() is None

    def start_libvirtd(self, *, deadline_s: float = 60.0) -> None:
        """Start libvirtd and return when it answers and has found the guests that run."""
        self.launch_libvirtd()
        self.wait_for_libvirtd(deadline_s=deadline_s)

    def launch_libvirtd(self) -> None:
        """Start libvirtd and return at once, so that several can start together."""
        if self.libvirtd_runs:
            raise HostError(f"libvirtd of {self.name} runs already")
        self._write_configuration()
        copy_capabilities(self._capabilities_dir, self._own_capabilities_dir)
        self._libvirtd = self.spawn(["libvirtd", "--listen"], self.libvirtd_log_path)

    def wait_for_libvirtd(self, *, deadline_s: float = 60.0) -> None:
        """Return when libvirtd answers and knows its guests; HostError as soon as it has ended."""

        def answers() -> bool:
            if self._libvirtd is not None and self._libvirtd.poll() is not None:
                raise HostError(f"libvirtd of {self.name} ended:\n{last_lines(self.libvirtd_log_path)}")
            return _listens(self.run_dir / "libvirt/libvirt-sock")

        wait_for(answers, f"libvirtd of {self.name} answers", deadline_s=deadline_s)
        # It lists its guests before it has connected to them; their statistics wait for that.
        self._virsh("domstats", "--balloon")

    def learn_capabilities(self) -> None:
        """Have libvirt examine the QEMU binaries, and keep the result for other hosts and labs."""
        self._virsh("capabilities")
        copy_capabilities(self._own_capabilities_dir, self._capabilities_dir)

    def kill_libvirtd(self) -> None:
        """End libvirtd at once, as a crash would; guests go on running."""
        self._end_libvirtd(signal.SIGKILL)

    def stop_libvirtd(self) -> None:
        """End libvirtd in order; guests go on running."""
        self._end_libvirtd(signal.SIGTERM)

    def _virsh(self, *arguments: str) -> None:
        result = self.run(["virsh", "--connect", "qemu:///system", *arguments])
        if result.returncode != 0:
            raise HostError(f"virsh {' '.join(arguments)} on {self.name} failed:\n{result.output}")

    def _end_libvirtd(self, signal_number: int) -> None:
        if self._libvirtd is None:
            raise HostError(f"libvirtd of {self.name} was not started by this program")
        end_process(self._libvirtd, signal_number)

    @property
    def _own_capabilities_dir(self) -> Path:
        return self.disk_path(_CACHE_FOLDER) / "qemu/capabilities"

    def _write_configuration(self) -> None:
        folder = self.disk_path(_CONFIGURATION_FOLDER)
        values = {"address": self.address, "port": LIBVIRT_PORT, "host_uuid": self.host_uuid}
        (folder / "libvirtd.conf").write_text(_LIBVIRTD_CONFIGURATION.format(**values))
        (folder / "qemu.conf").write_text(_QEMU_CONFIGURATION.format(**values))


def copy_capabilities(source: Path, target: Path) -> None:
    """Copy what libvirt has found out about the QEMU binaries.

    libvirt itself checks it against the binaries, the kernel and its own version before it uses it.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.xml"):
        with tempfile.NamedTemporaryFile(dir=target, delete=False) as copy:
            copy.write(path.read_bytes())
        Path(copy.name).rename(target / path.name)  # at once: another lab may be reading it


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
