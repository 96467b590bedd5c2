# SPDX-License-Identifier: Apache-2.0
"""deeds: everything that a line of a script can do, in one table: to hosts, store and guests, and as the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import msgspec

from pvc_core.commands import Commands
from pvc_core.errors import InvalidInput, Refused
from pvc_core.host_shutdown import Policy
from pvc_core.model import VmMetadata
from pvc_core.ports import DomainEventKind
from pvc_core.snapshot_file import Faults, SnapshotFile
from pvc_simulator.cluster import SimulatedCluster, domain_xml
from pvc_simulator.guests import GuestBehaviour
from pvc_simulator.machine import FenceMode

Words = Sequence[str]
Fields = Mapping[str, Any]
Act = Callable[[SimulatedCluster, Words, Fields], None]


@dataclass(frozen=True)
class Deed:
    """What can be done. usage: its form; NODE, VM, NAME, WORD and NUMBER stand for one, a|b for one of these."""

    usage: str
    act: Act
    has_fields: bool = False

    @property
    def verb(self) -> str:
        """The first word."""
        return self.usage.split()[0]

    def fits(self, words: Words, file: SnapshotFile) -> bool:
        """Whether these are its words, after the verb."""
        form = [part for part in self.usage.split()[1:] if part != "{...}"]
        needed = [part for part in form if not part.startswith("[")]
        if not len(needed) <= len(words) <= len(form):
            return False
        return all(_fits(part.strip("[]"), word, file) for part, word in zip(form, words, strict=False))


def _fits(part: str, word: str, file: SnapshotFile) -> bool:
    if part == "NODE":
        return word in file.nodes
    if part == "NUMBER":
        try:
            float(word)
        except ValueError:
            return False
        return True
    if part in ("VM", "NAME"):
        return True
    return word in part.split("|")


# ------------------------------------------------------------------------------------------------- hosts


def _power(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    machine = cluster.machines[words[0]]
    if words[1] == "on":
        machine.power_on()
    else:
        cluster.trouble(words[0])
        machine.power_off()


def _network(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    machine = cluster.machines[words[0]]
    if words[1] == "on":
        machine.mend_network()
    else:
        cluster.trouble(words[0])
        machine.cut_network()


def _daemon(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    node, what = words
    program = cluster.programs.get(node)
    if what == "start":
        cluster.start_daemon(node)
    elif what == "stop":
        cluster.stop_daemon(node)
    elif what == "kill":
        cluster.trouble(node)
        cluster.kill_daemon(node)
    elif program is not None and what == "freeze":
        cluster.trouble(node)
        program.freeze()
    elif program is not None:
        program.thaw()


def _go_down(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.take_host_down(words[0], cast(Policy, words[1]))


def _hypervisor(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    machine = cluster.machines[words[0]]
    if words[1] == "on":
        machine.start_hypervisor()
    else:
        machine.kill_hypervisor()


def _fence_device(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.machines[words[0]].fence_mode = cast(FenceMode, words[1])


def _load(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.machines[words[0]].load_1m = float(words[1])


def _clock(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.clocks[words[0]].step_s += float(words[1])


# ------------------------------------------------------------------------------------------------- the store


def _store(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    if words[0] == "all":
        cluster.server.switch(on=words[1] == "on")
    else:
        if words[1] == "off":
            cluster.trouble(words[0])
        cluster.machines[words[0]].see_store(sees=words[1] == "on")


def _leader(cluster: SimulatedCluster, _words: Words, _fields: Fields) -> None:
    name = cluster.leader
    if name:
        cluster.trouble(name)
        cluster.kill_daemon(name)


def _leader_power(cluster: SimulatedCluster, _words: Words, _fields: Fields) -> None:
    name = cluster.leader
    if name:
        cluster.trouble(name)
        cluster.machines[name].power_off()


def _plugin(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.plugins.moods[words[0]] = words[1]


# ------------------------------------------------------------------------------------------------- guests


def _guest(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    name, what = words
    for machine in cluster.machines.values():
        for domain in list(machine.domains.values()):
            if domain.name != name:
                continue
            if what == "hang":
                domain.hangs = True
            elif what == "crash":
                machine.end(domain, DomainEventKind.CRASHED, "the guest crashed")
            else:
                machine.end(domain, DomainEventKind.POWERED_OFF)


# ------------------------------------------------------------------------------------------------- the operator


def _vm_command(verb: str) -> Act:
    def act(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
        cluster.command(" ".join((verb, *words)), lambda commands: getattr(commands, verb)(*words))

    return act


def _undefine(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    cluster.command(" ".join(("undefine", *words)), lambda commands: commands.undefine(words[0], force=len(words) > 1))


def _node_command(verb: str) -> Act:
    method = verb.replace("-", "_")

    def act(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
        cluster.command(" ".join((verb, *words)), lambda commands: getattr(commands, method)(*words))

    return act


def _cluster_maintenance(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    def give(commands: Commands) -> object:
        if words[0] == "off":
            return commands.end_maintenance()
        return commands.begin_maintenance(float(words[1])) if len(words) > 1 else commands.begin_maintenance()

    cluster.command(" ".join(("maintenance", *words)), give)


def _node_maintenance(cluster: SimulatedCluster, words: Words, _fields: Fields) -> None:
    def give(commands: Commands) -> object:
        if words[1] == "off":
            return commands.end_node_maintenance(words[0])
        return commands.begin_node_maintenance(words[0], float(words[2]) if len(words) > 2 else None)

    cluster.command(" ".join(("maintenance", *words)), give)


class _NewVm(msgspec.Struct, forbid_unknown_fields=True):
    memory_mib: int
    vcpus: int = 1
    node: str = ""
    state: str = "running"
    faults: Faults = Faults()


def _define(cluster: SimulatedCluster, words: Words, fields: Fields) -> None:
    name = words[0]
    own = set(_NewVm.__struct_fields__)

    def give(commands: Commands) -> object:
        vm = _converted({key: value for key, value in fields.items() if key in own}, _NewVm)
        metadata = _converted({key: value for key, value in fields.items() if key not in own}, VmMetadata)
        for key in fields:
            if key not in own and key not in VmMetadata.__struct_fields__:
                raise InvalidInput(key, "is no field of a VM", allowed=(*own, *VmMetadata.__struct_fields__))
        if vm.state not in ("running", "stopped"):
            raise Refused(name, "a new VM is running or stopped")
        cluster.behaviours[name] = GuestBehaviour.of(vm.faults)
        uuid = cluster.new_uuid()
        xml = domain_xml(name, uuid, vm.memory_mib, vm.vcpus)
        return commands.define(xml, metadata, target=vm.node, start=vm.state == "running")

    cluster.command(f"define {name}", give)


def _meta(cluster: SimulatedCluster, words: Words, fields: Fields) -> None:
    cluster.command(f"meta {words[0]}", lambda commands: commands.change_metadata(words[0], fields))


def _settings(cluster: SimulatedCluster, _words: Words, fields: Fields) -> None:
    cluster.command("settings", lambda commands: commands.change_settings(fields))


def _converted(fields: Fields, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput("fields", str(error).lower()) from error


def _end(_cluster: SimulatedCluster, _words: Words, _fields: Fields) -> None:
    """The run looks for it."""


END = Deed("end", _end)

DEEDS: tuple[Deed, ...] = (
    Deed("power NODE on|off", _power),
    Deed("network NODE on|off", _network),
    Deed("daemon NODE start|stop|kill|freeze|thaw", _daemon),
    Deed(f"go-down NODE {'|'.join(get_args(Policy))}", _go_down),
    Deed("hypervisor NODE on|off", _hypervisor),
    Deed(f"fence-device NODE {'|'.join(get_args(FenceMode))}", _fence_device),
    Deed("load NODE NUMBER", _load),
    Deed("clock NODE NUMBER", _clock),
    Deed("store all on|off", _store),
    Deed("store NODE on|off", _store),
    Deed("leader kill", _leader),
    Deed("leader power off", _leader_power),
    Deed("plugin NAME raise|hang|ok", _plugin),
    Deed("guest VM crash|poweroff|hang", _guest),
    Deed("define VM {...}", _define, has_fields=True),
    Deed("meta VM {...}", _meta, has_fields=True),
    Deed("settings {...}", _settings, has_fields=True),
    *(Deed(f"{verb} VM", _vm_command(verb)) for verb in ("start", "shutdown", "stop", "restart", "disable")),
    Deed("undefine VM [force]", _undefine),
    Deed("migrate VM [NODE]", _vm_command("migrate")),
    Deed("move VM [NODE]", _vm_command("move")),
    Deed("unmigrate VM", _vm_command("unmigrate")),
    *(Deed(f"{verb} NODE", _node_command(verb)) for verb in ("flush", "ready", "fence", "confirm-fenced")),
    Deed("maintenance on|off [NUMBER]", _cluster_maintenance),
    Deed("maintenance NODE on|off [NUMBER]", _node_maintenance),
    END,
)
