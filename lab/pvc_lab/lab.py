# SPDX-License-Identifier: Apache-2.0
"""A whole cluster on one machine: hypervisors, ZooKeeper, Ceph and a machine for the API, on one network.

Everything on disk is under one root folder: the hosts' disks, logs, consoles, and the plan of the
lab, by which another program finds it. What is in /run, in memory or in the kernel goes when the lab
goes down; logs and consoles stay for whoever wants to know what happened.
"""

from __future__ import annotations

import dataclasses
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from pvc_lab import guest_image, leftovers
from pvc_lab.guest import BOOTING_GUEST_MEMORY_MIB, Guest
from pvc_lab.guest_image import GuestImage
from pvc_lab.host import Host
from pvc_lab.host_process import HostProcess
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab_ceph import LabCeph
from pvc_lab.network import SERVICES_ADDRESS, Network
from pvc_lab.packages import cache_dir
from pvc_lab.plan import Plan
from pvc_lab.zookeeper import CLIENT_PORT, ZooKeeperServer
from pvc_lab.zookeeper_ensemble import ZooKeeperEnsemble

_PLAN_FILE = "lab.json"
_FIRST_MEMBER_ADDRESS = 241
_PRIVATE_TO_HOSTS = tuple(
    map(Path, ("/run", "/var/run", "/proc", "/sys", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt"))
)


class LabError(RuntimeError):
    """The lab is not in the state that the request needs."""


class Lab:
    """One cluster. In a root folder where a lab is up already, it is that lab, whoever started it.

    `nodes` is the number of hypervisors, named hv1, hv2, ...; `store_members` 1 is a standalone
    ZooKeeper on the machine of the services, 3 an ensemble on machines of its own (zk1, zk2, zk3).
    With `ceph` there is a Ceph cluster as well.
    """

    def __init__(self, root: Path, nodes: int = 3, *, store_members: int = 1, ceph: bool = False) -> None:
        self.root = _visible_on_hosts(root)
        self._build(Plan.read(self._plan_path) if self.is_up else Plan.new(nodes, store_members, ceph=ceph))

    def _build(self, plan: Plan) -> None:
        self.plan = plan
        self._runtime_dir = leftovers.RUNTIME_ROOT / plan.prefix
        self.network = Network(plan.prefix, self._runtime_dir, plan.subnet_number)
        self.nodes = {name: self._hypervisor(name, number) for number, name in enumerate(plan.node_names, start=1)}
        self.services = self._plain_host("services", SERVICES_ADDRESS)
        self.ceph = LabCeph(self.root / "ceph", self.services) if plan.ceph else None
        members = plan.store_members if plan.store_members > 1 else 0
        self.store_machines = {
            f"zk{index + 1}": self._plain_host(f"zk{index + 1}", _FIRST_MEMBER_ADDRESS + index)
            for index in range(members)
        }
        self.__dict__.pop("zookeeper", None)  # cached, and of the addresses before

    @property
    def is_up(self) -> bool:
        """Whether a lab is up in this root folder, or was when its program died."""
        return self._plan_path.exists()

    @cached_property
    def zookeeper(self) -> ZooKeeperServer | ZooKeeperEnsemble:
        """The cluster's store, as a process; its `hosts` is what clients connect to."""
        data_dir = self.root / "zookeeper"
        if not self.store_machines:
            return ZooKeeperServer(data_dir, self.services.address, CLIENT_PORT, self.services.spawn)
        machines = list(self.store_machines.values())
        return ZooKeeperEnsemble(data_dir, [m.address for m in machines], [m.spawn for m in machines])

    @cached_property
    def guest_image(self) -> GuestImage:
        """What guests boot; built on first use and cached for all labs."""
        return guest_image.build(_visible_on_hosts(cache_dir()))

    def guest(
        self,
        name: str,
        *,
        memory_mib: int = BOOTING_GUEST_MEMORY_MIB,
        vcpus: int = 1,
        stubborn: bool = False,
        shutdown_delay_s: int = 0,
    ) -> Guest:
        """A guest that boots and ticks on its console, ready to be defined."""
        return Guest(
            name,
            self.guest_image,
            self.console_path(name),
            memory_mib=memory_mib,
            vcpus=vcpus,
            stubborn=stubborn,
            shutdown_delay_s=shutdown_delay_s,
        )

    def console_path(self, vm: str) -> Path:
        """Where a guest's console goes, on whichever hypervisor it runs."""
        return self.root / "consoles" / f"{vm}.log"

    def log_path(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def up(self) -> None:
        """Start everything and return when it is usable; if that fails, nothing is left behind."""
        with self._alone():
            if self.is_up:
                raise LabError(f"a lab is up in {self.root}, or was left there: take it down first")
            try:
                self._start()
            except BaseException:
                self._remove()
                raise

    def _start(self) -> None:
        for folder in ("consoles", "logs"):
            (self.root / folder).mkdir(exist_ok=True)
        self.plan.write(self._plan_path)
        self._runtime_dir.mkdir()
        self.network.up()
        self.plan = dataclasses.replace(self.plan, subnet_number=self.network.subnet_number)
        self.plan.write(self._plan_path)
        self._hosts_file.write_text(self._host_names())
        for host in self._hosts():
            host.begin_power_on()
        for host in self._hosts():
            host.wait_until_on()
        self.zookeeper.launch()
        first, *others = self.nodes.values()
        first.start_libvirtd()
        first.learn_capabilities()  # seconds, where they are not known yet: once, not on every node
        for node in others:
            node.launch_libvirtd()
        if self.ceph is not None:
            self.ceph.start()
        for node in others:
            node.wait_for_libvirtd()
        self.zookeeper.wait_until_serving()

    def down(self) -> None:
        """End and remove everything but disks, logs and consoles. Can be repeated, also after a crash."""
        if self.is_up:
            with self._alone():
                self._remove()

    def _remove(self) -> None:
        if not self.is_up:
            return
        plan = Plan.read(self._plan_path)
        if plan.prefix != self.plan.prefix:  # another program has built it since
            self._build(plan)
        with ExitStack() as steps:  # run in reverse order, all of them, whichever fails
            steps.callback(leftovers.remove, self.plan.prefix)
            for host in self._hosts():
                steps.callback(host.power_off)
            if self.ceph is not None:
                steps.callback(self.ceph.stop)
        self._plan_path.unlink()
        self._build(dataclasses.replace(self.plan, subnet_number=None))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Held while a lab is built or removed, by one program at a time.

        Child processes hold it too while they make a namespace, so that none is made by the child
        of a program that was killed, after everything has been removed.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lab.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def spawn_on(
        self, node: str, argv: Sequence[str], env: Mapping[str, str] | None = None, *, name: str | None = None
    ) -> HostProcess:
        """Start a program on a hypervisor; it ends with the host's power at the latest.

        Its output goes to logs/NODE-NAME.log; `name` is the program's own unless given. `env` is
        added to this program's environment.
        """
        return self._spawn(self.nodes[node], argv, env, name)

    def spawn_service(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, name: str | None = None
    ) -> HostProcess:
        """Start a program, such as the API, on the machine of the services; else as spawn_on."""
        return self._spawn(self.services, argv, env, name)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    @property
    def _plan_path(self) -> Path:
        return self.root / _PLAN_FILE

    @property
    def _hosts_file(self) -> Path:
        return self.root / "etc-hosts"

    def _hosts(self) -> Iterator[Host]:
        yield self.services
        yield from self.store_machines.values()
        yield from self.nodes.values()

    def _host_names(self) -> str:
        lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in self._hosts())]
        return "\n".join(lines) + "\n"

    def _hypervisor(self, name: str, number: int) -> HypervisorHost:
        return HypervisorHost(
            name,
            number,
            self.network,
            self._runtime_dir,
            self.root / "hosts" / name,
            capabilities_dir=cache_dir() / "qemu-capabilities",
            shared_files={"/etc/hosts": self._hosts_file},
        )

    def _plain_host(self, name: str, number: int) -> Host:
        return Host(
            name,
            number,
            self.network,
            self._runtime_dir,
            self.root / "hosts" / name,
            shared_files={"/etc/hosts": self._hosts_file},
        )

    def _spawn(self, host: Host, argv: Sequence[str], env: Mapping[str, str] | None, name: str | None) -> HostProcess:
        return host.spawn(argv, self.log_path(f"{host.name}-{name or Path(argv[0]).name}"), env)


def _visible_on_hosts(path: Path) -> Path:
    """The resolved path; LabError if hosts have something of their own in its place."""
    resolved = path.resolve()
    hiding = next((folder for folder in _PRIVATE_TO_HOSTS if resolved.is_relative_to(folder)), None)
    if hiding is not None:
        raise LabError(f"{resolved} would not be seen on the hosts, which have a {hiding} of their own")
    return resolved
