# SPDX-License-Identifier: Apache-2.0
"""faulty_plugins: selectors and recovery policies that raise or hang when a script says so.

A name that an installed driver has makes that driver a third party's, which answers under a deadline; for any other
name there is a selector and a recovery policy that is called so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pvc_core.hookspecs import hookimpl
from pvc_core.plugin_loading import FoundPlugin
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, RecoveryPolicyEntry, SelectorEntry
from pvc_simulator.scheduler import Scheduler

FOR_EVER_S = 1e9


class FaultyPlugins:
    """The plugins that a script names. moods: name to raise, hang or ok."""

    def __init__(self, scheduler: Scheduler, names: Sequence[str], found: Sequence[FoundPlugin]) -> None:
        self.moods: dict[str, str] = dict.fromkeys(names, "ok")
        self._scheduler = scheduler
        self._found = found

    def plugins(self) -> list[FoundPlugin]:
        """The installed ones and those of the script, for a registry."""
        given: list[FoundPlugin] = []
        taken: set[str] = set()
        for found in self._found:
            plugin = found.load()
            entries = [entry for kind in ("selectors", "recovery_policies") for entry in _entries(plugin, kind)]
            named = {entry.name for entry in entries} & set(self.moods)
            if found.name in self.moods or named:
                taken |= named | {found.name}
                given.append(self._wrapped(found, plugin))
            else:
                given.append(found)
        given += [self._new(name) for name in self.moods if name not in taken]
        return given

    def _wrapped(self, found: FoundPlugin, plugin: object) -> FoundPlugin:
        """The same drivers, of which those that are named, or all if the plugin is, do as they are told."""
        hooks: dict[str, Callable[[], Sequence[Any]]] = {}
        for kind, field in (("selectors", "selector"), ("recovery_policies", "policy")):
            entries = _entries(plugin, kind)
            if entries:
                told = [replace(entry, **{field: self._moody(found.name, entry, field)}) for entry in entries]
                hooks[f"pvc_{kind}"] = _registering(told)
        return FoundPlugin(found.name, lambda: SimpleNamespace(**hooks))

    def _moody(self, plugin: str, entry: Any, field: str) -> object:
        return _Moody(getattr(entry, field), lambda: self._suffer(plugin if plugin in self.moods else entry.name))

    def _new(self, name: str) -> FoundPlugin:
        def suffer() -> None:
            self._suffer(name)

        selector = SelectorEntry(name, "the most free memory", _Roomy(suffer))
        policy = RecoveryPolicyEntry(name, "as restart", _Restarting(suffer))
        hooks = {"pvc_selectors": _registering([selector]), "pvc_recovery_policies": _registering([policy])}
        return FoundPlugin(name, lambda: SimpleNamespace(**hooks))

    def _suffer(self, name: str) -> None:
        mood = self.moods.get(name, "ok")
        if mood == "raise":
            raise RuntimeError(f"{name} raises, as the script says")
        if mood == "hang":
            self._scheduler.sleep(FOR_EVER_S)


class _Moody:
    """A driver before whose every answer something happens."""

    def __init__(self, driver: object, before: Callable[[], None]) -> None:
        self._driver = driver
        self._before = before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._driver, name)

        def call(*args: Any) -> Any:
            self._before()
            return method(*args)

        return call


class _Roomy:
    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        self._before()
        return {node.name: float(node.free_mib) for node in candidates}


class _Restarting:
    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before

    def without_candidate(self, request: PlacementRequest) -> str:
        self._before()
        return "hold"

    def after_loss(self, request: PlacementRequest) -> str:
        self._before()
        return "restart"


def _entries(plugin: object, kind: str) -> Sequence[Any]:
    """What a plugin registers of a kind, if it does so without options."""
    hook = getattr(plugin, f"pvc_{kind}", None)
    return hook() if hook is not None and hook.__code__.co_argcount == 0 else ()


def _registering(entries: Sequence[Any]) -> Callable[[], Sequence[Any]]:
    marked: Callable[[], Sequence[Any]] = hookimpl(lambda: entries)
    return marked
