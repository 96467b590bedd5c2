# SPDX-License-Identifier: Apache-2.0
"""run: plays a script on a simulated cluster from the beginning to the end, and says what came of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pvc_core.model import VmRecord
from pvc_core.snapshot_file import SnapshotFile
from pvc_simulator.cluster import SimulatedCluster
from pvc_simulator.deeds import END
from pvc_simulator.event_patterns import matches
from pvc_simulator.invariants import Broken, Invariants
from pvc_simulator.log_watch import watched_log
from pvc_simulator.observer import COMMAND_REFUSED, Recovery, Seen
from pvc_simulator.scheduler import SimulationStuck
from pvc_simulator.script import Line, ends_at_s

QUIET_S = 60.0
"""A run without an `end` is over when nothing has changed for so long after its last line."""
MOST_S = 24 * 3600.0
"""It ends after so long in any case."""
LOOK_EVERY_S = 1.0
COLLECTS = (200_000, 10, 50)
"""When Python looks for memory that is to be freed: a whole cluster lives in this process, and is looked through."""


@dataclass
class Outcome:
    """What came of a run."""

    vms: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    migrations: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    virtual_s: float = 0.0
    wall_s: float = 0.0
    turns: int = 0

    def shown(self) -> dict[str, Any]:
        """As the document of `--json`."""
        return {
            "final": {"vms": self.vms, "nodes": self.nodes},
            "events": [seen.shown() for seen in self.seen],
            "migrations": self.migrations,
            "recoveries": [recovery.shown() for recovery in self.recoveries],
            "refused": self.refused,
            "violations": [broken.shown() for broken in self.broken],
            "virtual_seconds": round(self.virtual_s, 3),
            "wall_seconds": round(self.wall_s, 3),
        }


class Run:
    """One run. The same file, script and seed make the same run."""

    def __init__(self, file: SnapshotFile, script: Sequence[Line], seed: int = 0) -> None:
        self._script = [line for line in script if line.when is None]
        self._waiting = [line for line in script if line.when is not None]
        self._last_s = self._script[-1].at_s if self._script else 0.0
        """When the last line is due of those of which that is known."""
        self._ended = False
        plugins = sorted({line.words[0] for line in script if line.deed.verb == "plugin"})
        self.cluster = SimulatedCluster(file, seed, plugins)
        self.invariants = Invariants(self.cluster.machines, self.cluster.observer)
        self.cluster.observer.on_seen = self._seen

    def play(self) -> Outcome:
        """Everything, to the end."""
        began = time.perf_counter()
        with _rarely_collecting(), watched_log(self.cluster.scheduler, self.invariants.report):
            try:
                self._play()
            except SimulationStuck as stuck:
                self.invariants.report("daemons go on", f"they go round in circles {stuck}")
            finally:
                self.cluster.scheduler.close()
        for where, error in self.cluster.scheduler.failures:
            self.invariants.report("daemons go on", f"{where} ended with {type(error).__name__}: {error}")
        return self._outcome(time.perf_counter() - began)

    def _play(self) -> None:
        cluster, scheduler = self.cluster, self.cluster.scheduler
        cluster.begin()
        for line in self._script:
            scheduler.at(line.at_s, lambda line=line: self._do(line))  # type: ignore[misc]
        end_s = ends_at_s(self._script)
        if end_s is not None:
            scheduler.run_until(end_s, lambda: self._ended)
            return
        while scheduler.now_s < MOST_S:
            scheduler.run_until(scheduler.now_s + LOOK_EVERY_S, lambda: self._ended)
            if self._ended or scheduler.now_s > max(self._last_s, cluster.observer.changed_s) + QUIET_S:
                return

    def _seen(self, seen: Seen) -> None:
        """Do what waits for this event."""
        due = [line for line in self._waiting if line.when is not None and matches(line.when, seen)]
        for line in due:
            self._waiting.remove(line)
            self._last_s = max(self._last_s, seen.at_s + line.at_s)
            self.cluster.scheduler.after(line.at_s, lambda line=line: self._do(line))  # type: ignore[misc]

    def _do(self, line: Line) -> None:
        self._ended = self._ended or line.deed is END
        self.cluster.observer.scripted(" ".join(line.do.split()))
        line.deed.act(self.cluster, line.words, line.fields)

    def _outcome(self, wall_s: float) -> Outcome:
        cluster, observer = self.cluster, self.cluster.observer
        return Outcome(
            vms={vm.name: _shown(vm) for vm in sorted(observer.records.vms.values(), key=lambda vm: vm.name)},
            nodes={name: cluster.shown_node(name) for name in sorted(observer.records.nodes)},
            seen=observer.seen,
            migrations=observer.migrations,
            recoveries=observer.recoveries,
            refused=[seen.reason for seen in observer.seen if seen.kind == COMMAND_REFUSED],
            broken=self.invariants.broken,
            virtual_s=cluster.scheduler.now_s,
            wall_s=wall_s,
            turns=cluster.scheduler.turns,
        )


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _shown(vm: VmRecord) -> dict[str, Any]:
    return {"node": vm.node, "state": vm.state.value, "home": vm.home, "held": vm.held}
