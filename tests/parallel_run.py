# SPDX-License-Identifier: Apache-2.0
"""parallel_run: which tests run beside which, when pytest-xdist runs them in several processes (`make test` has it so).

A file's tests stay together and in order, as their fixtures want it. Tests of real hosts make one group for one
process: namespaces, libvirt and QEMU are slow enough alone, and have deadlines. Those of Ceph make another, so that its
cluster is started once. What takes longest begins first.

Whoever interrupts the run, by whatever signal, interrupts every process of it once and waits until their fixtures have
put away what they had set up.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest

GROUPS = {"lab": "hosts", "libvirt": "hosts", "ceph": "ceph"}
"""By marker: which tests share one process. The first counts."""
LONGEST_FIRST = ("tests/daemon/", "tests/stores/", "tests/simulator/", "tests/docs/", "tests/kit/")
"""Right after the groups; other folders follow in their order."""
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PUT_AWAY_S = 120.0
"""How long fixtures may take for that: a lab of four hosts has the most to end."""


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one that reports them."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    interrupt_by_signals(again=not is_worker(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors, for there is much to wait for; one is busy with the real hosts."""
    return max(3, len(os.sched_getaffinity(0)) + 1)


# -------------------------------------------------------------------------------------------- what runs where


def group_of(markers: Iterable[str], fixtures: Iterable[str]) -> str:
    """The group of a test with these markers and fixtures; "": it stays with its file."""
    found = set(markers)
    for marker, group in GROUPS.items():
        if marker in found:
            return group
    return "wheel" if "wheel" in fixtures else ""


def place_in_line(group: str, node_id: str) -> int:
    """The lower, the earlier it begins."""
    if group:
        return 0 if group == "hosts" else 1
    for place, folder in enumerate(LONGEST_FIRST):
        if node_id.startswith(folder):
            return 2 + place
    return 2 + len(LONGEST_FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run side by side, put them in line and tell of their groups; else they run as files are sorted."""
    if not is_worker(config):
        return
    groups = {item: group_of((mark.name for mark in item.iter_markers()), fixtures_of(item)) for item in items}
    items.sort(key=lambda item: place_in_line(groups[item], item.nodeid))
    told = Path(config.workerinput["groups"])  # type: ignore[attr-defined]
    written = told.with_suffix(f".{os.getpid()}")
    written.write_text(json.dumps({item.nodeid: group for item, group in groups.items() if group}))
    written.rename(told)  # at once: all processes of a run tell the same


def fixtures_of(item: pytest.Item) -> Iterable[str]:
    """The names of all that it uses, directly or not."""
    return getattr(item, "fixturenames", ())


# -------------------------------------------------------------------------------------------- interruption


def interrupt_by_signals(*, again: bool) -> None:
    """Each of the signals ends this process as Ctrl-C does. Further ones do not disturb it while it puts away what it
    has set up, except a person's own Ctrl-C (`again`).
    """
    interrupted = False

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted or (again and number == signal.SIGINT):
            interrupted = True
            raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: handler for number in INTERRUPTS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)

    # A child of a test is ended by a signal as any process is, also by one that comes before it has forgotten all this.
    masks = threading.local()

    def hold() -> None:
        masks.own = signal.pthread_sigmask(signal.SIG_BLOCK, before)

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.own)

    def forget() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=forget)


class Workers:
    """The processes that run the tests of this one, if there are any: what they run, and how they end."""

    def __init__(self, process_ids: Callable[[], Iterable[int]]) -> None:
        """`process_ids`: of what this process itself has started."""
        self._nodes: list[Any] = []
        self._process_ids = process_ids
        self._folder = TemporaryDirectory(prefix="pvc-tests-")
        self._groups = Path(self._folder.name) / "groups.json"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["groups"] = str(self._groups)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Files and groups, each as a whole to the next process that is free."""
        from xdist.scheduler import LoadScopeScheduling

        told = self._groups

        class FilesAndGroups(LoadScopeScheduling):  # type: ignore[misc]
            @cached_property
            def groups(self) -> dict[str, str]:
                """By test; every process has told them when the first test is scheduled."""
                groups: dict[str, str] = json.loads(told.read_text())
                return groups

            def _split_scope(self, nodeid: str) -> str:
                return self.groups.get(nodeid) or nodeid.partition("::")[0]

        config.option.loadscopereorder = False
        return FilesAndGroups(config, log)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        self._nodes.append(node)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """An interruption of this process alone reaches the others too, and they get the time to put away."""
        if exitstatus != pytest.ExitCode.INTERRUPTED or not self._nodes:
            return
        for process_id in self._process_ids():
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGINT)
        ends_at = time.monotonic() + PUT_AWAY_S
        for node in self._nodes:
            with suppress(OSError, EOFError):  # not in time, or dead: then it is killed
                node.channel.waitclose(max(0.0, ends_at - time.monotonic()))

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()
