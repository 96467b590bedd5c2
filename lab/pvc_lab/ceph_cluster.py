# SPDX-License-Identifier: Apache-2.0
"""Run a real Ceph cluster in a folder: monitors, one manager, and OSDs whose disks are sparse files.

Tests want one within seconds, several side by side, and daemons that they can kill, freeze and start again; the lab
wants it on the address of its bridge. All daemons run in the foreground as children and end with this program's `stop`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase

from pvc_lab import ceph_keys, processes
from pvc_lab.ceph_admin import CephAdmin, CephCommandError
from pvc_lab.ceph_configuration import CephSite, configuration
from pvc_lab.ceph_keys import CephUser, keyring
from pvc_lab.ceph_mgr_modules import make_modules
from pvc_lab.free_ports import free_port
from pvc_lab.processes import Process, Spawn, end_process, last_lines
from pvc_lab.starting import Startable
from pvc_lab.waiting import wait_for

GIB = 2**30
MONITOR, MANAGER = "mon.a", "mgr.x"


class CephError(RuntimeError):
    """A daemon or tool of the cluster failed; the message holds the end of its log."""


class CephCluster(Startable):
    """A cluster whose data stays in its folder from one start to the next.

    mons: how many monitors. host: the address that daemons listen on. port: the first monitor's (the next one is for
    the protocol's first version); None picks free ones, as for the others. spawn: starts a daemon; a lab passes one
    that starts it inside a namespace.
    """

    def __init__(
        self,
        folder: Path,
        osds: int = 3,
        *,
        mons: int = 1,
        host: str = "127.0.0.1",
        port: int | None = None,
        osd_bytes: int = 2 * GIB,
        spawn: Spawn = processes.spawn,
    ) -> None:
        self.folder = folder
        self.processes: dict[str, Process] = {}
        """The daemons by name, such as `osd.0`, that have been started."""
        self.admin = CephAdmin(self.conf_path)
        self.monitor_names = [f"mon.{letter}" for letter in ascii_lowercase[:mons]]
        """The monitors, as `kill` takes them."""
        ports = {
            name.partition(".")[2]: (free_port(host), free_port(host)) if port is None or number else (port, port + 1)
            for number, name in enumerate(self.monitor_names)
        }
        self._site = CephSite(folder, str(uuid.uuid4()), host, ports)
        self._osd_numbers = list(range(osds))
        self._osd_bytes = osd_bytes
        self._spawn = spawn

    @property
    def conf_path(self) -> Path:
        """What clients are given: it has the monitors' addresses and the administrator's keyring."""
        return self.folder / "ceph.conf"

    @property
    def keyring_path(self) -> Path:
        """The keys of the daemons and of `client.admin`."""
        return self.folder / "keyring"

    @property
    def osd_names(self) -> list[str]:
        """The OSDs, as `kill` takes them."""
        return [f"osd.{number}" for number in self._osd_numbers]

    # --------------------------------------------------------------------------------------- the whole cluster

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start all daemons and return once every OSD is up; if that fails, no process is left."""
        try:
            is_new = not self.conf_path.exists()
            if is_new:
                self._make()
            for name in (*self.monitor_names, MANAGER):
                self.launch(name)
            numbers = [str(number) for number in self._osd_numbers]
            if not is_new:
                # The monitor has not noticed that they were killed, and would go on believing that they are up.
                self.admin.command("osd down", ids=numbers)
            for name in self.osd_names:
                self.launch(name)
            self.wait_until_up(deadline_s=deadline_s)
            # The tickets of a connection older than the OSDs may be none that they accept.
            self.admin.stop()
            # An OSD on a file has no class by itself, and figures by class would be empty.
            self.admin.command("osd crush set-device-class", ids=numbers, class_="ssd")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all daemons at once; what is in the folder can be started again."""
        self.admin.stop()
        for name in list(self.processes):
            self.kill(name)

    def remove(self) -> None:
        """Stop, and forget the data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_until_up(self, *, deadline_s: float = 60.0) -> None:
        """Return once all OSDs are up; CephError as soon as a daemon has ended."""

        def all_up() -> bool:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise CephError(f"{name} ended:\n{last_lines(self.log_path(name))}")
            try:
                return bool(self.admin.command("osd stat")["num_up_osds"] >= len(self._osd_numbers))
            except (TimeoutError, CephCommandError):
                return False

        wait_for(all_up, "all OSDs are up", deadline_s=deadline_s)

    # --------------------------------------------------------------------------------------------- one daemon

    def launch(self, name: str) -> None:
        """Start a daemon, such as `osd.0`, and return at once."""
        kind, _, number = name.partition(".")
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            raise CephError(f"{name} is already running as process {process.pid}")
        argv = [f"ceph-{kind}", "-c", str(self.conf_path), "-f", "-i", number]
        self.processes[name] = self._spawn(argv, self.folder / f"{name}.out")

    def kill(self, name: str) -> None:
        """End a daemon at once (SIGKILL), frozen or not, as a crash would; nothing to do if it does not run."""
        self._end(name, signal.SIGKILL)

    def terminate(self, name: str) -> None:
        """End a daemon in order (SIGTERM)."""
        self._end(name, signal.SIGTERM)

    def freeze(self, name: str) -> None:
        """Let a daemon answer nobody (SIGSTOP) until `thaw`."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen daemon go on (SIGCONT)."""
        self.processes[name].send_signal(signal.SIGCONT)

    def log_path(self, name: str) -> Path:
        """What a daemon logs."""
        return self.folder / f"{name}.log"

    # ------------------------------------------------------------------------------------------------- OSDs

    def add_osd(self) -> str:
        """Make and start one more OSD; its name, once it is up."""
        number = max(self._osd_numbers, default=-1) + 1
        user = ceph_keys.osd(number)
        self._add_user(user)
        with self.keyring_path.open("a") as file:
            file.write(user.keyring())
        self._finish(f"osd.{number}", self._make_osd(number))
        self._osd_numbers.append(number)
        self.launch(f"osd.{number}")
        self.wait_until_up()
        return f"osd.{number}"

    def remove_osd(self, name: str) -> None:
        """Move an OSD's data to the others, then remove it with its disk."""
        number = int(name.partition(".")[2])
        self.admin.command("osd out", ids=[str(number)])
        wait_for(lambda: self._is_safe_to_destroy(number), f"{name} is safe to destroy")
        self.terminate(name)
        self.processes.pop(name, None)
        self.admin.command("osd down", ids=[str(number)])
        self.admin.command("osd purge", to="mgr", id=number, yes_i_really_mean_it=True)
        self._osd_numbers.remove(number)
        shutil.rmtree(self.folder / name)

    # ------------------------------------------------------------------------------------------ pools and users

    def create_pool(self, name: str, *, application: str = "rbd", placement_groups: int = 8) -> None:
        """A pool for RBD, or for another application; "" for none."""
        self.admin.command("osd pool create", pool=name, pg_num=placement_groups)
        if application:
            self.admin.command("osd pool application enable", pool=name, app=application)

    def remove_pool(self, name: str) -> None:
        """A pool with all that is in it."""
        self.admin.command("osd pool delete", pool=name, pool2=name, yes_i_really_really_mean_it=True)

    def create_user(self, name: str, caps: Mapping[str, str]) -> Path:
        """A user `client.NAME` with these capabilities, such as `{"mon": "profile rbd"}`; the file with its key."""
        user = CephUser(f"client.{name}", caps)
        self._add_user(user)
        path = self.folder / f"client.{name}.keyring"
        path.write_text(user.keyring())
        path.chmod(0o600)
        return path

    # ----------------------------------------------------------------------------------------------- making

    def _make(self) -> None:
        """The data of all daemons, as before the first start."""
        for name in (*self.monitor_names, MANAGER, "crash"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        osds = [ceph_keys.osd(number) for number in self._osd_numbers]
        manager = ceph_keys.manager(MANAGER.partition(".")[2])
        self.keyring_path.write_text(keyring([ceph_keys.monitors(), ceph_keys.admin(), manager, *osds]))
        self.keyring_path.chmod(0o600)
        text = configuration(
            self._site,
            copies=max(1, len(self._osd_numbers)),
            osd_bytes=self._osd_bytes,
            mgr_modules=make_modules(self.folder / "mgr-modules"),
        )
        self.conf_path.write_text(text)
        made = {number: self._make_osd(number) for number in self._osd_numbers}
        try:
            self._make_monitors()
        finally:
            for number, making in made.items():
                self._finish(f"osd.{number}", making)

    def _make_monitors(self) -> None:
        site, monitors = self._site, str(self.folder / "monmap")
        addresses = [word for each in site.monitor_addresses.items() for word in ("--addv", *each)]
        self._tool("monmaptool", "--create", "--fsid", site.fsid, *addresses, monitors)
        for name in site.monitors:
            self._tool("ceph-mon", "--mkfs", "-i", name, "--monmap", monitors, "--keyring", str(self.keyring_path))

    def _make_osd(self, number: int) -> subprocess.Popen[bytes]:
        folder = self.folder / f"osd.{number}"
        folder.mkdir()
        argv = ["ceph-osd", "-c", str(self.conf_path), "-i", str(number), "--no-mon-config", "--mkfs"]
        return processes.spawn([*argv, "--osd-uuid", str(uuid.uuid4())], self.folder / f"osd.{number}.out")

    def _finish(self, name: str, making: subprocess.Popen[bytes]) -> None:
        if making.wait() != 0:
            raise CephError(f"{name} cannot be made:\n{last_lines(self.folder / f'{name}.out')}")

    def _tool(self, program: str, *arguments: str) -> None:
        argv = [program, "-c", str(self.conf_path), *arguments]
        result = subprocess.run(argv, env=os.environ, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CephError(f"{program} failed: {result.stderr}")

    def _add_user(self, user: CephUser) -> None:
        self.admin.command("auth import", data=user.keyring().encode())

    def _is_safe_to_destroy(self, number: int) -> bool:
        answer = self.admin.command("osd safe-to-destroy", ids=[str(number)])
        return number in answer["safe_to_destroy"]

    def _end(self, name: str, signal_number: int) -> None:
        process = self.processes.get(name)
        if process is not None:
            end_process(process, signal_number)
