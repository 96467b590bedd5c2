# SPDX-License-Identifier: Apache-2.0
"""notifications: plugins learn what has happened, after it, apart from it, and at no one's cost but their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from stored_cluster import ANY, Xml

from pvc_core import Event, NodeChange, VmChange, hookimpl
from pvc_core.errors import PluginError
from pvc_core.events import EventKind, Happening, of_node
from pvc_core.journal import Journal, Written
from pvc_core.model import NodeRecord, Settings
from pvc_core.notifications import Notifier
from pvc_core.plugin_calls import CallLimits
from pvc_core.plugin_loading import FoundPlugin
from pvc_core.registry import Registry
from pvc_core.testing.manual_clock import ManualClock

PATIENCE_S = 20


class Listening:
    """A plugin that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    @hookimpl
    def pvc_vm_changed(self, change: VmChange) -> None:
        self.told.append(change)

    @hookimpl
    def pvc_node_changed(self, change: NodeChange) -> None:
        self.told.append(change)

    @hookimpl
    def pvc_event(self, event: Event) -> None:
        self.told.append(event)


def events(count: int) -> tuple[Written, ...]:
    return Journal(ManualClock()).written([Happening(EventKind.VM_CHANGED, f"change {n}") for n in range(count)])


def notifier_of(*plugins: object, failures: list[PluginError] | None = None) -> Notifier:
    keep: Callable[[PluginError], None] = (failures if failures is not None else []).append
    named = {f"plugin{n}": plugin for n, plugin in enumerate(plugins)}
    return Notifier(Registry.of(**named), Settings, keep)


def test_a_command_tells_of_the_record_before_and_after_and_then_of_the_event(three: Any, xml: Xml) -> None:
    plugin = Listening()
    notifier = notifier_of(plugin)
    three.view._journal = Journal(ManualClock(), lambda: "api:ci")
    three.view._journal.listen(notifier)
    record = three.commands.define(xml("web1"), ANY).vm
    three.commands.flush("hv2")
    notifier.close(PATIENCE_S)
    defined, its_event, flushing, other_event = plugin.told
    assert defined == VmChange(None, record, record.reason)
    assert (its_event.kind, its_event.vm, its_event.by) == ("vm_defined", "web1", "api:ci")
    assert (flushing.previous.mode, flushing.node.mode) == ("ready", "flushing")
    assert other_event.kind == "node_flushing"


def test_a_plugin_that_raises_costs_only_itself_and_is_named() -> None:
    class Broken:
        @hookimpl
        def pvc_event(self, event: Event) -> None:
            raise SystemExit("enough")

    plugin, failures = Listening(), list[PluginError]()
    notifier = notifier_of(Broken(), plugin, failures=failures)
    for written in events(2):
        notifier(written)
    notifier.close(PATIENCE_S)
    assert len(plugin.told) == 2
    assert {failure.plugin for failure in failures} == {"plugin0"}


def test_a_plugin_that_hangs_costs_the_others_a_moment_and_is_named() -> None:
    go_on = threading.Event()

    class Hanging:
        @hookimpl
        def pvc_event(self, event: Event) -> None:
            go_on.wait(PATIENCE_S)

    plugin, failures = Listening(), list[PluginError]()
    found = [FoundPlugin("hanging", Hanging), FoundPlugin("listening", lambda: plugin)]
    registry = Registry(found, limits=CallLimits(answer_s=0.1))
    notifier = Notifier(registry, Settings, failures.append)
    for written in events(2):
        notifier(written)
    notifier.close(PATIENCE_S)
    go_on.set()
    assert len(plugin.told) == 2
    assert {failure.plugin for failure in failures} == {"hanging"}


def test_a_plugin_cannot_change_what_others_are_told() -> None:
    class Meddling:
        @hookimpl
        def pvc_node_changed(self, change: NodeChange) -> None:
            change.node.labels["rack"] = "x"

    plugin = Listening()
    notifier = notifier_of(Meddling(), plugin, Meddling())
    record = NodeRecord(name="hv1", labels={"rack": "a"})
    happening = of_node(EventKind.NODE_JOINED, None, record, "it is there")
    notifier(Journal(ManualClock()).written([happening])[0])
    notifier.close(PATIENCE_S)
    assert plugin.told[0].node.labels == record.labels == {"rack": "a"}  # type: ignore[attr-defined]


def test_what_waits_is_bounded_and_the_oldest_is_dropped_and_counted() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.told: list[str] = []

        @hookimpl
        def pvc_event(self, event: Event) -> None:
            begun.set()
            go_on.wait(PATIENCE_S)
            self.told.append(event.reason)

    plugin, dropped = Slow(), list[int]()
    notifier = Notifier(Registry.of(slow=plugin), Settings, queue_length=3, on_dropped=dropped.append)
    first, *others = events(8)
    notifier(first)
    assert begun.wait(PATIENCE_S)
    for written in others:
        notifier(written)
    go_on.set()
    notifier.close(PATIENCE_S)
    assert plugin.told == ["change 0", "change 5", "change 6", "change 7"]
    assert dropped == [4]


def test_nothing_is_started_for_plugins_that_do_not_want_to_know() -> None:
    notifier = notifier_of()
    notifier(events(1)[0])
    assert not notifier.has_begun


@pytest.mark.parametrize("hook", ["pvc_vm_changed", "pvc_node_changed", "pvc_event"])
def test_every_hook_may_ask_for_the_plugins_own_options(hook: str) -> None:
    given: list[object] = []

    def told(options: object) -> None:
        given.append(options)

    plugin = type("Asking", (), {hook: staticmethod(hookimpl(told))})()
    registry = Registry.of(acme=plugin)
    assert registry.problems == ()
    (implementation,) = registry.implementations(hook)
    assert implementation.parameters == ("options",)
