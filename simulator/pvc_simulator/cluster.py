# SPDX-License-Identifier: Apache-2.0
"""cluster: a whole simulated cluster: hosts with node daemons, their store, and an operator who gives commands.

It begins as a snapshot file describes it: what is to run runs, on the hosts that have power.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import Random
from uuid import UUID

from lxml import etree

from pvc_core import layout
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands, Outcome
from pvc_core.errors import PvcError
from pvc_core.fence_devices import NodeFenceDevices, NumberedDevice
from pvc_core.fencing import FenceDevice
from pvc_core.host_shutdown import Policy
from pvc_core.journal import Journal, Notes
from pvc_core.model import VmRecord, VmState
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.ports import Create, Hypervisor
from pvc_core.registry import Registry
from pvc_core.snapshot_file import SnapshotFile, snapshot_of
from pvc_simulator.faulty_plugins import FaultyPlugins
from pvc_simulator.fence_devices import AGENT, SimulatedFenceAgent, SimulatedFencing
from pvc_simulator.guests import GuestBehaviour, SimulatedDomain
from pvc_simulator.machine import Machine, MachineShape
from pvc_simulator.node_program import NodeProgram, Site
from pvc_simulator.observer import Observer
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.simulated_hypervisor import SimulatedHypervisor
from pvc_simulator.simulated_store import SimulatedStore
from pvc_simulator.store_server import StoreServer
from pvc_simulator.virtual_threads import VirtualClock, VirtualThreads

OPERATOR = "operator"
MESSENGERS = ("webhook", "mail")
"""Plugins that would tell real people of what only happens in a simulation."""
OPERATOR_PATIENCE_S = 15.0
"""After so long without the store a command is refused."""


class SimulatedCluster:
    """Hosts, store and operator. Everything random comes from `seed`."""

    def __init__(self, file: SnapshotFile, seed: int = 0, plugins: Sequence[str] = ()) -> None:
        """`plugins`: the names of those that are to raise or hang some time."""
        self.scheduler = Scheduler()
        self.random = Random(seed)
        self.file = file
        self.server = StoreServer(self.scheduler, self.random)
        self.behaviours: dict[str, GuestBehaviour] = {}
        self.observer = Observer(lambda: self.scheduler.now_s)
        self.machines = {
            name: Machine(
                MachineShape(name, entry.memory_mib, entry.cores, entry.fence, entry.load_1m),
                self.scheduler,
                self.random,
            )
            for name, entry in file.nodes.items()
        }
        self.programs: dict[str, NodeProgram] = {}
        self.clocks = {name: VirtualClock(self.scheduler) for name in file.nodes}
        self._is_enabled = {name: entry.daemon == "on" for name, entry in file.nodes.items()}
        self._runs = 0
        self._is_beginning = True
        """The daemons with which a run begins have been there for long."""
        own = tuple(each for each in installed_plugins([]) if each.is_our_own and each.name not in MESSENGERS)
        self.plugins = FaultyPlugins(self.scheduler, plugins, own)
        self._found = tuple(self.plugins.plugins())
        self._operator = Process(self.scheduler, OPERATOR)
        self._operator_clock = VirtualClock(self.scheduler)
        self.commands: Commands | None = None

    # ------------------------------------------------------------------------------------------ the beginning

    def begin(self) -> None:
        """Write the records, start what runs, and let the operator and the daemons in."""
        self._write_records()
        tree = self.server.tree
        parents = (layout.NODES, layout.VMS, layout.RULES, layout.DEFINITIONS)
        keys = [layout.SETTINGS, *(key for parent in parents for key in tree.child_keys(parent))]
        self.observer.begin([found.entry for key in keys if (found := tree.stamped(key))])
        self.server.listen(self.observer.committed)
        for name, machine in self.machines.items():
            machine.on_booted = partial(self._booted, name)
            machine.on_power_lost = partial(self.kill_daemon, name)
            machine.on_link = partial(self._link_changed, name)
        for name, entry in self.file.nodes.items():
            if entry.power == "on":
                self.machines[name].power_on(boot_s=0.0)
        self.scheduler.run_until(0.0)
        self._is_beginning = False
        self._operator.spawn("session", self._let_operator_in)

    def _write_records(self) -> None:
        snapshot = snapshot_of(self.file)
        tree = self.server.tree
        for key in layout.DIRECTORIES:
            tree.apply([Create(key, b"")], "")
        tree.apply([Create(layout.SETTINGS, encode(self.file.settings))], "")
        if snapshot.maintenance is not None:
            tree.apply([Create(layout.MAINTENANCE, encode(snapshot.maintenance.value))], "")
        for rule in snapshot.rules.values():
            tree.apply([Create(rule.key, encode(rule.value))], "")
        for name, node in snapshot.nodes.items():
            tree.apply([Create(layout.node(name), encode(node.record.value))], "")
            tree.apply([Create(layout.ledger(name), encode(node.reserved))], "")
            if self.file.nodes[name].fence != "none":
                devices = NodeFenceDevices(devices=(NumberedDevice(1, FenceDevice(AGENT)),), last_number=1)
                tree.apply([Create(layout.fence_devices(name), encode(devices))], "")
        for stored in snapshot.vms.values():
            self._write_vm(stored.value)

    def _write_vm(self, record: VmRecord) -> None:
        definition = domain_xml(record.name, record.uuid, record.memory_mib, record.vcpus)
        self.server.tree.apply(
            [
                Create(layout.vm(record.uuid), encode(record)),
                Create(layout.definition(record.uuid), definition.encode()),
                Create(layout.vm_name(record.name), record.uuid.encode()),
            ],
            "",
        )
        behaviour = GuestBehaviour.of(self.file.vms[record.name].faults)
        self.behaviours[record.name] = behaviour
        machine = self.machines[record.node]
        if record.state is VmState.RUNNING and self.file.nodes[record.node].power == "on":
            domain = SimulatedDomain(record.uuid, record.name, definition, record.memory_mib, record.vcpus, behaviour)
            machine.domains[record.uuid] = domain

    def _let_operator_in(self) -> None:
        store = SimulatedStore(
            self.server, self.scheduler, self.random, self._operator, self._operator_clock, lambda: True
        )
        store.start()
        threads = VirtualThreads(self.scheduler, self._operator)
        journal = Journal(self._operator_clock, lambda: OPERATOR, OPERATOR)
        view = ClusterView(store, self._operator_clock, journal, threads)
        view.start()
        notes = Notes(store, journal, self._operator_clock, threads)
        self.commands = Commands(view, store, self._registry(threads), self._operator_clock, notes.plugin_failed)

    # ------------------------------------------------------------------------------------------ daemons

    def _booted(self, name: str) -> None:
        if self._is_enabled[name]:
            self.start_daemon(name)

    def start_daemon(self, name: str) -> None:
        """Start the host's node daemon, now and whenever the host boots."""
        self._is_enabled[name] = True
        machine = self.machines[name]
        if name in self.programs or machine.hypervisor is None:
            return
        self._runs += 1
        site = Site(
            machine,
            self.file.nodes[name].labels,
            self.file.nodes[name].watchdog,
            self.clocks[name],
            self.server,
            self.scheduler,
            self.random,
            self._registry,
            partial(self._hypervisor, machine),
            -inf if self._is_beginning else None,
        )
        self.programs[name] = NodeProgram(site, self._runs)

    def stop_daemon(self, name: str) -> None:
        """Stop it cleanly; it does not come back when the host boots."""
        self._is_enabled[name] = False
        program = self.programs.get(name)
        if program is not None:
            program.stop(when_done=lambda: self._ended(name, program))

    def take_host_down(self, name: str, policy: Policy) -> None:
        """Shut the host down by plan: its daemon deals with the guests and leaves, then the power is off."""
        program, machine = self.programs.get(name), self.machines[name]

        def halt() -> None:
            if program is None or self.programs.get(name) is program:
                machine.power_off()

        if program is None:
            halt()
        else:
            program.go_down(policy, when_done=halt)

    def kill_daemon(self, name: str) -> None:
        """End it without a word."""
        program = self.programs.pop(name, None)
        if program is not None:
            program.kill()

    def _ended(self, name: str, program: NodeProgram) -> None:
        if self.programs.get(name) is program:
            self.kill_daemon(name)

    def _link_changed(self, name: str) -> None:
        if name in self.programs:
            self.programs[name].link_changed()

    @property
    def leader(self) -> str:
        """The node whose daemon holds the leadership in the store, "" when none does."""
        for name, program in self.programs.items():
            if program.leads:
                return name
        return ""

    def _hypervisor(self, machine: Machine, process: Process) -> Hypervisor:
        return SimulatedHypervisor(machine, self.machines, self.behaviours, process, self.scheduler, self.random)

    def _registry(self, threads: VirtualThreads) -> Registry:
        fencing = SimulatedFencing(SimulatedFenceAgent(self.machines, self.scheduler, self.random))
        found = [*self._found, FoundPlugin("simulated-fencing", lambda: fencing)]
        return Registry(found, clock=self._operator_clock, threads_of=threads.plugin_threads)

    # ------------------------------------------------------------------------------------------ the operator

    def command(self, text: str, give: Callable[[Commands], Outcome | object]) -> None:
        """Have the operator give a command; that it is refused is noted, with the reason."""
        self._operator.spawn(text, partial(self._give, text, give))

    def _give(self, text: str, give: Callable[[Commands], Outcome | object]) -> None:
        if self.commands is None:
            self.scheduler.sleep(OPERATOR_PATIENCE_S)
        try:
            if self.commands is None:
                raise RuntimeError("the operator has not been let in")
            give(self.commands)
        except PvcError as error:
            self.observer.refused(text, error.sentence())

    def shown_node(self, name: str) -> dict[str, str]:
        """What an operator sees of a node: its mode and liveness."""
        record = self.observer.records.nodes[name]
        alive = self.server.tree.stamped(layout.member(name)) is not None
        return {"mode": record.mode.value, "liveness": "alive" if alive else "left" if record.left else "lost"}

    def trouble(self, node: str) -> None:
        """Note that something happens to the node now that may cost it its VMs."""
        self.observer.trouble(node)

    def new_uuid(self) -> str:
        """One that the seed determines."""
        return str(UUID(int=self.random.getrandbits(128), version=4))


def domain_xml(name: str, uuid: str, memory_mib: int, vcpus: int) -> str:
    """A definition of that size."""
    domain = etree.Element("domain", type="simulated")
    etree.SubElement(domain, "name").text = name
    if uuid:
        etree.SubElement(domain, "uuid").text = uuid
    etree.SubElement(domain, "memory", unit="MiB").text = str(memory_mib)
    etree.SubElement(domain, "vcpu").text = str(vcpus)
    return etree.tostring(domain, encoding="unicode")
