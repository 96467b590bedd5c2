# SPDX-License-Identifier: Apache-2.0
"""chaos: a random cluster and random faults from a seed, and what has to be well once they are all over.

Faults overlap as they come. Every fault that lasts is undone some time, in the end all of them; then the cluster has
time to come to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from pvc_core.model import Rule, Settings
from pvc_core.snapshot_file import NodeEntry, SnapshotFile, VmEntry
from pvc_simulator.run import Outcome, Run
from pvc_simulator.script import Line, parse_line

FAULT_EVERY_S = 120.0
"""On average."""
LASTS_S = (5.0, 300.0)
REST_S = 900.0
"""How long the cluster has after the last fault is undone."""
TROUBLED = "acme"
"""The selector that raises and hangs."""


@dataclass(frozen=True)
class Shape:
    """How large and how long. hours: simulated, before the faults end."""

    hours: float = 4.0
    nodes: int = 5
    vms: int = 40


@dataclass(frozen=True)
class Play:
    """A cluster and a script, which can be played again."""

    file: SnapshotFile
    script: tuple[Line, ...]
    seed: int
    rest_s: float
    """When everything has to be well again."""
    checks_rest: bool = True

    def run(self) -> Outcome:
        """Play it, and look in the end whether everything is well."""
        run = Run(self.file, self.script, self.seed)
        outcome = run.play()
        failing = frozenset(name for name, vm in self.file.vms.items() if vm.faults.start_failures)
        if self.checks_rest:
            run.invariants.check_rest(excused=failing)
        return outcome


def make_play(seed: int, shape: Shape = Shape()) -> Play:
    """The play of a seed."""
    random = Random(seed)
    file = _cluster(random, shape)
    faults_end_s = shape.hours * 3600.0
    deeds = _faults(random, file, faults_end_s)
    healed_s = faults_end_s + 10.0
    deeds += [(healed_s, do) for do in healing(file)]
    # As an operator would: switch on again what was still switched off for its earlier trouble, and take back what was
    # drained, once its daemon is there.
    for node in file.nodes:
        deeds += [
            (healed_s + 60.0, f"power {node} on"),
            *((healed_s + at_s, f"ready {node}") for at_s in (150.0, 240.0)),
        ]
    end_s = healed_s + REST_S
    deeds.append((end_s, "end"))
    lines = [parse_line(round(at_s, 2), do, file) for at_s, do in sorted(deeds, key=lambda deed: deed[0])]
    return Play(file, tuple(lines), seed, end_s)


def healing(file: SnapshotFile) -> list[str]:
    """What undoes every fault."""
    deeds = ["store all on", f"plugin {TROUBLED} ok", "maintenance off"]
    for node in file.nodes:
        deeds.append(f"maintenance {node} off")
        deeds += [f"fence-device {node} confirms", f"network {node} on", f"store {node} on", f"power {node} on"]
        deeds += [f"hypervisor {node} on", f"daemon {node} thaw", f"daemon {node} start"]
    return deeds


def _cluster(random: Random, shape: Shape) -> SnapshotFile:
    """Hosts with enough room for one or two of them to be gone, and VMs of all kinds."""
    names = [f"hv{number}" for number in range(1, shape.nodes + 1)]
    sizes = [random.choice((512, 1024, 2048, 4096)) for _ in range(shape.vms)]
    room_mib = int(sum(sizes) / max(1, shape.nodes - 2) * 1.2) + 1024
    nodes = {
        name: NodeEntry(
            memory_mib=room_mib,
            cores=random.choice((8, 16)),
            load_1m=random.random(),
            watchdog=random.random() < 0.4,
            fence="none" if random.random() < 0.1 else "confirms",
        )
        for name in names
    }
    vms: dict[str, VmEntry] = {}
    for number, memory_mib in enumerate(sizes, 1):
        node = names[number % len(names)]
        others = random.sample(names, min(len(names), 3))
        limit = tuple(dict.fromkeys((node, *others))) if random.random() < 0.2 else ()
        vms[f"vm{number}"] = VmEntry(
            node=node,
            memory_mib=memory_mib,
            vcpus=random.choice((1, 2, 4)),
            state="running" if random.random() < 0.9 else random.choice(("stopped", "disabled")),
            node_limit=limit,
            node_selector=random.choice(("", "", "mem", "vcpus", "load", TROUBLED)),
            node_autostart=random.random() < 0.3,
            recovery_policy=random.choice(("restart", "restart", "restart", "stay", "stop")),
            priority=random.choice((0, 0, 0, 5, -5)),
            migration_method=random.choice(("none", "live", "shutdown")),
            on_poweroff=random.choice(("restart", "restart", "stop")),
            held_until=random.choice(("home", "any")),
        )
    rules = (
        Rule(name="apart", kind="apart", members=("vm1", "vm2"), hard=True),
        Rule(name="near", kind="together", members=("vm3", "vm4"), hard=False),
    )
    return SnapshotFile(settings=Settings(), nodes=nodes, vms=vms, rules=rules if shape.vms >= 4 else ())


# ------------------------------------------------------------------------------------------------- faults

_Deeds = list[tuple[float, str]]


class _Faults:
    """Draws faults. A fault is one line, or two: what happens and what undoes it."""

    def __init__(self, random: Random, file: SnapshotFile, end_s: float) -> None:
        self._random = random
        self._nodes = list(file.nodes)
        self._vms = list(file.vms)
        self._end_s = end_s
        self._new = 0

    def draw(self, at_s: float) -> _Deeds:
        """One fault, at this time."""
        node, vm, random = self._random.choice(self._nodes), self._random.choice(self._vms), self._random
        until_s = at_s + random.uniform(*LASTS_S)
        other = random.choice(self._nodes)
        blink_s = at_s + random.uniform(0.1, 8.0)
        kinds: Sequence[tuple[int, Callable[[], _Deeds]]] = (
            (6, lambda: [(at_s, f"power {node} off"), (until_s, f"power {node} on")]),
            (5, lambda: [(at_s, f"network {node} off"), (until_s, f"network {node} on")]),
            (3, lambda: [(at_s, f"network {node} off"), (blink_s, f"network {node} on")]),
            (4, lambda: [(at_s, f"store {node} off"), (until_s, f"store {node} on")]),
            (3, lambda: [(at_s, f"store {node} off"), (blink_s, f"store {node} on")]),
            (4, lambda: [(at_s, f"daemon {node} kill"), (until_s, f"daemon {node} start")]),
            (3, lambda: [(at_s, f"daemon {node} kill"), (blink_s, f"daemon {node} start")]),
            (3, lambda: [(at_s, f"daemon {node} stop"), (until_s, f"daemon {node} start")]),
            (4, lambda: [(at_s, f"daemon {node} freeze"), (until_s, f"daemon {node} thaw")]),
            (2, lambda: [(at_s, f"daemon {node} freeze"), (blink_s, f"daemon {node} thaw")]),
            (3, lambda: [(at_s, "leader kill"), *((until_s, f"daemon {each} start") for each in self._nodes)]),
            (2, lambda: [(at_s, "store all off"), (blink_s, "store all on")]),
            (2, lambda: [(at_s, "store all off"), (at_s + random.uniform(10, 120), "store all on")]),
            (3, lambda: [(at_s, f"hypervisor {node} off"), (until_s, f"hypervisor {node} on")]),
            (2, lambda: [(at_s, f"fence-device {node} refuses"), (until_s, f"fence-device {node} confirms")]),
            (2, lambda: [(at_s, f"fence-device {node} silent"), (until_s, f"fence-device {node} confirms")]),
            (1, lambda: [(at_s, f"plugin {TROUBLED} raise"), (until_s, f"plugin {TROUBLED} ok")]),
            (1, lambda: [(at_s, f"plugin {TROUBLED} hang"), (until_s, f"plugin {TROUBLED} ok")]),
            (2, lambda: [(at_s, f"clock {node} {random.choice((-7200, -60, 60, 7200, 86400))}")]),
            (2, lambda: [(at_s, f"guest {vm} {random.choice(('crash', 'poweroff', 'hang'))}")]),
            (3, lambda: [(at_s, f"flush {node}"), (until_s, f"ready {node}")]),
            (
                2,
                lambda: [
                    (at_s, f"go-down {node} {random.choice(('leave', 'flush', 'shutdown'))}"),
                    (until_s, f"power {node} on"),
                ],
            ),
            (1, lambda: [(at_s, f"flush {node}"), (blink_s, f"power {node} off"), (until_s, f"power {node} on")]),
            (2, lambda: [(at_s, f"migrate {vm}"), (blink_s, f"power {node} off"), (until_s, f"power {node} on")]),
            (2, lambda: [(at_s, f"migrate {vm} {other}")]),
            (1, lambda: [(at_s, f"move {vm}")]),
            (1, lambda: [(at_s, f"unmigrate {vm}")]),
            (
                2,
                lambda: [
                    (at_s, f"{random.choice(('shutdown', 'stop', 'restart', 'disable'))} {vm}"),
                    (until_s, f"start {vm}"),
                ],
            ),
            (1, lambda: [(at_s, f"meta {vm} {{priority: {random.randint(-9, 9)}}}")]),
            (1, lambda: [(at_s, f"maintenance on {random.choice((60, 600))}"), (until_s, "maintenance off")]),
            (2, lambda: [(at_s, f"maintenance {node} on"), (until_s, f"maintenance {node} off")]),
            (1, lambda: self._new_vm(at_s)),
            (
                1,
                lambda: (
                    [(at_s, f"power {each} off") for each in self._nodes]
                    + [(until_s, f"power {each} on") for each in self._nodes]
                ),
            ),
        )
        (draw,) = random.choices([draw for _, draw in kinds], [weight for weight, _ in kinds])
        return [(at, do) for at, do in draw() if at < self._end_s]

    def _new_vm(self, at_s: float) -> _Deeds:
        self._new += 1
        name = f"new{self._new}"
        return [
            (at_s, f"define {name} {{memory_mib: {self._random.choice((256, 512, 1024))}}}"),
            (at_s + self._random.uniform(30, 600), f"undefine {name}"),
        ]


def _faults(random: Random, file: SnapshotFile, end_s: float) -> _Deeds:
    faults = _Faults(random, file, end_s)
    deeds: _Deeds = []
    at_s = 60.0
    while True:
        at_s += random.expovariate(1 / FAULT_EVERY_S)
        if at_s >= end_s:
            return deeds
        deeds += faults.draw(at_s)
