# SPDX-License-Identifier: Apache-2.0
"""plugin_names: who gets a name that several plugins want: PVC itself, else nobody.

Between strangers the order of installation would decide, so both are refused. Between a stranger and PVC, PVC
keeps its own: otherwise a package could take a cluster's filters away by calling itself `filters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pvc_core.errors import PluginError
from pvc_core.plugin_loading import DriverEntry, FoundPlugin, LoadedPlugin, PluginInfo, PluginLoader
from pvc_core.strict_reading import meant, nearest

Granted = Mapping[tuple[str, str], DriverEntry]
"""Drivers by kind and name."""


def load_each(
    loader: PluginLoader, found: Sequence[FoundPlugin], blocked: frozenset[str]
) -> tuple[list[LoadedPlugin], list[PluginInfo]]:
    """The plugins that loaded, and what became of the others."""
    loaded: list[LoadedPlugin] = []
    refused: list[PluginInfo] = []
    wanted = [plugin for plugin in found if plugin.is_wanted(blocked)]
    for plugin in found:
        rivals = [other for other in wanted if other.name == plugin.name and other is not plugin]
        if plugin not in wanted:
            refused.append(_refused(plugin, "blocked"))
        elif error := _name_taken(plugin, rivals):
            refused.append(_refused(plugin, "failed", error))
        else:
            try:
                loaded.append(loader.load(plugin))
            except PluginError as failure:
                refused.append(_refused(plugin, "failed", failure.problem))
    return loaded, refused


def _name_taken(plugin: FoundPlugin, rivals: Sequence[FoundPlugin]) -> str:
    """Why another plugin of the same name forbids this one; "" when none does."""
    if not rivals or (plugin.is_our_own and not any(rival.is_our_own for rival in rivals)):
        return ""
    if any(rival.is_our_own for rival in rivals):
        return "the name belongs to a plugin of PVC itself"
    return f"another plugin has the same name: {', '.join(rival.origin for rival in rivals)}"


def _refused(plugin: FoundPlugin, state: Literal["blocked", "failed"], error: str = "") -> PluginInfo:
    return PluginInfo(plugin.name, plugin.distribution, plugin.version, plugin.distribution_summary, state, error=error)


def active_info(plugin: LoadedPlugin, granted: Granted, refusals: Sequence[str]) -> PluginInfo:
    """A loaded plugin with the drivers it was granted, and why not the others."""
    found = plugin.found
    drivers = {
        kind: tuple(entry.name for entry in entries if granted.get((kind, entry.name)) is entry)
        for kind, entries in plugin.drivers.items()
    }
    return PluginInfo(
        found.name,
        found.distribution,
        found.version,
        plugin.summary,
        "active",
        plugin.hooks,
        drivers,
        "; ".join(refusals),
    )


def grant(loaded: Sequence[LoadedPlugin]) -> tuple[Granted, dict[str, list[str]]]:
    """The entries whose names nobody else registers, or that are our own; and the refusals by plugin."""
    claims: dict[tuple[str, str], list[tuple[LoadedPlugin, DriverEntry]]] = {}
    for plugin in loaded:
        for kind, entries in plugin.drivers.items():
            for entry in entries:
                claims.setdefault((kind, entry.name), []).append((plugin, entry))
    granted: dict[tuple[str, str], DriverEntry] = {}
    refusals: dict[str, list[str]] = {}
    for (kind, name), claimants in claims.items():
        for plugin, entry in claimants:
            rivals = [other.found for other, _ in claimants if other is not plugin]
            error = _name_taken(plugin.found, rivals)
            if error:
                refusals.setdefault(plugin.found.name, []).append(f"its {kind} {name!r} is refused: {error}")
            else:
                granted[kind, name] = entry
    return granted, refusals


def misplaced_sections(
    sections: Mapping[str, object],
    loaded: Sequence[LoadedPlugin],
    refused: Sequence[PluginInfo],
    refusals: dict[str, list[str]],
) -> list[str]:
    """Problems of sections of the configuration that reach no plugin; those of a loaded one join its `refusals`."""
    known = {info.name for info in refused} | {plugin.found.name for plugin in loaded}
    for plugin in loaded:
        name, configuration = plugin.found.name, plugin.configuration
        if name in sections and (configuration is None or configuration.section.machine is None):
            elsewhere = "; its options are the cluster's: pvc cluster settings" if configuration else ""
            problem = f"[plugin.{name}] of the configuration is not used: it has no options of a machine{elsewhere}"
            refusals.setdefault(name, []).append(problem)
    return [
        f"[plugin.{name}] of the configuration: no plugin is called that{meant(nearest(name, known))}"
        for name in sorted(set(sections) - known)
    ]
