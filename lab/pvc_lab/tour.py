# SPDX-License-Identifier: Apache-2.0
"""The tour: PVC's main job with the real `pvc` command, every command shown with its output, every claim checked.

It is a demonstration and a test at once: where the cluster does not do what the text says, the tour fails.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from pvc_lab.tour_cluster import ConsoleMark, TourCluster, pvc
from pvc_lab.waiting import wait_for

WAIT_S = 120.0


class TourFailedError(AssertionError):
    """The cluster did not do what the tour claims."""


@dataclass(frozen=True)
class TourVm:
    """A VM of the tour: how it is defined, and what it is there to show."""

    name: str
    options: tuple[str, ...]
    start: bool = True
    stubborn: bool = False


VMS = (
    TourVm("legacy1", ("--node-limit", "hv2,hv3", "--node-selector", "vms"), stubborn=True),
    TourVm("mail1", ("--node-limit", "hv2, hv3", "--node-selector", "load")),
    TourVm("batch1", ("--node-limit", "hv2,hv3", "--node-selector", "vms")),
    TourVm("batch2", ("--node-limit", "hv2,hv3", "--node-selector", "vms")),
    TourVm("web1", ("--node-limit", "hv1,hv2", "--node-selector", "mem")),
    TourVm("web2", ("--node-limit", "hv1,hv3", "--node-selector", "vms", "--node-autostart")),
    TourVm("app1", ("--node-selector", "memprov")),
    TourVm("db1", ("--node-limit", "hv1", "--node-selector", "vcpus", "--priority", "10")),
    TourVm("cron1", ("--node-limit", "hv1", "--node-autostart"), start=False),
    TourVm("old1", ("--node-limit", "hv1", "--node-autostart"), start=False),
)
"""In this order, so that hv1 gets what it then loses: the first four fill the other two nodes."""
MIGRATING = ("web1", "web2", "app1")
"""Those that leave hv1 live when it is flushed."""


@dataclass
class Tour:
    """One walk through a cluster."""

    cluster: TourCluster
    out: TextIO = field(default_factory=lambda: sys.stdout)
    started_s: float = field(default_factory=time.monotonic)
    _folder: Path = field(default_factory=Path)
    """Where the definitions are, and the commands are given."""

    def run(self) -> None:
        """All chapters. Raises `TourFailedError`."""
        self._say(f"PVC on {self.cluster.kind}.")
        with tempfile.TemporaryDirectory(prefix="pvc-tour-") as folder:
            self._folder = Path(folder)
            self.define_and_place()
            self.flush()
            self.ready()
            self.abort_a_shutdown()
            self.change_and_move()
        self._claim(not self.cluster.two_nodes(), f"no guest ever ran on two nodes {self.cluster.two_nodes() or ''}")
        self._say(f"\nThat was the tour: everything came out as claimed, in {time.monotonic() - self.started_s:.0f} s.")

    # ---------------------------------------------------------------------------------- chapters

    def define_and_place(self) -> None:
        """Six and more VMs, each with its own limit, selector and autostart."""
        self._chapter("1. VMs are defined, each with its own limit, selector and autostart, and placed by them")
        for vm in VMS:
            options = (*vm.options, *(("--start",) if vm.start else ()))
            file = f"{vm.name}.xml"
            (self._folder / file).write_text(self.cluster.definition(vm.name, stubborn=vm.stubborn))
            self.pvc("vm", "define", file, *options)
        self.pvc("vm", "disable", "old1")
        for vm in VMS:
            if vm.start:
                self._until(vm.name, state="running")
        self._until("old1", state="disabled")
        self.pvc("vm", "list")
        self.pvc("node", "list")
        for vm in VMS:
            view = self.vm(vm.name)
            limit = view["node_limit"]
            self._claim(not limit or view["node"] in limit, f"{vm.name} is on {view['node']}, within its limit")
        for name in MIGRATING:
            self._claim(self.vm(name)["node"] == "hv1", f"{name} was put on hv1 by its selector")

    def flush(self) -> None:
        """hv1 is drained: live migrations in parallel, spread, and the VM with no other place is held."""
        self._chapter("2. hv1 is drained: its guests migrate live; the one that may run nowhere else is held")
        before = {name: self._ticking(name) for name in MIGRATING}
        self.pvc("node", "flush", "hv1", "--wait")
        self.pvc("vm", "list")
        self._claim(self.node("hv1")["mode"] == "flushed", "hv1 is flushed")
        held = self.vm("db1")
        self._claim(held["state"] == "stopped" and held["held"], "db1, limited to hv1, is shut down and held")
        targets = {name: str(self.vm(name)["node"]) for name in MIGRATING}
        self._claim("hv1" not in targets.values(), f"the others left: {targets}")
        self._claim(
            targets["web1"] == "hv2" and targets["web2"] == "hv3", "web1 and web2 went where their limits allow"
        )
        self._claim(len(set(targets.values())) == 2, "they are spread over both nodes")
        self._went_on(before)

    def ready(self) -> None:
        """hv1 returns: migrated guests come home, the held and the autostart one start, the disabled does not."""
        self._chapter("3. hv1 is ready again: guests come home, the held one and the autostart one start")
        before = {name: self._ticking(name) for name in MIGRATING}
        self.pvc("node", "ready", "hv1", "--wait")
        self.pvc("vm", "list")
        for name in (*MIGRATING, "db1", "cron1"):
            view = self.vm(name)
            self._claim(view["node"] == "hv1" and view["state"] == "running", f"{name} runs on hv1")
        self._claim(self.vm("old1")["state"] == "disabled", "old1 is disabled and was left alone")
        self._went_on(before)

    def abort_a_shutdown(self) -> None:
        """A guest that ignores ACPI is asked to shut down; start takes it back at once."""
        self._chapter("4. legacy1 ignores ACPI: its shutdown waits, and `start` takes it back at once")
        mark = self._ticking("legacy1")
        self.pvc("vm", "shutdown", "legacy1")
        self._claim(self.vm("legacy1")["state"] == "shutting-down", "legacy1 is asked, and does not react")
        self.pvc("vm", "start", "legacy1", "--wait")
        self._claim(self.vm("legacy1")["state"] == "running", "the shutdown is aborted")
        self._went_on({"legacy1": mark})

    def change_and_move(self) -> None:
        """Metadata changes; migrate, unmigrate, move; a target outside the limit is refused."""
        self._chapter("5. Limits and selectors change; VMs migrate, return and move; a limit is a limit")
        self.pvc("vm", "meta", "app1", "--node-limit", "hv1,hv2", "--node-selector", "vms")
        before = {"app1": self._ticking("app1"), "web2": self._ticking("web2")}
        self.pvc("vm", "migrate", "app1", "--wait")
        self._claim(self.vm("app1")["node"] == "hv2", "app1 is on hv2, the only other node in its limit")
        self.pvc("vm", "unmigrate", "app1", "--wait")
        self._claim(self.vm("app1")["node"] == "hv1", "app1 is home again")
        self.pvc("vm", "move", "web2", "--target", "hv3", "--wait")
        view = self.vm("web2")
        self._claim(view["node"] == view["home"] == "hv3", "hv3 is web2's home now")
        refused = self.pvc("vm", "migrate", "db1", "--target", "hv2", expect=6)
        self._claim("limit" in refused, "db1 is limited to hv1: going to hv2 is refused, with the reason")
        self._went_on(before)

    # ----------------------------------------------------------------------------------- the parts

    def pvc(self, *arguments: str, expect: int = 0) -> str:
        """Run a command and show it with its output; the exit status must be the expected one."""
        self._say(f"\n$ pvc {shlex.join(arguments)}")
        result = pvc(arguments, self.cluster.environment, together=True, folder=self._folder)
        text = result.stdout
        self._say(text.rstrip())
        if result.returncode != expect:
            raise TourFailedError(f"pvc {shlex.join(arguments)}: exit status {result.returncode}, not {expect}")
        return text

    def vm(self, name: str) -> Mapping[str, Any]:
        """The VM as the API shows it."""
        return self._quiet("vm", "info", name)

    def node(self, name: str) -> Mapping[str, Any]:
        """The node as the API shows it."""
        return self._quiet("node", "info", name)

    def _quiet(self, *arguments: str) -> Mapping[str, Any]:
        result = pvc([*arguments, "-o", "json"], self.cluster.environment)
        if result.returncode != 0:
            raise TourFailedError(f"pvc {shlex.join(arguments)}: {result.stderr.strip()}")
        view: Mapping[str, Any] = json.loads(result.stdout)
        return view

    def _until(self, name: str, **wanted: object) -> None:
        def reached() -> bool:
            view = self.vm(name)
            return all(view[field] == value for field, value in wanted.items())

        self._wait(reached, f"{name} to be {wanted}")

    def _ticking(self, name: str) -> ConsoleMark:
        """The console's mark once the guest has booted so far that it counts."""
        self._wait(lambda: self.cluster.console(name).ticks > 0, f"the console of {name}")
        return self.cluster.console(name)

    def _went_on(self, before: Mapping[str, ConsoleMark]) -> None:
        """The consoles count on in the same boot."""
        for name, mark in before.items():
            self._wait(partial(self._has_moved_on, name, mark), f"the console of {name} to count on")
            self._claim(self.cluster.console(name).boot_id == mark.boot_id, f"{name} did not restart")
        counts = ", ".join(
            f"{name} {mark.ticks} -> {self.cluster.console(name).ticks}" for name, mark in before.items()
        )
        self._say(f"  consoles count on in the same boot: {counts}")

    def _has_moved_on(self, name: str, mark: ConsoleMark) -> bool:
        now = self.cluster.console(name)
        return now.ticks > mark.ticks or now.boot_id != mark.boot_id

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, what, deadline_s=WAIT_S, interval_s=0.1)

    def _claim(self, holds: bool, what: str) -> None:
        if not holds:
            raise TourFailedError(f"not so: {what}")
        self._say(f"  ok: {what}")

    def _chapter(self, title: str) -> None:
        self._say(f"\n{'-' * 100}\n{title}\n{'-' * 100}")

    def _say(self, text: str) -> None:
        print(text, file=self.out, flush=True)
